//! Header compression (RFC 7541) without a dynamic table: we announce one of size 0 and use none of the peer's.
//!
//! Invariant: no block changes how the next one is read; what a block may make us keep is bounded by its caller's
//! bound on names and values.

mod huffman;

/// The static table (RFC 7541 Appendix A); its first entry has index 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
    ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Bytes that an entry counts beyond its name and value (RFC 9113 §6.5.2).
const OVERHEAD: usize = 32;

/// A block that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is no HPACK: a connection error (RFC 7541 §2.3.3 and others).
    Coding,
    /// Its fields are larger than the bound.
    TooLarge,
}

/// Reads a block and hands on each field, at most `most` bytes of them (RFC 9113 §6.5.2's count).
pub(super) fn decode(
    mut block: &[u8],
    most: usize,
    mut field: impl FnMut(&[u8], &[u8]),
) -> Result<(), Wrong> {
    let (mut size, mut begun) = (0, false);
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(&first) = block.first() {
        if first & 0xe0 == 0x20 {
            // A change of the dynamic table's size comes first, and ours is 0.
            if begun || integer(&mut block, 5)? != 0 {
                return Err(Wrong::Coding);
            }
            continue;
        }
        begun = true;
        name.clear();
        value.clear();
        let indexed = first & 0x80 != 0;
        let prefix = if indexed {
            7
        } else if first & 0x40 != 0 {
            6
        } else {
            4
        };
        match integer(&mut block, prefix)? {
            0 if !indexed => string(&mut block, &mut name, most)?,
            index => {
                let at = index.checked_sub(1).ok_or(Wrong::Coding)?;
                let (known, its_value) = STATIC.get(at).ok_or(Wrong::Coding)?;
                name.extend_from_slice(known.as_bytes());
                if indexed {
                    value.extend_from_slice(its_value.as_bytes());
                }
            }
        }
        if !indexed {
            // With incremental indexing or without is the same to a table of size 0 (RFC 7541 §4.4).
            string(&mut block, &mut value, most)?;
        }
        size += name.len() + value.len() + OVERHEAD;
        if size > most {
            return Err(Wrong::TooLarge);
        }
        field(&name, &value);
    }
    Ok(())
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Wrong> {
    let mut next = || {
        let (&byte, rest) = block.split_first().ok_or(Wrong::Coding)?;
        *block = rest;
        Ok(byte)
    };
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(next()?) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Wrong::Coding)
}

/// A string (RFC 7541 §5.2).
fn string(block: &mut &[u8], out: &mut Vec<u8>, most: usize) -> Result<(), Wrong> {
    let coded = block.first().ok_or(Wrong::Coding)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Wrong::Coding)?;
    *block = rest;
    // The shortest code has five bits, so this bounds what comes out.
    if length > most {
        return Err(Wrong::TooLarge);
    }
    if coded {
        huffman::decode(bytes, out).ok_or(Wrong::Coding)
    } else {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends a field. One that is `secret` is never to be put into a table on the way (RFC 7541 §7.1.3).
pub(super) fn encode(out: &mut Vec<u8>, name: &str, value: &[u8], secret: bool) {
    if let Some(at) = STATIC.iter().position(|(known, its)| *known == name && its.as_bytes() == value)
        && !value.is_empty()
    {
        return put_integer(out, 0x80, 7, at + 1);
    }
    let pattern = if secret { 0x10 } else { 0 };
    match STATIC.iter().position(|(known, _)| *known == name) {
        Some(at) => put_integer(out, pattern, 4, at + 1),
        None => {
            out.push(pattern);
            put_string(out, name.as_bytes());
        }
    }
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_integer(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn decoded(block: &[u8]) -> Result<Fields, Wrong> {
        let mut fields = Fields::new();
        decode(block, 16 * 1024, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
        Ok(fields)
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_standards_examples() {
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        // RFC 7541 C.2.1 to C.2.4, C.4.1.
        let cases = [
            ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", field("custom-key", "custom-header")),
            ("040c2f73616d706c652f70617468", field(":path", "/sample/path")),
            ("100870617373776f726406736563726574", field("password", "secret")),
            ("82", field(":method", "GET")),
        ];
        for (block, expected) in cases {
            assert_eq!(decoded(&hex(block)), Ok(vec![expected]), "{block}");
        }
        let request = decoded(&hex("828684418cf1e3c2e5f23a6ba0ab90f4ff")).unwrap();
        assert_eq!(request.len(), 4);
        assert_eq!(request[3], field(":authority", "www.example.com"));
    }

    #[test]
    fn blocks_that_are_none() {
        for block in
            ["80", "be", "ff8080808001", "3f01", "8220", "40", "0003", "0085ffffffffff", "7f", "0f8080808080"]
        {
            assert_eq!(decoded(&hex(block)), Err(Wrong::Coding), "{block}");
        }
        assert_eq!(decoded(&hex("2082")).map(|fields| fields.len()), Ok(1), "a table of size 0");
        let bomb: Vec<u8> = vec![0x82; 1000];
        assert_eq!(decoded(&bomb), Err(Wrong::TooLarge));
    }

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec(("[a-z-]{1,40}", any::<Vec<u8>>(), any::<bool>()), 0..20)) {
            let mut block = Vec::new();
            for (name, value, secret) in &fields {
                encode(&mut block, name, value, *secret);
            }
            let expected: Fields = fields.iter().map(|(name, value, _)| (name.clone().into_bytes(), value.clone())).collect();
            prop_assert_eq!(decoded(&block), Ok(expected));
            for end in 0..block.len() {
                let _ = decoded(&block[..end]);
            }
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = decoded(&bytes);
        }

        #[test]
        fn integers_come_back(value in 0_usize..1 << 28, prefix in 4_u32..8) {
            let mut out = Vec::new();
            put_integer(&mut out, 0, prefix, value);
            prop_assert_eq!(integer(&mut &out[..], prefix), Ok(value));
        }
    }
}
