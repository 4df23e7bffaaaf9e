//! An endpoint over TLS, for HTTP/1.1 CONNECT.
//!
//! Invariant: the end of the stream is the peer's close_notify (RFC 8446 §6.1); a connection that just closes
//! was cut, and is an error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use swiftproxy_core::endpoint::Endpoint;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A TLS connection, with the bytes that were read ahead of the relay (early data).
///
/// Sealed bytes that the socket did not take at once go out when [`poll_writable`](Endpoint::poll_writable),
/// [`poll_readable`](Endpoint::poll_readable) or [`poll_finish`](Endpoint::poll_finish) is polled.
#[derive(Debug)]
pub struct TlsEnd<S> {
    stream: TlsStream<S>,
    early: Box<[u8]>,
    taken: usize,
    unsent: bool,
    ended: bool,
    owed: usize,
}

/// A connection below TLS that can be cut.
pub trait Abort {
    /// Makes the drop an abort (RST).
    fn abort(&mut self);
}

impl Abort for TcpStream {
    fn abort(&mut self) {
        // What fails here is a socket that is gone already.
        let _ = self.set_zero_linger();
    }
}

impl Abort for tokio::io::DuplexStream {
    fn abort(&mut self) {}
}

impl<S> TlsEnd<S> {
    /// A connection whose first bytes, `early`, were read already.
    pub fn new(stream: impl Into<TlsStream<S>>, early: Vec<u8>) -> Self {
        Self {
            stream: stream.into(),
            early: early.into_boxed_slice(),
            taken: 0,
            unsent: false,
            ended: false,
            owed: 0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsEnd<S> {
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unsent = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin + Send> Endpoint for TlsEnd<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Its failure is the writer's to tell; what was received before it may still be read.
        let _ = self.flush(cx);
        if self.taken < self.early.len() {
            return Poll::Ready(Ok(()));
        }
        self.ended |= ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?.is_empty();
        Poll::Ready(Ok(()))
    }

    fn lent(&self) -> &[u8] {
        self.early.get(self.taken..).unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.early.len());
        if self.taken == self.early.len() {
            self.early = Box::default();
            self.taken = 0;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let lent = self.lent();
        if !lent.is_empty() {
            let n = lent.len().min(into.len());
            into[..n].copy_from_slice(&lent[..n]);
            self.consume(n);
            return Poll::Ready(Ok(n));
        }
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.flush(cx))?;
        if self.owed == 0 {
            self.owed = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            self.unsent = true;
            // What does not go out now is sent by whatever is polled next; this call's waker waits for the socket.
            let flushed = self.flush(cx)?;
            if self.ended {
                // Nobody polls the reading side any more: the bytes count as taken only when they are out.
                ready!(flushed);
            }
        }
        let n = self.owed.min(bytes.len());
        self.owed -= n;
        Poll::Ready(Ok(n))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn reset(&mut self) {
        match &mut self.stream {
            TlsStream::Client(stream) => stream.get_mut().0.abort(),
            TlsStream::Server(stream) => stream.get_mut().0.abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use swiftproxy_core::endpoint::AsStream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::tests::write_certificate;
    use super::super::{Trust, client_config, pin_of, server_config, server_name};
    use super::*;

    async fn pair() -> (TlsEnd<DuplexStream>, TlsStream<DuplexStream>) {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key, der) = write_certificate(dir.path());
        let trust = Trust::Pins(pin_of(&der.into()).unwrap().parse().unwrap());
        let connector = TlsConnector::from(client_config(&trust).unwrap());
        let acceptor = TlsAcceptor::from(Arc::clone(&server_config(&cert, &key).unwrap()));
        let (near, far) = tokio::io::duplex(4096);
        let (near, far) =
            tokio::join!(acceptor.accept(near), connector.connect(server_name("localhost").unwrap(), far));
        (TlsEnd::new(near.unwrap(), b"early ".to_vec()), far.unwrap().into())
    }

    #[tokio::test]
    async fn early_bytes_come_first_and_each_way_ends_on_its_own() {
        let (end, mut peer) = pair().await;
        let mut end = AsStream(end);
        peer.write_all(b"data").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut all = Vec::new();
        end.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"early data");
        let sent = vec![7; 100_000];
        let (got, _) = tokio::join!(
            async {
                let mut got = Vec::new();
                peer.read_to_end(&mut got).await.unwrap();
                got
            },
            async {
                end.write_all(&sent).await.unwrap();
                end.shutdown().await.unwrap();
            }
        );
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn what_the_socket_did_not_take_goes_out_while_reading_is_polled() {
        let (mut end, mut peer) = pair().await;
        end.consume(6);
        let n = std::future::poll_fn(|cx| end.poll_write(cx, &[1; 16 * 1024])).await.unwrap();
        let mut got = vec![0; n];
        tokio::select! {
            read = peer.read_exact(&mut got) => { read.unwrap(); }
            _ = std::future::poll_fn(|cx| end.poll_readable(cx)) => panic!("nothing was sent to it"),
        }
        assert!(end.early.is_empty() && got.iter().all(|byte| *byte == 1));
    }

    #[tokio::test]
    async fn a_connection_that_just_closes_was_cut() {
        let (mut end, peer) = pair().await;
        end.consume(6);
        drop(peer);
        let error = std::future::poll_fn(|cx| end.poll_readable(cx)).await.expect_err("no close_notify");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
