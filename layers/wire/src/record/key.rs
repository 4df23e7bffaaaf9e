//! One direction's traffic key.
//!
//! Invariant: no nonce is used twice under one key (RFC 8446 §5.3): the sequence number only grows, and starts
//! again with a new key only.

use std::sync::{Mutex, PoisonError};

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, Error};

/// Bytes of a record before its ciphertext.
pub(crate) const HEADER: usize = 5;

/// Bytes of a sealed record behind its plaintext: the content type and the tag, without padding.
pub(crate) const TRAILER: usize = 17;

/// Bytes of plaintext that one record may carry (RFC 8446 §5.1).
pub(crate) const MAX_PLAIN: usize = 1 << 14;

/// Bytes of ciphertext that one record may carry (RFC 8446 §5.2).
pub(crate) const MAX_CIPHER: usize = MAX_PLAIN + 256;

/// Records sealed under one key. AES-GCM keeps its margin up to 2^24.5 (RFC 8446 §5.5); half of 2^24 leaves room
/// for what is under way.
pub(super) const RECORDS_PER_KEY: u64 = 1 << 23;

/// What rustls keeps of a connection for us.
pub(super) enum Kernel {
    /// A client's.
    Client(KernelConnection<ClientConnectionData>),
    /// A server's.
    Server(KernelConnection<ServerConnectionData>),
}

impl Kernel {
    /// The next key to seal with.
    pub(super) fn next_seal(kernel: &Mutex<Self>) -> Result<Key, Error> {
        let secrets = match &mut *kernel.lock().unwrap_or_else(PoisonError::into_inner) {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        };
        Key::new(secrets?)
    }

    /// The next key to open with.
    pub(super) fn next_open(kernel: &Mutex<Self>) -> Result<Key, Error> {
        let secrets = match &mut *kernel.lock().unwrap_or_else(PoisonError::into_inner) {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        };
        Key::new(secrets?)
    }

    /// Keeps a session ticket; none where this side is the one that gives them out.
    pub(super) fn ticket(kernel: &Mutex<Self>, payload: &[u8]) -> Option<Result<(), Error>> {
        match &mut *kernel.lock().unwrap_or_else(PoisonError::into_inner) {
            Self::Client(kernel) => Some(kernel.handle_new_session_ticket(payload)),
            Self::Server(_) => None,
        }
    }
}

/// A traffic key with its place in the sequence of nonces.
pub(super) struct Key {
    aead: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Key {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher that is not known here".to_owned())),
        };
        let wrong = |what: &str| Error::General(format!("the secret's {what} has the wrong length"));
        let aead = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| wrong("key"))?;
        let iv = iv.as_ref().try_into().map_err(|_| wrong("nonce"))?;
        Ok(Self { aead: LessSafeKey::new(aead), iv, sequence })
    }

    /// How many records this key has seen.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `inner` in place.
    pub(super) fn seal(&mut self, header: [u8; HEADER], inner: &mut [u8]) -> Option<Tag> {
        let nonce = self.nonce();
        self.aead.seal_in_place_separate_tag(nonce, Aad::from(header), inner).ok()
    }

    /// Decrypts `cipher` in place and answers the plaintext.
    pub(super) fn open<'a>(&mut self, header: [u8; HEADER], cipher: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let nonce = self.nonce();
        self.aead.open_in_place(nonce, Aad::from(header), cipher).ok()
    }
}
