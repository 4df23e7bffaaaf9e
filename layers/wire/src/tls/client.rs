//! Whom a tunnel trusts.
//!
//! Invariant: whatever vouches for the server's key, the handshake's signature is verified by it; a refusal
//! tells the key that was presented.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pin::{Pins, pin_of};
use super::{ALPN_H2, provider};

/// What vouches for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The platform's trust store, the certificate's names and dates.
    Platform,
    /// Its public key alone.
    Pins(Pins),
}

/// A client's side that speaks HTTP/2 to whom `trust` vouches for. It reads the platform's certificates from
/// disk, so call it off the async threads.
///
/// # Errors
/// The platform's trust store cannot be used.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = match trust {
        Trust::Platform => Verifier::Platform(rustls_platform_verifier::Verifier::new(provider.clone())?),
        Trust::Pins(pins) => Verifier::Pins(pins.clone(), provider.clone()),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // For the records, where they are ours.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// The name that a certificate is checked against: a domain, or an address without brackets.
///
/// # Errors
/// It is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, rustls_pki_types::InvalidDnsNameError> {
    ServerName::try_from(host.to_owned())
}

/// A server that is not trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct Distrust {
    /// The public key that it presented, as a pin; none where the certificate cannot be read.
    pub presented: Option<String>,
    /// What is wrong with it; none where it is only not the pinned one.
    pub why: Option<CertificateError>,
}

impl Distrust {
    /// The distrust behind a handshake's error, if that is what it failed of.
    pub fn of(error: &io::Error) -> Option<&Self> {
        match error.get_ref()?.downcast_ref::<Error>()? {
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.downcast_ref(),
            _ => None,
        }
    }

    fn error(presented: &CertificateDer<'_>, why: Option<CertificateError>) -> Error {
        let distrust = Self { presented: pin_of(presented).ok(), why };
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(distrust))))
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            None => f.write_str("the certificate's public key is not the pinned one"),
            Some(CertificateError::UnknownIssuer) => {
                f.write_str("nobody whom this system trusts signed the certificate")
            }
            Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                f.write_str("the certificate has expired")
            }
            Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                f.write_str("the certificate is not valid yet")
            }
            Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                f.write_str("the certificate is for another name")
            }
            Some(CertificateError::Revoked) => f.write_str("the certificate was revoked"),
            // What `openssl req -x509` makes; the library has no word for people.
            Some(CertificateError::Other(why)) if why.to_string() == "CaUsedAsEndEntity" => {
                f.write_str("the certificate is signed by itself")
            }
            Some(why) => write!(f, "the certificate is not valid: {why}"),
        }
    }
}

impl std::error::Error for Distrust {}

#[derive(Debug)]
enum Verifier {
    Platform(rustls_platform_verifier::Verifier),
    Pins(Pins, Arc<CryptoProvider>),
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self {
            Self::Platform(platform) => platform
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| match error {
                    Error::InvalidCertificate(why) => Distrust::error(end_entity, Some(why)),
                    error => error,
                }),
            Self::Pins(pins, _) if pins.hold(end_entity) => Ok(ServerCertVerified::assertion()),
            Self::Pins(..) => Err(Distrust::error(end_entity, None)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self {
            Self::Platform(platform) => platform.verify_tls12_signature(message, cert, signature),
            Self::Pins(_, provider) => {
                verify_tls12_signature(message, cert, signature, &provider.signature_verification_algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self {
            Self::Platform(platform) => platform.verify_tls13_signature(message, cert, signature),
            Self::Pins(_, provider) => {
                verify_tls13_signature(message, cert, signature, &provider.signature_verification_algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self {
            Self::Platform(platform) => platform.supported_verify_schemes(),
            Self::Pins(_, provider) => provider.signature_verification_algorithms.supported_schemes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::tests::write_certificate;
    use super::*;

    async fn shake(trust: Trust, server: Arc<rustls::ServerConfig>) -> Result<Option<Vec<u8>>, io::Error> {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let accepted = tokio::spawn(TlsAcceptor::from(server).accept(far));
        let connector = TlsConnector::from(client_config(&trust).map_err(io::Error::other)?);
        let stream = connector.connect(server_name("localhost").unwrap(), near).await?;
        accepted.await.unwrap()?;
        Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    }

    #[tokio::test]
    async fn a_pinned_key_is_trusted_and_another_is_told() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (cert, key, der) = write_certificate(dir.path());
        let (_, _, stranger) = write_certificate(other.path());
        let server = super::super::server_config(&cert, &key).unwrap();
        let pin = pin_of(&der.into()).unwrap();
        let trust = |pin: &str| Trust::Pins(pin.parse().unwrap());
        assert_eq!(shake(trust(&pin), server.clone()).await.unwrap().as_deref(), Some(ALPN_H2));
        let wrong = pin_of(&stranger.into()).unwrap();
        let error = shake(trust(&wrong), server.clone()).await.expect_err("another key");
        assert_eq!(Distrust::of(&error), Some(&Distrust { presented: Some(pin), why: None }));
    }

    #[tokio::test]
    async fn a_key_that_did_not_sign_the_handshake_is_not_trusted() {
        // The pinned certificate is public; showing it without its key must not do.
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, _, der) = write_certificate(dir.path());
        let (_, thief, _) = write_certificate(other.path());
        let der = CertificateDer::from(der);
        let key = rustls_pki_types::PrivateKeyDer::try_from(std::fs::read(&thief).unwrap());
        assert!(key.is_err(), "PEM is no DER");
        let key =
            <rustls_pki_types::PrivateKeyDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_file(&thief);
        let signer = rustls::crypto::ring::sign::any_supported_type(&key.unwrap()).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![der.clone()], signer);
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
        let trust = Trust::Pins(pin_of(&der).unwrap().parse().unwrap());
        assert!(shake(trust, Arc::new(config)).await.is_err());
    }

    #[tokio::test]
    async fn nobody_vouches_for_a_self_signed_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key, der) = write_certificate(dir.path());
        let server = super::super::server_config(&cert, &key).unwrap();
        let error = shake(Trust::Platform, server).await.expect_err("self-signed");
        let distrust = Distrust::of(&error).expect("its certificate");
        assert_eq!(distrust.presented, pin_of(&der.into()).ok());
        assert!(distrust.why.is_some());
    }

    /// `openssl req -x509` makes a certificate that calls itself an authority, unless it is told not to.
    #[tokio::test]
    async fn a_certificate_that_is_its_own_authority_is_called_that() {
        let dir = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let server = super::super::server_config(&cert_file, &key_file).unwrap();
        let error = shake(Trust::Platform, server).await.expect_err("self-signed");
        assert_eq!(Distrust::of(&error).unwrap().to_string(), "the certificate is signed by itself");
    }
}
