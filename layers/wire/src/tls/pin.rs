//! A server's public key, named by its hash: `sha256//BASE64`, as curl's `--proxy-pinnedpubkey` takes it.
//!
//! Invariant: what is hashed is the DER of the certificate's SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), so a
//! renewed certificate keeps its pin.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX: &str = "sha256//";

/// Why a text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Another form than `sha256//` and 44 characters of base64.
    #[error("a pin is \"sha256//\" and the base64 of 32 bytes; several are separated by \";\"")]
    Form,
    /// The certificate is no X.509 version 3.
    #[error("the certificate cannot be read")]
    Certificate,
}

/// The public keys that are trusted, one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins(Vec<[u8; 32]>);

impl Pins {
    /// Whether the certificate's public key is one of them.
    pub fn hold(&self, certificate: &CertificateDer<'_>) -> bool {
        hash(certificate).is_ok_and(|found| self.0.iter().any(|pin| bool::from(pin.ct_eq(&found))))
    }
}

/// The pin of a certificate's public key.
///
/// # Errors
/// [`PinError::Certificate`].
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<String, PinError> {
    hash(certificate).map(|hash| print(&hash))
}

fn hash(certificate: &CertificateDer<'_>) -> Result<[u8; 32], PinError> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|_| PinError::Certificate)?;
    Ok(Sha256::digest(parsed.subject_public_key_info()).into())
}

fn print(hash: &[u8; 32]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(hash))
}

impl FromStr for Pins {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let one = |text: &str| {
            let text = text.trim().strip_prefix(PREFIX).ok_or(PinError::Form)?;
            let bytes = STANDARD.decode(text).map_err(|_| PinError::Form)?;
            bytes.try_into().map_err(|_| PinError::Form)
        };
        text.split(';').map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pin) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(";")?;
            }
            f.write_str(&print(pin))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::PublicKeyData;

    use super::super::tests::certificate;
    use super::*;

    #[test]
    fn the_public_key_is_what_is_hashed() {
        let made = certificate();
        let pin = pin_of(made.cert.der()).unwrap();
        let spki = made.signing_key.subject_public_key_info();
        assert_eq!(pin, format!("sha256//{}", STANDARD.encode(Sha256::digest(spki))));
        let pins: Pins = pin.parse().unwrap();
        assert!(pins.hold(made.cert.der()));
        // A renewed certificate of the same key, and one of another key.
        let renewed = rcgen::CertificateParams::new(["renewed.example".to_owned()]).unwrap();
        assert!(pins.hold(renewed.self_signed(&made.signing_key).unwrap().der()));
        let other = certificate();
        assert!(!pins.hold(other.cert.der()));
        let both: Pins = format!("{pin}; {}", pin_of(other.cert.der()).unwrap()).parse().unwrap();
        assert!(both.hold(made.cert.der()) && both.hold(other.cert.der()));
    }

    #[test]
    fn what_is_no_pin() {
        for text in ["", "sha256//", "sha1//AAAA", "sha256//AAAA", &format!("sha256//{}=;", "A".repeat(43))] {
            assert_eq!(text.parse::<Pins>(), Err(PinError::Form), "{text}");
        }
        assert_eq!(pin_of(&CertificateDer::from(vec![1, 2, 3])), Err(PinError::Certificate));
    }

    proptest! {
        #[test]
        fn round_trip(pins in prop::collection::vec(any::<[u8; 32]>(), 1..4), text: String) {
            let pins = Pins(pins);
            prop_assert_eq!(pins.to_string().parse(), Ok(pins));
            let _ = text.parse::<Pins>();
        }
    }
}
