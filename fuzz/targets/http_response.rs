//! A response's head, to each kind of request: read, printed with a framing of ours, and read again.
#![no_main]

use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use libfuzzer_sys::fuzz_target;
use swiftproxy_fuzz::splits;
use swiftproxy_wire::http1::{
    BodyLength, Framing, HeadError, MAX_FIELDS, Persistence, ResponseHead, encode_response, parse_response,
    persistence, strip_hop_by_hop, upgrade,
};
use swiftproxy_wire::proxy_status;

fuzz_target!(|bytes: &[u8]| {
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        let whole = parse_response(&method, bytes);
        let end = whole.as_ref().ok().and_then(Option::as_ref).map_or(bytes.len(), |(_, n)| *n);
        for n in splits(end) {
            match (parse_response(&method, &bytes[..n]), &whole) {
                (Ok(None), _) => {}
                (Err(HeadError::LineTooLong | HeadError::HeadersTooLarge), Err(_)) => {}
                (early, whole) => assert_eq!(&early, whole, "at {n}"),
            }
        }
        if let Ok(Some((head, n))) = whole {
            assert!(n <= bytes.len());
            again(&method, head);
        }
    }
});

fn again(method: &Method, head: ResponseHead) {
    let _ = (upgrade(&head.headers), proxy_status::from_headers(&head.headers));
    let _ = persistence(head.version, &head.headers);
    let bodiless = head.body == BodyLength::None;
    let framings = match head.body {
        BodyLength::None => vec![Framing::None],
        BodyLength::Length(n) => vec![Framing::Length(n), Framing::Chunked],
        BodyLength::Chunked | BodyLength::UntilClose => vec![Framing::Chunked, Framing::UntilClose],
    };
    let mut headers = head.headers;
    strip_hop_by_hop(&mut headers);
    for framing in framings {
        for kept in [Persistence::KeepAlive, Persistence::Close] {
            let mut out = Vec::new();
            encode_response(head.status, &headers, framing, kept, &mut out);
            let printed = out.escape_ascii().to_string();
            let (read, n) = match parse_response(method, &out) {
                // One or two fields more than it had may be too many.
                Err(HeadError::TooManyHeaders | HeadError::HeadersTooLarge) => continue,
                read => read.expect(&printed).expect(&printed),
            };
            assert_eq!((read.status, n), (head.status, out.len()), "{printed}");
            let expected = match framing {
                Framing::None => BodyLength::None,
                Framing::Length(n) => BodyLength::Length(n),
                Framing::Chunked => BodyLength::Chunked,
                Framing::UntilClose => BodyLength::UntilClose,
            };
            assert_eq!(read.body, expected, "{printed}");
            if !bodiless && framing != Framing::UntilClose {
                assert_eq!(persistence(read.version, &read.headers), kept, "{printed}");
            }
            let mut rest = read.headers;
            for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
                rest.remove(name);
            }
            let mut before = headers.clone();
            before.remove(CONTENT_LENGTH);
            assert_eq!(rest, before, "{printed}");
            other_reader(&out);
        }
    }
}

/// A strict reader that knows nothing of ours.
fn other_reader(bytes: &[u8]) {
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS + 2];
    let mut response = httparse::Response::new(&mut slots);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
}
