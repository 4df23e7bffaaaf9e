//! Bodies in chunks (RFC 9112 §7.1), both ways.
//!
//! Invariant: a size is 1 to 16 hexadecimal digits and nothing around them, a line ends in CR LF, a chunk has its
//! CR LF behind it; extensions and trailers are bounded over the whole body, so that no body is all padding.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

use super::HeadError;
use super::head::{encode_fields, fields};
use crate::parse::Malformed;

/// The most bytes that all chunk extensions of a body may have.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// The most bytes of a trailer section.
const MAX_TRAILERS: usize = 16 * 1024;

/// What comes next in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing whole; more bytes are needed.
    More,
    /// Bytes of the body, never none.
    Data(&'a [u8]),
    /// The body is over; its trailers, as a rule none.
    End(HeaderMap),
}

/// Takes a body out of its chunks, as it comes.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes left in the chunk, or of its size as far as it was read.
    left: u64,
    /// Digits read of the size.
    digits: u8,
    /// Bytes that extensions may still have.
    extensions: usize,
    /// The trailer section as far as it came; allocated only where there is one.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line at the end.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extensions: MAX_EXTENSIONS, trailers: Vec::new() }
    }
}

impl ChunkedDecoder {
    /// A decoder at a body's first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on in `bytes`, which begin behind what the last call took. The number is how many bytes this call
    /// took, also where it needs more. After an error or the end the decoder is spent.
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<(Step<'a>, usize), Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Done {
                return Err(Malformed("bytes behind the last chunk"));
            }
            if self.state == State::Data {
                let rest = bytes.get(at..).unwrap_or_default();
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= n as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok((Step::Data(rest.get(..n).unwrap_or_default()), at + n));
            }
            at += 1;
            self.state = self.byte(byte)?;
            if self.state == State::Done {
                return Ok((Step::End(self.end()?), at));
            }
        }
        Ok((Step::More, at))
    }

    /// Whether the body's end was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes one byte of what is not data.
    fn byte(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.digits == 16 {
                    return Err(Malformed("a chunk size of more than 16 digits"));
                }
                self.digits += 1;
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = (self.left << 4) | u64::from(digit);
                State::Size
            }
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => return Err(Malformed("a chunk size that is no number")),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extensions =
                    self.extensions.checked_sub(1).ok_or(Malformed("chunk extensions that are too long"))?;
                State::Extension
            }
            (State::Extension, _) => return Err(Malformed("a control character in a chunk extension")),
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.left == 0 { State::Line } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Line, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (State::Trailer, b'\r') => self.keep(byte, State::TrailerLf)?,
            (State::TrailerLf, b'\n') => self.keep(byte, State::Line)?,
            (State::Line | State::Trailer, b'\n' | b'\0') => return Err(Malformed("a bare LF or a NUL")),
            (State::Line | State::Trailer, _) => self.keep(byte, State::Trailer)?,
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => return Err(Malformed("a bare CR")),
            (State::Data | State::DataCr | State::DataLf | State::Done, _) => {
                return Err(Malformed("a chunk that does not end where it says"));
            }
        })
    }

    fn keep(&mut self, byte: u8, next: State) -> Result<State, Malformed> {
        if self.trailers.len() >= MAX_TRAILERS {
            return Err(Malformed("a trailer section that is too long"));
        }
        self.trailers.push(byte);
        Ok(next)
    }

    /// The trailers; those that would frame or route are refused (RFC 9110 §6.5.1).
    fn end(&mut self) -> Result<HeaderMap, Malformed> {
        let mut section = std::mem::take(&mut self.trailers);
        if section.is_empty() {
            return Ok(HeaderMap::new());
        }
        section.extend_from_slice(b"\r\n");
        let trailers = fields(&section).map_err(|error| match error {
            HeadError::Bad(why) => Malformed(why),
            _ => Malformed("too many trailers"),
        })?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, HOST].iter().any(|name| trailers.contains_key(name)) {
            return Err(Malformed("a trailer that frames the message"));
        }
        Ok(trailers)
    }
}

/// Appends a chunk; of no bytes none, for it would end the body.
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        encode_chunk_head(data.len(), out);
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the line before a chunk of `n` bytes, for whoever writes the chunk itself, and CR LF behind it, without
/// a copy. `n` is not 0, for that would end the body.
pub fn encode_chunk_head(n: usize, out: &mut Vec<u8>) {
    debug_assert_ne!(n, 0, "a chunk of none ends the body");
    out.extend_from_slice(format!("{n:x}\r\n").as_bytes());
}

