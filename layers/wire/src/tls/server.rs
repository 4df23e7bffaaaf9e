//! What a listener shows: a certificate chain and its key, read from PEM files.
//!
//! Invariant: a configuration that exists has a key that fits its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{ALPN_H2, ALPN_HTTP1, provider};

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no PEM.
    #[error("{path} is not a PEM file: {error}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// No `CERTIFICATE` section.
    #[error("{path} has no certificate in it", path = .0.display())]
    NoCertificate(PathBuf),
    /// No `PRIVATE KEY` section.
    #[error("{path} has no private key in it", path = .0.display())]
    NoKey(PathBuf),
    /// They do not belong together.
    #[error("the key in {key} is not that of the certificate in {cert}", key = key.display(), cert = cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Anything else that rustls has against them.
    #[error("{path} cannot be used: {error}", path = path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

impl CertificateError {
    /// Whether it is the key's file that is wrong.
    pub fn is_key(&self, key: &Path) -> bool {
        match self {
            Self::Read { path, .. } | Self::Pem { path, .. } | Self::NoKey(path) => path == key,
            Self::Mismatch { .. } => true,
            Self::NoCertificate(_) | Self::Unusable { .. } => false,
        }
    }
}

/// TLS 1.3 and 1.2 with that certificate, offering HTTP/2 and HTTP/1.1. Sessions can be resumed as long as the
/// configuration lives; after a reload a client shakes hands in full once.
///
/// # Errors
/// What is wrong with the files.
pub fn server_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    let chain = chain(cert)?;
    let private = private_key(key)?;
    let unusable = |error| CertificateError::Unusable { path: cert.to_owned(), error };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateError::Mismatch { cert: cert.to_owned(), key: key.to_owned() }
            }
            error => unusable(error),
        })?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    // For the records, where they are ours.
    config.enable_secret_extraction = true;
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem { path: path.to_owned(), error })?;
    if chain.is_empty() { Err(CertificateError::NoCertificate(path.to_owned())) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = zeroizing(read(path)?);
    PrivateKeyDer::from_pem_slice(text.expose().as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificateError::NoKey(path.to_owned()),
        error => CertificateError::Pem { path: path.to_owned(), error },
    })
}

/// The key's text in the keeping of a type that wipes it; PEM is ASCII, so what is lost here was none.
fn zeroizing(bytes: Vec<u8>) -> swiftproxy_core::secret::Secret {
    swiftproxy_core::secret::Secret::new(String::from_utf8(bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::tests::write_certificate;
    use super::*;

    #[test]
    fn each_fault_has_its_word() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (cert, key, _) = write_certificate(dir.path());
        let (_, other_key, _) = write_certificate(other.path());
        let missing = dir.path().join("missing.pem");
        assert!(server_config(&cert, &key).is_ok());
        let error = |cert: &Path, key: &Path| server_config(cert, key).expect_err("unusable");
        assert!(matches!(error(&missing, &key), CertificateError::Read { .. }));
        assert!(error(&cert, &missing).is_key(&missing));
        assert!(matches!(error(&key, &key), CertificateError::NoCertificate(_)));
        assert!(matches!(error(&cert, &cert), CertificateError::NoKey(_)));
        assert!(matches!(error(&cert, &other_key), CertificateError::Mismatch { .. }));
        let broken = dir.path().join("broken.pem");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(error(&broken, &key), CertificateError::Pem { .. }));
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(error(&broken, &key), CertificateError::Unusable { .. }));
        assert!(error(&missing, &key).to_string().contains("missing.pem cannot be read: No such file"));
    }
}
