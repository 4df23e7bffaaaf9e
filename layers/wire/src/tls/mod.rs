//! TLS by rustls, with ring named as its provider: what a listener shows, whom a tunnel trusts, and an
//! endpoint over either.
//!
//! Invariant: no cryptography of our own, and no process-wide default provider.

mod client;
mod end;
mod pin;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{Distrust, Trust, client_config, server_name};
pub use end::{Abort, TlsEnd};
pub use pin::{PinError, Pins, pin_of};
pub use server::{CertificateError, server_config};

/// HTTP/2's name in ALPN (RFC 9113 §3.2).
pub const ALPN_H2: &[u8] = b"h2";

/// HTTP/1.1's name in ALPN (RFC 7301 §6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The cryptography that both sides use: the default's, AES-128 first, which costs less than AES-256.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    let cheapest = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != cheapest);
    Arc::new(provider)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};

    use rcgen::{CertifiedKey, KeyPair};

    /// A certificate for `localhost` in PEM files of `dir`, and its DER form.
    pub(crate) fn write_certificate(dir: &Path) -> (PathBuf, PathBuf, Vec<u8>) {
        let CertifiedKey { cert, signing_key } = certificate();
        let (cert_path, key_path) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert_path, cert.pem()).unwrap();
        std::fs::write(&key_path, signing_key.serialize_pem()).unwrap();
        (cert_path, key_path, cert.der().to_vec())
    }

    pub(crate) fn certificate() -> CertifiedKey<KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }
}