/// Appends the last chunk and the trailers.
pub fn encode_last_chunk(trailers: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    encode_fields(trailers, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A body read whole: its bytes, its trailers, and how many bytes it took; `None` where it is not over.
    type Body = Option<(Vec<u8>, HeaderMap, usize)>;

    /// Decodes `bytes` in the pieces between `cuts`.
    fn decode(bytes: &[u8], cuts: &[usize]) -> Result<Body, Malformed> {
        let mut decoder = ChunkedDecoder::new();
        let (mut body, mut taken) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([bytes.len()]) {
            loop {
                let (step, n) = decoder.step(&bytes[taken..end.max(taken)])?;
                taken += n;
                match step {
                    Step::Data(data) => {
                        assert!(!data.is_empty());
                        body.extend_from_slice(data);
                    }
                    Step::End(trailers) => {
                        assert!(decoder.is_done());
                        return Ok(Some((body, trailers, taken)));
                    }
                    Step::More => break,
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_with_extensions_and_trailers() {
        let bytes = b"4;a=\"b\"\r\nWiki\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY: z\r\n\r\nGET";
        let n = bytes.len() - 3;
        let expected = decode(bytes, &[]).expect("well formed").expect("whole");
        assert_eq!((&expected.0[..], expected.2), (&b"Wiki0123456789"[..], n));
        assert_eq!(
            (&expected.1["x-sum"], &expected.1["y"]),
            (&"1".parse().expect("value"), &"z".parse().expect("value"))
        );
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(decode(bytes, &every), Ok(Some(expected.clone())));
        for cut in 0..n {
            assert_eq!(decode(&bytes[..cut], &[]), Ok(None), "{cut}");
            assert_eq!(decode(bytes, &[cut]), Ok(Some(expected.clone())), "{cut}");
        }
    }

    #[test]
    fn what_smugglers_use() {
        let bad: [&[u8]; 22] = [
            b"\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1 \r\n",
            b"1 ;a\r\n",
            b"g\r\n",
            b";a\r\n",
            b"1\n",
            b"1\ra",
            b"1;a\n",
            b"1;a\0",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na\ra",
            b"00000000000000001\r\n",
            b"0\r\n\n",
            b"0\r\n\ra",
            b"0\r\nX: a\nY: b\r\n\r\n",
            b"0\r\nX: a\rY: b\r\n\r\n",
            b"0\r\nX: a\r\n b\r\n\r\n",
        ];
        for bytes in bad {
            assert!(decode(bytes, &[]).is_err(), "{}", bytes.escape_ascii());
        }
        for name in ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: a", "X : a"] {
            assert!(decode(format!("0\r\n{name}\r\n\r\n").as_bytes(), &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn no_body_is_all_padding() {
        let extension = format!("1;{}\r\na\r\n", "x".repeat(1024));
        assert_eq!(decode(extension.repeat(16).as_bytes(), &[]), Ok(None));
        assert!(decode(extension.repeat(17).as_bytes(), &[]).is_err());
        let trailer = format!("X: {}\r\n", "x".repeat(1000));
        assert!(decode(format!("0\r\n{}\r\n", trailer.repeat(16)).as_bytes(), &[]).is_ok());
        assert!(decode(format!("0\r\n{}\r\n", trailer.repeat(17)).as_bytes(), &[]).is_err());
        assert!(decode(format!("0\r\n{}\r\n", "a: b\r\n".repeat(129)).as_bytes(), &[]).is_err());
    }

    #[test]
    fn the_largest_chunk_is_counted_right() {
        let mut decoder = ChunkedDecoder::new();
        assert_eq!(decoder.step(b"ffffffffffffffff\r\nab"), Ok((Step::Data(b"ab"), 20)));
        assert_eq!(decoder.left, u64::MAX - 2);
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let mut decoder = ChunkedDecoder::new();
        assert_eq!(decoder.step(b"0\r\n\r\n"), Ok((Step::End(HeaderMap::new()), 5)));
        assert_eq!(decoder.step(b""), Ok((Step::More, 0)));
        assert!(decoder.step(b"0").is_err());
    }

    proptest! {
        #[test]
        fn round_trip(
            chunks in vec(vec(any::<u8>(), 0..300), 0..8),
            sums in vec("[a-z]{1,9}", 0..3),
            cuts in vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut trailers = HeaderMap::new();
            for sum in &sums {
                trailers.append(HeaderName::from_static("x-sum"), HeaderValue::try_from(sum.as_str()).expect("value"));
            }
            let mut bytes = Vec::new();
            for chunk in &chunks {
                encode_chunk(chunk, &mut bytes);
            }
            encode_last_chunk(&trailers, &mut bytes);
            let n = bytes.len();
            bytes.extend_from_slice(b"next");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(decode(&bytes, &cuts), Ok(Some((chunks.concat(), trailers, n))));
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>, text in "[0-9a-f]{0,3}(;[a-z]{0,3})?(\r\n|\n|\r)[a-z:]{0,9}\r\n0\r\n[a-z: \r\n]{0,20}") {
            let _ = decode(&bytes, &[]);
            let _ = decode(text.as_bytes(), &[]);
        }
    }
}
