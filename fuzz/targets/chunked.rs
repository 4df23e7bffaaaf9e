//! Bodies in chunks: whole, and in pieces whose sizes are the input's first bytes.
#![no_main]

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use swiftproxy_wire::http1::{ChunkedDecoder, Step, encode_chunk, encode_last_chunk};
use swiftproxy_wire::parse::Malformed;

/// What came out: the body so far, and how it went on.
#[derive(Debug, PartialEq)]
struct Decoded {
    body: Vec<u8>,
    end: Result<Option<(HeaderMap, usize)>, Malformed>,
}

/// Decodes `bytes` as they come in pieces of those sizes, the last of which goes on for ever.
fn decode(bytes: &[u8], mut pieces: impl Iterator<Item = usize>) -> Decoded {
    let mut decoder = ChunkedDecoder::new();
    let (mut body, mut taken, mut come) = (Vec::new(), 0, 0);
    loop {
        let (step, n) = match decoder.step(&bytes[taken..come]) {
            Ok(step) => step,
            Err(error) => return Decoded { body, end: Err(error) },
        };
        taken += n;
        assert!(taken <= come, "took more than there was");
        match step {
            Step::Data(data) => {
                assert!(!data.is_empty() && data.len() <= n);
                assert_eq!(data, &bytes[taken - data.len()..taken], "data is the last of what was taken");
                body.extend_from_slice(data);
            }
            Step::End(trailers) => {
                assert!(decoder.is_done());
                return Decoded { body, end: Ok(Some((trailers, taken))) };
            }
            Step::More => {
                assert_eq!(taken, come, "asks for more with some left");
                assert!(!decoder.is_done());
                if come == bytes.len() {
                    return Decoded { body, end: Ok(None) };
                }
                come += pieces.next().unwrap_or(usize::MAX).clamp(1, bytes.len() - come);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (sizes, bytes) = bytes.split_at(bytes.len().min(4));
    let whole = decode(bytes, std::iter::empty());
    assert_eq!(decode(bytes, sizes.iter().map(|size| usize::from(*size)).cycle()), whole, "in pieces");
    assert_eq!(decode(bytes, std::iter::repeat(1)), whole, "byte by byte");
    let Ok(Some((trailers, n))) = &whole.end else { return };
    assert_eq!(decode(&bytes[..*n], std::iter::empty()), whole, "with nothing behind it");

    let mut out = Vec::new();
    let size = sizes.first().map_or(1, |size| usize::from(*size).max(1));
    whole.body.chunks(size).for_each(|chunk| encode_chunk(chunk, &mut out));
    encode_last_chunk(trailers, &mut out);
    let again = decode(&out, std::iter::empty());
    assert_eq!(again.body, whole.body);
    assert_eq!(again.end, Ok(Some((trailers.clone(), out.len()))));
});
