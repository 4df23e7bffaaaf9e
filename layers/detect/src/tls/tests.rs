use std::io;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use swiftproxy_wire::tls::ALPN_HTTP1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::*;
use crate::testing::{BOUND, Certificate, Passwords, Proxy};

/// Sends so many bytes at a time.
struct Chop(TcpStream, usize);

impl AsyncRead for Chop {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Chop {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.1.min(bytes.len());
        Pin::new(&mut self.0).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn connect_over_http1_however_it_is_split() {
    let certificate = Certificate::new();
    let proxy = Proxy::start(&certificate.table(), None).await;
    let alpns: [&[&[u8]]; 3] = [&[ALPN_HTTP1], &[], &[ALPN_HTTP1, b"h2c"]];
    for (step, alpn) in [1, 7, usize::MAX].into_iter().zip(alpns) {
        let stream = Chop(proxy.connect().await, step);
        let mut stream = certificate.connect(stream, alpn).await.unwrap();
        let asked = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\nearly data";
        stream.write_all(asked).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        assert!(got.contains(&format!("proxy-status: swiftproxy; bound=\"{BOUND}\"\r\n")), "{got}");
        assert!(got.ends_with("\r\n\r\nhello early data"), "{got}");
    }
    assert!(proxy.seen().iter().all(|seen| seen.protocol == "connect" && seen.target == "example.org:443"));
}

#[tokio::test]
async fn an_owner_hears_of_the_account_over_http1() {
    let certificate = Certificate::new();
    let proxy = Proxy::start(&certificate.table(), Some(Passwords::default())).await;
    let mut stream = certificate.connect(proxy.connect().await, &[ALPN_HTTP1]).await.unwrap();
    let login = "Proxy-Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n";
    for (login, close) in [(login, ""), ("", ""), (login, "Connection: close\r\n")] {
        let path = crate::tunnel::account::PATH;
        let asked = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{login}{close}\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
    }
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    let statuses: Vec<_> = got.match_indices("HTTP/1.1 ").map(|(at, _)| &got[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "407", "200"], "{got}");
    assert_eq!(got.matches(r#"{"name":"alice","rate_up":1000,"#).count(), 2, "{got}");
    assert_eq!(got.matches("cache-control: no-store\r\n").count(), 3, "{got}");
}

#[tokio::test]
async fn http2_where_it_was_agreed() {
    let certificate = Certificate::new();
    let proxy = Proxy::start(&certificate.table(), None).await;
    let stream = certificate.connect(proxy.connect().await, &[ALPN_H2, ALPN_HTTP1]).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let asked = ::http::Request::connect("example.org:443").body(()).unwrap();
    let (response, _send) = client.ready().await.unwrap().send_request(asked, false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(&body.data().await.unwrap().unwrap()[..], b"hello ");
    assert_eq!(proxy.seen()[0].protocol, "h2");
}

#[tokio::test]
async fn a_handshake_that_is_none_gets_an_alert() {
    let certificate = Certificate::new();
    let proxy = Proxy::start(&certificate.table(), None).await;
    // A record whose handshake message is none, and a certificate that the client does not trust.
    let got = proxy.talk(&[0x16, 3, 1, 0, 5, 99, 0, 0, 1, 0, 1, 2, 3], 99, false).await;
    assert_eq!(got.first(), Some(&0x15), "{got:?}");
    let stranger = Certificate::new();
    assert!(stranger.connect(proxy.connect().await, &[ALPN_H2]).await.is_err());
    crate::testing::until(|| proxy.refusals(Refusal::Malformed) == 2).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_ends_at_the_deadline() {
    let certificate = Certificate::new();
    let proxy = Proxy::start(&certificate.table(), None).await;
    assert_eq!(proxy.talk(&[0x16, 3, 1, 2], 99, false).await, b"");
    crate::testing::until(|| proxy.refusals(Refusal::HandshakeTimeout) == 1).await;
}
