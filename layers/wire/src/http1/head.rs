//! Where a head ends, and its fields: what request and response heads share.
//!
//! Invariant: every line ends in CR LF; a CR or LF elsewhere, a NUL or another control character, a folded line
//! or a space before the colon is an error and not a line end or a space (RFC 9112 §2.2, §5.1, §5.2). The bytes
//! of a head are looked at once, however they dribble in.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::HeadError;

/// The most bytes of a request line, its CR LF included.
pub const MAX_REQUEST_LINE: usize = 16 * 1024;
/// The most bytes of a header section, the empty line at its end included.
pub const MAX_HEADERS: usize = 64 * 1024;
/// The most fields of a header section.
pub const MAX_FIELDS: usize = 128;
/// The most empty lines before a start line; some clients send one after a body (RFC 9112 §2.2).
const MAX_EMPTY_LINES: usize = 4;

/// Finds the end of a head that arrives in pieces, and checks every line end on the way.
#[derive(Debug, Default, Clone)]
pub(super) struct Scan {
    /// Where the start line begins: behind empty lines.
    start: usize,
    /// Where the header section begins; 0 while the start line is not over.
    fields: usize,
    /// Where the line begins that was looked at last.
    line: usize,
    /// How far the bytes were looked at.
    seen: usize,
}

/// A whole head: where its parts lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent<'a> {
    /// The start line without its CR LF.
    pub(super) start_line: &'a [u8],
    /// The header section, the empty line at its end included.
    pub(super) fields: &'a [u8],
    /// How long the head is, empty lines before it included.
    pub(super) length: usize,
}

impl Scan {
    /// Looks at what is new in `bytes`, which begin where they began at the last call and hold the same.
    pub(super) fn advance<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Extent<'a>>, HeadError> {
        while let Some(rest) = bytes.get(self.seen..).filter(|rest| !rest.is_empty()) {
            let Some(offset) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else {
                self.seen = bytes.len();
                break;
            };
            self.seen += offset;
            match bytes.get(self.seen..).unwrap_or_default() {
                [b'\r', b'\n', ..] => {}
                [b'\r'] => break,
                [b'\r', ..] => return Err(HeadError::Bad("a bare CR")),
                [b'\n', ..] => return Err(HeadError::Bad("a bare LF")),
                _ => return Err(HeadError::Bad("a NUL")),
            }
            let empty = self.seen == self.line;
            let end = self.seen;
            self.seen += 2;
            self.line = self.seen;
            if self.fields == 0 && empty {
                if self.start >= 2 * MAX_EMPTY_LINES {
                    return Err(HeadError::Bad("nothing but empty lines"));
                }
                self.start = self.seen;
            } else if self.fields == 0 {
                self.check(self.seen)?;
                self.fields = self.seen;
            } else if empty {
                self.check(self.seen)?;
                let start_line = bytes.get(self.start..self.fields - 2).unwrap_or_default();
                let fields = bytes.get(self.fields..self.seen).unwrap_or_default();
                return Ok(Some(Extent { start_line, fields, length: end + 2 }));
            }
        }
        self.check(bytes.len()).map(|()| None)
    }

    /// Holds the bounds, with the head as far as `end`.
    fn check(&self, end: usize) -> Result<(), HeadError> {
        if self.fields == 0 && end - self.start > MAX_REQUEST_LINE {
            return Err(HeadError::LineTooLong);
        }
        if self.fields != 0 && end - self.fields > MAX_HEADERS {
            return Err(HeadError::HeadersTooLarge);
        }
        Ok(())
    }
}

/// Reads a header section (its line ends were checked by [`Scan`], or by whoever collected it) that ends in an
/// empty line.
pub(super) fn fields(section: &[u8]) -> Result<HeaderMap, HeadError> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let found = match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((n, found))) if n == section.len() => found,
        Ok(_) => return Err(HeadError::Bad("a header section that ends early")),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
        Err(httparse::Error::HeaderName) => return Err(HeadError::Bad("a header field's name is not one")),
        Err(_) => return Err(HeadError::Bad("a header field's value is not one")),
    };
    let mut headers = HeaderMap::with_capacity(found.len());
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| HeadError::Bad("a header field's name is not one"))?;
        let mut value = HeaderValue::from_bytes(field.value.trim_ascii())
            .map_err(|_| HeadError::Bad("a header field's value is not one"))?;
        let secret = [http::header::AUTHORIZATION, http::header::PROXY_AUTHORIZATION, http::header::COOKIE];
        value.set_sensitive(secret.contains(&name));
        headers.append(name, value);
    }
    Ok(headers)
}

/// Appends fields as they stand.
pub(super) fn encode_fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        encode_field(name, value.as_bytes(), out);
    }
}

/// Appends one field.
pub(super) fn encode_field(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The tokens of every value of a list field, trimmed; empty ones too.
pub(super) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}
