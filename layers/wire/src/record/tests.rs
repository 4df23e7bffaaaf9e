//! Against rustls's own record layer, over pipes in memory.

use std::io::ErrorKind;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring as suites};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::tls::tests::write_certificate;
use crate::tls::{Trust, client_config, pin_of, server_config, server_name};

type Ours = Stream<DuplexStream>;

/// Configurations of both sides that trust each other and let secrets out.
pub(crate) fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, der) = write_certificate(dir.path());
    let trust = Trust::Pins(pin_of(&der.into()).unwrap().parse().unwrap());
    let mut client = (*client_config(&trust).unwrap()).clone();
    let mut server = (*server_config(&cert, &key).unwrap()).clone();
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

fn localhost() -> rustls_pki_types::ServerName<'static> {
    server_name("localhost").unwrap()
}

async fn client(config: Arc<ClientConfig>, server: Arc<ServerConfig>) -> (Ours, Theirs) {
    let (near, far) = duplex(64 * 1024);
    let (ours, theirs) =
        tokio::join!(connect(near, config, localhost()), TlsAcceptor::from(server).accept(far));
    (ours.unwrap().into_stream(), theirs.unwrap().into())
}

type Theirs = tokio_rustls::TlsStream<DuplexStream>;

async fn server(config: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (Ours, Theirs) {
    let (near, far) = duplex(64 * 1024);
    let (ours, theirs) = tokio::join!(
        accept(near, Vec::new(), config, b"h2"),
        TlsConnector::from(client).connect(localhost(), far)
    );
    let Accepted::Channel(ours) = ours.unwrap() else { panic!("TLS 1.3 and h2 were offered") };
    assert_eq!(ours.alpn(), Some(&b"h2"[..]));
    (ours.into_stream(), theirs.unwrap().into())
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// Bytes both ways at once, then both ends.
async fn exchange(ours: Ours, theirs: Theirs, n: usize) {
    let sent = pattern(n);
    let side = |got: Vec<u8>| assert!(got == pattern(n));
    let (mut read, mut write) = tokio::io::split(ours);
    let (mut far_read, mut far_write) = tokio::io::split(theirs);
    let (mut got, mut far_got) = (Vec::new(), Vec::new());
    let (a, b, c, d) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        async {
            far_write.write_all(&sent).await?;
            far_write.shutdown().await
        },
        read.read_to_end(&mut got),
        far_read.read_to_end(&mut far_got),
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();
    d.unwrap();
    side(got);
    side(far_got);
}

#[tokio::test]
async fn each_cipher_both_roles() {
    let (client_side, server_side) = configs();
    let all = [
        suites::cipher_suite::TLS13_AES_128_GCM_SHA256,
        suites::cipher_suite::TLS13_AES_256_GCM_SHA384,
        suites::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    for suite in all {
        let provider = CryptoProvider { cipher_suites: vec![suite], ..suites::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(client_side.dangerous_verifier())
            .with_no_client_auth();
        config.alpn_protocols = client_side.alpn_protocols.clone();
        config.enable_secret_extraction = true;
        let config = Arc::new(config);
        let (ours, theirs) = client(config.clone(), server_side.clone()).await;
        assert_eq!(theirs.get_ref().1.negotiated_cipher_suite(), Some(suite));
        exchange(ours, theirs, 300_000).await;
        let (ours, theirs) = server(server_side.clone(), config).await;
        exchange(ours, theirs, 300_000).await;
    }
}

/// The verifier of a configuration, for one that differs elsewhere.
trait Verifier {
    fn dangerous_verifier(&self) -> Arc<dyn rustls::client::danger::ServerCertVerifier>;
}

#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        suites::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier for ClientConfig {
    fn dangerous_verifier(&self) -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
        Arc::new(Anyone)
    }
}

#[tokio::test]
async fn keys_change_by_the_limit_and_when_the_peer_changes_its_own() {
    let (client_side, server_side) = configs();
    for ours_is_client in [true, false] {
        let (mut ours, mut theirs) = if ours_is_client {
            client(client_side.clone(), server_side.clone()).await
        } else {
            server(server_side.clone(), client_side.clone()).await
        };
        ours.set_limit(3);
        match &mut theirs {
            tokio_rustls::TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
            tokio_rustls::TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
        }
        exchange(ours, theirs, 2_000_000).await;
    }
}

async fn send(stream: &mut Ours, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[tokio::test]
async fn two_of_ours_whose_keys_change_all_the_time() {
    let (client_side, server_side) = configs();
    let (near, far) = duplex(64 * 1024);
    let (ours, other) =
        tokio::join!(connect(near, client_side, localhost()), accept(far, Vec::new(), server_side, b"h2"));
    let Accepted::Channel(other) = other.unwrap() else { panic!("TLS 1.3 and h2 were offered") };
    let (mut ours, mut other) = (ours.unwrap().into_stream(), other.into_stream());
    ours.set_limit(1);
    other.set_limit(2);
    // Both ask the other to change, too.
    ours.ask_update();
    other.ask_update();
    let sent = pattern(1_000_000);
    for _ in 0..2 {
        let mut got = vec![0; sent.len()];
        let (a, b) = tokio::join!(send(&mut ours, &sent), other.read_exact(&mut got));
        a.unwrap();
        b.unwrap();
        assert!(got == sent);
        let (a, b) = tokio::join!(send(&mut other, &sent), ours.read_exact(&mut got));
        a.unwrap();
        b.unwrap();
        assert!(got == sent);
    }
}

#[tokio::test]
async fn tickets_are_kept_and_resume() {
    let (client_side, server_side) = configs();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut ours, mut theirs) = client(client_side.clone(), server_side.clone()).await;
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(expected));
        // The tickets come with the first data.
        theirs.write_all(b"x").await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
    }
    // As a server, too.
    let (_ours, theirs) = server(server_side.clone(), client_side.clone()).await;
    assert_eq!(theirs.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn a_connection_that_was_cut_is_not_one_that_ended() {
    let (client_side, server_side) = configs();
    let (mut ours, mut theirs) = client(client_side.clone(), server_side.clone()).await;
    theirs.shutdown().await.unwrap();
    assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
    let (mut ours, theirs) = client(client_side, server_side).await;
    drop(theirs);
    assert_eq!(ours.read(&mut [0; 8]).await.expect_err("cut").kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_was_tampered_with_ends_in_an_alert() {
    let (client_side, server_side) = configs();
    let (mut ours, mut theirs) = client(client_side, server_side).await;
    let (io, _) = theirs.get_mut();
    // A record of the right form and wrong content.
    let mut forged = vec![23, 3, 3, 0, 40];
    forged.extend_from_slice(&[7; 40]);
    io.write_all(&forged).await.unwrap();
    // The tickets of the handshake come first.
    let error = ours.read(&mut [0; 8]).await.expect_err("forged");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let fault = error.get_ref().unwrap().downcast_ref::<Fault>().copied();
    assert!(matches!(fault, Some(Fault::Peer { alert: 20, .. })), "{fault:?}");
    let told = theirs.read(&mut [0; 8]).await.expect_err("told");
    assert!(told.to_string().contains("BadRecordMac"), "{told}");
}

#[tokio::test]
async fn records_in_clear_text_too_long_or_without_content_are_faults() {
    let (client_side, server_side) = configs();
    let bad: [&[u8]; 4] =
        [&[20, 3, 3, 0, 1, 1], &[21, 3, 3, 0, 2, 1, 0], &[22, 3, 3, 0, 1, 1], &[23, 3, 3, 0x41, 0x01]];
    for record in bad {
        let (mut ours, mut theirs) = client(client_side.clone(), server_side.clone()).await;
        theirs.get_mut().0.write_all(record).await.unwrap();
        let error = ours.read(&mut [0; 8]).await.expect_err("a fault");
        assert!(error.get_ref().unwrap().is::<Fault>(), "{record:?}: {error}");
    }
}

#[tokio::test]
async fn others_are_handed_back_untouched() {
    let (client_side, server_side) = configs();
    let mut old = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(client_side.dangerous_verifier())
        .with_no_client_auth();
    old.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = duplex(64 * 1024);
    let old = tokio::spawn(TlsConnector::from(Arc::new(old)).connect(localhost(), far));
    let Accepted::Other(stream, received) =
        accept(near, Vec::new(), server_side.clone(), b"h2").await.unwrap()
    else {
        panic!("TLS 1.2");
    };
    let joined = tokio::io::join(std::io::Cursor::new(received), Vec::new());
    drop((joined, stream));
    assert!(old.await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_told_so() {
    let (_, server_side) = configs();
    let (other, _) = configs();
    let (near, far) = duplex(64 * 1024);
    let (ours, theirs) =
        tokio::join!(connect(near, other, localhost()), accept(far, Vec::new(), server_side, b"h2"));
    let error = ours.err().expect("another key");
    assert!(crate::tls::Distrust::of(&error).is_some(), "{error}");
    let told = theirs.err().expect("told").error;
    assert!(told.to_string().contains("alert"), "{told}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_a_fault_and_gets_one_alert() {
    let (client_side, _) = configs();
    let (near, mut far) = duplex(64 * 1024);
    let answer = async {
        far.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let (ours, heard) = tokio::join!(connect(near, client_side, localhost()), answer);
    assert_eq!(ours.err().expect("no TLS").kind(), ErrorKind::InvalidData);
    // A fatal alert of two bytes, decode_error (RFC 8446 §6.2).
    assert!(heard.ends_with(&[21, 3, 3, 0, 2, 2, 50]) && !heard.ends_with(&[2, 50, 21, 3, 3, 0, 2, 2, 50]));
}

#[tokio::test]
async fn a_channel_gives_what_it_received_again() {
    let (client_side, server_side) = configs();
    let (near, far) = duplex(64 * 1024);
    let (ours, theirs) = tokio::join!(
        accept(near, Vec::new(), server_side, b"h2"),
        TlsConnector::from(client_side).connect(localhost(), far)
    );
    let (Accepted::Channel(mut ours), mut theirs) = (ours.unwrap(), theirs.unwrap()) else {
        panic!("TLS 1.3 and h2 were offered")
    };
    theirs.write_all(b"once ").await.unwrap();
    theirs.write_all(b"more").await.unwrap();
    theirs.shutdown().await.unwrap();
    while ours.early().len() < 5 {
        ours.receive().await.unwrap();
    }
    assert!(ours.early().starts_with(b"once "));
    let mut got = String::new();
    ours.into_stream().read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "once more");
    let mut clear = Channel::clear(std::io::Cursor::new(b" twice".to_vec()), b"once".to_vec());
    clear.receive().await.unwrap();
    let mut got = String::new();
    clear.into_stream().read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "once twice");
}
