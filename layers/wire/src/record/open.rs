//! Receiving records.
//!
//! Invariant: what a peer makes us keep or do without sending data is bounded: a started handshake message, records
//! without content, messages in a row.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::fault::{
    BAD_RECORD_MAC, CLOSE_NOTIFY, DECODE_ERROR, Fault, ILLEGAL_PARAMETER, INTERNAL_ERROR, RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE, USER_CANCELED,
};
use super::key::{HEADER, Kernel, Key, MAX_CIPHER, MAX_PLAIN};

/// Bytes of a handshake message that comes in pieces.
const MAX_MESSAGE: usize = 64 * 1024;

/// Records in a row that carry no data.
const MAX_IDLE: u32 = 32;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A receiving direction.
pub(super) struct Open {
    key: Key,
    kernel: Arc<Mutex<Kernel>>,
    message: Vec<u8>,
    idle: u32,
    update_asked: bool,
}

/// What the first record of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not complete yet.
    Short,
    /// So many bytes long; its data lies there, in the clear now.
    Record(usize, Range<usize>),
    /// The peer sends no more.
    Closed,
}

impl Open {
    pub(super) fn new(key: Key, kernel: Arc<Mutex<Kernel>>) -> Self {
        Self { key, kernel, message: Vec::new(), idle: 0, update_asked: false }
    }

    /// Whether the peer asked for a change of our own key since this was asked last.
    pub(super) fn take_update_asked(&mut self) -> bool {
        std::mem::take(&mut self.update_asked)
    }

    /// Opens the first record of `bytes` in place.
    pub(super) fn step(&mut self, bytes: &mut [u8]) -> Result<Step, Fault> {
        let Some((&mut header, _)) = bytes.split_first_chunk_mut::<HEADER>() else { return Ok(Step::Short) };
        // Whatever is encrypted calls itself application data; a change_cipher_spec has had its time
        // (RFC 8446 §5).
        if header[0] != 23 {
            return Err(Fault::peer(UNEXPECTED_MESSAGE, "a record in clear text after the handshake"));
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length > MAX_CIPHER {
            return Err(Fault::peer(RECORD_OVERFLOW, "a record that is too long"));
        }
        let Some(cipher) = bytes.get_mut(HEADER..HEADER + length) else { return Ok(Step::Short) };
        let inner = self
            .key
            .open(header, cipher)
            .ok_or(Fault::peer(BAD_RECORD_MAC, "a record that does not decrypt"))?;
        if inner.len() > MAX_PLAIN + 1 {
            return Err(Fault::peer(RECORD_OVERFLOW, "a record that is too long"));
        }
        // Padding is zeros behind the content type (RFC 8446 §5.4).
        let at = inner
            .iter()
            .rposition(|&byte| byte != 0)
            .ok_or(Fault::peer(UNEXPECTED_MESSAGE, "a record without a content type"))?;
        let (content, payload) = (inner[at], &inner[..at]);
        if content == 23 && at > 0 {
            if !self.message.is_empty() {
                return Err(Fault::peer(UNEXPECTED_MESSAGE, "data inside a handshake message"));
            }
            self.idle = 0;
            return Ok(Step::Record(HEADER + length, HEADER..HEADER + at));
        }
        self.idle += 1;
        if self.idle > MAX_IDLE {
            return Err(Fault::peer(UNEXPECTED_MESSAGE, "too many records without data"));
        }
        match content {
            23 => {}
            22 => {
                let more = self.message.len() + payload.len();
                if payload.is_empty() || more > MAX_MESSAGE {
                    return Err(Fault::peer(UNEXPECTED_MESSAGE, "a handshake message of no use"));
                }
                self.message.extend_from_slice(payload);
                self.handshake()?;
            }
            21 => match *payload {
                [_, CLOSE_NOTIFY] => return Ok(Step::Closed),
                // A close_notify follows (RFC 8446 §6.1).
                [_, USER_CANCELED] => {}
                [_, alert] => return Err(Fault::Told(alert)),
                _ => return Err(Fault::peer(DECODE_ERROR, "an alert of the wrong length")),
            },
            _ => return Err(Fault::peer(UNEXPECTED_MESSAGE, "a record of an unknown type")),
        }
        Ok(Step::Record(HEADER + length, 0..0))
    }

    /// Takes the whole messages off what was gathered.
    fn handshake(&mut self) -> Result<(), Fault> {
        while let [kind, a, b, c, rest @ ..] = &self.message[..] {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_MESSAGE {
                return Err(Fault::peer(DECODE_ERROR, "a handshake message that is too long"));
            }
            let Some((body, rest)) = rest.split_at_checked(length) else { break };
            match *kind {
                NEW_SESSION_TICKET => match Kernel::ticket(&self.kernel, body) {
                    Some(Ok(())) => {}
                    Some(Err(_)) => {
                        return Err(Fault::peer(DECODE_ERROR, "a session ticket that is not one"));
                    }
                    None => return Err(Fault::peer(UNEXPECTED_MESSAGE, "a session ticket from a client")),
                },
                KEY_UPDATE => {
                    match body {
                        [0] => {}
                        [1] => self.update_asked = true,
                        [_] => return Err(Fault::peer(ILLEGAL_PARAMETER, "an unknown key update")),
                        _ => return Err(Fault::peer(DECODE_ERROR, "a key update of the wrong length")),
                    }
                    // The next record comes under the new key, so nothing may follow in this one.
                    if !rest.is_empty() {
                        return Err(Fault::peer(UNEXPECTED_MESSAGE, "a message behind a key update"));
                    }
                    self.key = Kernel::next_open(&self.kernel)
                        .map_err(|_| Fault::peer(INTERNAL_ERROR, "no next key"))?;
                }
                _ => return Err(Fault::peer(UNEXPECTED_MESSAGE, "a handshake message after the handshake")),
            }
            let done = 4 + length;
            self.message.drain(..done);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }
}
