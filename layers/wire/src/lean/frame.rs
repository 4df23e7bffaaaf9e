//! Frames (RFC 9113 §4, §6): their heads, their kinds, the codes of errors, and settings.
//!
//! Invariant: what is printed here parses to the same; a reserved bit is ignored.

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;

/// Payload that every peer takes (RFC 9113 §4.2).
pub(super) const DEFAULT_MAX_FRAME: u32 = 1 << 14;

/// The largest that a peer may allow.
pub(super) const MOST_MAX_FRAME: u32 = (1 << 24) - 1;

/// A window before any settings (RFC 9113 §6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// The largest window (RFC 9113 §6.9.1).
pub(super) const MOST_WINDOW: i64 = (1 << 31) - 1;

/// What a client begins with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITIZED: u8 = 0x20;

/// An error's code (RFC 9113 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

#[allow(missing_docs, reason = "the names are the standard's")]
impl Code {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INTERNAL_ERROR: Self = Self(2);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const CONNECT_ERROR: Self = Self(10);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff,
        }
    }

    pub(super) fn print(&self) -> [u8; HEAD] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a whole frame.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.print());
    out.extend_from_slice(payload);
}

/// A number of four bytes; none where it is another length.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// A peer's settings (RFC 9113 §6.5.2), as far as they concern us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) table_size: Option<u32>,
    pub(super) max_streams: Option<u32>,
    pub(super) window: Option<u32>,
    pub(super) max_frame: Option<u32>,
    pub(super) max_header_list: Option<u32>,
    /// Our own: which version of the lean engine is spoken.
    pub(super) lean: Option<u32>,
}

/// The identifier by which two of ours know each other, of those reserved for experiments (RFC 7540 §11.3).
pub(super) const LEAN: u16 = 0xf5e1;

/// Its value: the only version there is.
pub(super) const LEAN_VERSION: u32 = 1;

impl Settings {
    /// Reads a SETTINGS frame's payload.
    ///
    /// # Errors
    /// The connection error that a bad one is.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Code> {
        if !payload.len().is_multiple_of(6) {
            return Err(Code::FRAME_SIZE_ERROR);
        }
        let mut settings = Self::default();
        for entry in payload.chunks_exact(6) {
            let [a, b, c, d, e, f] = *entry else { return Err(Code::FRAME_SIZE_ERROR) };
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                1 => settings.table_size = Some(value),
                2 if value > 1 => return Err(Code::PROTOCOL_ERROR),
                3 => settings.max_streams = Some(value),
                4 if i64::from(value) > MOST_WINDOW => return Err(Code::FLOW_CONTROL_ERROR),
                4 => settings.window = Some(value),
                5 if !(DEFAULT_MAX_FRAME..=MOST_MAX_FRAME).contains(&value) => {
                    return Err(Code::PROTOCOL_ERROR);
                }
                5 => settings.max_frame = Some(value),
                6 => settings.max_header_list = Some(value),
                LEAN => settings.lean = Some(value),
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Appends them as a SETTINGS frame. A client says that it takes no pushes.
    pub(super) fn put(&self, out: &mut Vec<u8>, client: bool) {
        let entries = [
            (1, self.table_size),
            (2, client.then_some(0)),
            (3, self.max_streams),
            (4, self.window),
            (5, self.max_frame),
            (6, self.max_header_list),
            (LEAN, self.lean),
        ];
        let mut payload = Vec::with_capacity(6 * entries.len());
        for (id, value) in entries {
            if let Some(value) = value {
                payload.extend_from_slice(&u16::to_be_bytes(id));
                payload.extend_from_slice(&value.to_be_bytes());
            }
        }
        put(out, SETTINGS, 0, 0, &payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn heads_and_settings_come_back(length in 0_usize..1 << 24, kind: u8, flags: u8, stream in 0_u32..1 << 31, bytes: Vec<u8>) {
            let head = Head { length, kind, flags, stream };
            prop_assert_eq!(Head::parse(&head.print()), head);
            let _ = Settings::parse(&bytes);
            let settings = Settings { window: Some(stream), max_streams: Some(stream), lean: Some(1), ..Settings::default() };
            let mut out = Vec::new();
            settings.put(&mut out, true);
            prop_assert_eq!(Settings::parse(&out[HEAD..]), Ok(settings));
        }
    }

    #[test]
    fn settings_that_are_none() {
        let bad = [
            (&[0, 4, 0, 0, 0][..], Code::FRAME_SIZE_ERROR),
            (&[0, 2, 0, 0, 0, 2], Code::PROTOCOL_ERROR),
            (&[0, 4, 0x80, 0, 0, 0], Code::FLOW_CONTROL_ERROR),
            (&[0, 5, 0, 0, 0x3f, 0xff], Code::PROTOCOL_ERROR),
            (&[0, 5, 1, 0, 0, 0], Code::PROTOCOL_ERROR),
        ];
        for (payload, code) in bad {
            assert_eq!(Settings::parse(payload), Err(code), "{payload:?}");
        }
        assert_eq!(Settings::parse(&[0, 99, 0, 0, 0, 1]), Ok(Settings::default()));
    }
}
