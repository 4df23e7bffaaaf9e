//! Sending records.
//!
//! Invariant: a key is changed before it has sealed as many records as its cipher allows, and the peer is told in
//! the last one under the old key (RFC 8446 §4.6.3).

use std::sync::{Arc, Mutex};

use super::fault::{Alert, CLOSE_NOTIFY};
use super::key::{HEADER, Kernel, Key, MAX_PLAIN, RECORDS_PER_KEY, TRAILER};

/// What a record carries (RFC 8446 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

/// A sending direction; without a key it sends its plaintext as it is.
pub struct Seal(Option<Box<Keyed>>);

struct Keyed {
    key: Key,
    kernel: Arc<Mutex<Kernel>>,
    /// Records after which the key is changed.
    limit: u64,
    broken: bool,
}

impl Seal {
    /// No encryption.
    pub(super) fn clear() -> Self {
        Self(None)
    }

    pub(super) fn new(key: Key, kernel: Arc<Mutex<Kernel>>) -> Self {
        Self(Some(Box::new(Keyed { key, kernel, limit: RECORDS_PER_KEY, broken: false })))
    }

    /// Changes keys after so many records.
    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, records: u64) {
        if let Some(keyed) = &mut self.0 {
            keyed.limit = records;
        }
    }

    /// Appends a KeyUpdate that asks for the peer's, and changes the key.
    #[cfg(test)]
    pub(super) fn ask_update(&mut self, out: &mut Vec<u8>) {
        let Some(keyed) = &mut self.0 else { return };
        let mut room = [0; Self::UPDATE];
        room[HEADER..HEADER + 5].copy_from_slice(&[24, 0, 0, 1, 1]);
        keyed.seal(&mut room, 5, Content::Handshake).unwrap();
        keyed.key = Kernel::next_seal(&keyed.kernel).unwrap();
        out.extend_from_slice(&room);
    }

    /// Bytes of a record before its plaintext.
    pub(crate) fn before(&self) -> usize {
        if self.0.is_some() { HEADER } else { 0 }
    }

    /// Bytes of a record behind its plaintext.
    pub(crate) fn behind(&self) -> usize {
        if self.0.is_some() { TRAILER } else { 0 }
    }

    /// Plaintext that one record may carry, where it matters.
    pub(crate) fn max_plain(&self) -> Option<usize> {
        self.0.is_some().then_some(MAX_PLAIN)
    }

    /// Seals a record of application data whose `plain` bytes stand at [`before`](Self::before) in `room`; how
    /// long the record is. None where `room` is too short, or the key is spent and could not be changed.
    pub(crate) fn seal(&mut self, room: &mut [u8], plain: usize) -> Option<usize> {
        match &mut self.0 {
            None => Some(plain),
            Some(keyed) => keyed.seal(room, plain, Content::Data),
        }
    }

    /// Whether the key is to be changed before anything else is sealed.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.as_ref().is_some_and(|keyed| keyed.key.sequence() >= keyed.limit)
    }

    /// Bytes that [`update`](Self::update) needs.
    pub(crate) const UPDATE: usize = HEADER + 5 + TRAILER;

    /// Seals a KeyUpdate into `room` and changes the key; how long the record is.
    pub(crate) fn update(&mut self, room: &mut [u8]) -> Option<usize> {
        let Some(keyed) = &mut self.0 else { return Some(0) };
        // update_not_requested: the peer changes its own when it is due.
        const MESSAGE: [u8; 5] = [24, 0, 0, 1, 0];
        room.get_mut(HEADER..HEADER + MESSAGE.len())?.copy_from_slice(&MESSAGE);
        let n = keyed.seal(room, MESSAGE.len(), Content::Handshake)?;
        match Kernel::next_seal(&keyed.kernel) {
            Ok(key) => keyed.key = key,
            Err(_) => keyed.broken = true,
        }
        Some(n)
    }

    /// Appends an alert to `out`.
    pub(crate) fn alert(&mut self, alert: Alert, out: &mut Vec<u8>) {
        let Some(keyed) = &mut self.0 else { return };
        let level = if alert == CLOSE_NOTIFY { 1 } else { 2 };
        let mut room = [0; HEADER + 2 + TRAILER];
        room[HEADER] = level;
        room[HEADER + 1] = alert;
        if let Some(n) = keyed.seal(&mut room, 2, Content::Alert) {
            out.extend_from_slice(&room[..n]);
        }
    }
}

impl Keyed {
    fn seal(&mut self, room: &mut [u8], plain: usize, content: Content) -> Option<usize> {
        if self.broken || plain > MAX_PLAIN {
            return None;
        }
        let room = room.get_mut(..HEADER + plain + TRAILER)?;
        let length = u16::try_from(plain + TRAILER).ok()?.to_be_bytes();
        let header = [Content::Data as u8, 3, 3, length[0], length[1]];
        let (head, rest) = room.split_at_mut(HEADER);
        let (inner, tag) = rest.split_at_mut(plain + 1);
        head.copy_from_slice(&header);
        inner[plain] = content as u8;
        tag.copy_from_slice(self.key.seal(header, inner)?.as_ref());
        Some(HEADER + plain + TRAILER)
    }
}
