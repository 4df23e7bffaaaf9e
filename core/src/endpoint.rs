//! Pull-style ends of a relay: an engine asks when an end is readable, then reads straight into where the
//! other end wants the bytes.
//!
//! Invariant: `poll_readable` reads nothing from a socket, so a flow that waits for bytes holds no grant.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Which end failed while one read straight from the other.
#[derive(Debug)]
pub enum DrawError {
    /// The end that was read from.
    Source(io::Error),
    /// The end that was to send.
    Sink(io::Error),
}

/// One end of a relay: the client's, or the target's.
pub trait Endpoint: Send {
    /// Ready when a read would give something: bytes, the end of the stream, or an error.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes that are in memory already and come before whatever [`poll_read`](Self::poll_read) gives.
    fn lent(&self) -> &[u8] {
        &[]
    }

    /// Takes `n` of the [`lent`](Self::lent) bytes off.
    fn consume(&mut self, n: usize) {
        debug_assert_eq!(n, 0, "this end lends nothing");
    }

    /// Reads into `into`, lent bytes first; 0 is the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// The same into several places, each filled before the next.
    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        match into.iter_mut().find(|slice| !slice.is_empty()) {
            Some(first) => self.poll_read(cx, first),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Ready when a write would take at least one byte, or fail.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes some of `bytes`; what was taken is counted.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Reads at most `most` bytes of `source`, none of which are lent, straight to where this end sends from, and takes
    /// all that was read; 0 is the end of `source`. None where this end has no such place: read into a buffer, and
    /// [`poll_write`](Self::poll_write).
    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Endpoint,
        most: usize,
    ) -> Option<Poll<Result<usize, DrawError>>> {
        let _ = (cx, source, most);
        None
    }

    /// Says that no more bytes follow (half-close). Called again until ready.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether dropping it, once its own bytes have ended, says what [`poll_finish`](Self::poll_finish) says. Then the
    /// last of both ways needs no call of its own.
    fn finishes_by_drop(&self) -> bool {
        false
    }

    /// Makes the drop an abort: RST, or RST_STREAM with CONNECT_ERROR (RFC 9113 §8.5).
    fn reset(&mut self);

    /// Sees to it that a peer which vanishes in a rest is noticed, where nothing else does. Asked of a target once its
    /// session [has lasted](crate::live::Live::is_long) for a while.
    fn keep_alive(&mut self) {}

    /// The bare socket behind it, for engines that move bytes inside the kernel; none where bytes are framed.
    fn tcp(&mut self) -> Option<&mut TcpStream> {
        None
    }
}

/// Whether a read that gave less than there was room for will be followed by an event of its own once there is more, as
/// with epoll's edges (epoll(7), questions and answers, 9).
const TELLS_BY_SHORT_READS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// How often a silent peer is asked again before it counts as gone.
const PROBES: Duration = Duration::from_secs(15);

/// A TCP connection, with the bytes that were read ahead of the relay (early data).
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    early: Box<[u8]>,
    taken: usize,
    keepalive: Option<Duration>,
}

impl Tcp {
    /// A connection of which nothing was read yet.
    pub fn new(stream: TcpStream) -> Self {
        Self::with_early(stream, Vec::new())
    }

    /// A connection whose first bytes, `early`, were read already.
    pub fn with_early(stream: TcpStream, early: Vec<u8>) -> Self {
        Self { stream, early: early.into_boxed_slice(), taken: 0, keepalive: None }
    }

    /// The same, asked whether its peer is still there when it is silent for so long, once that may matter.
    #[must_use]
    pub fn asked_after(mut self, silence: Duration) -> Self {
        self.keepalive = Some(silence);
        self
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Endpoint for Tcp {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.early.len() { Poll::Ready(Ok(())) } else { self.stream.poll_read_ready(cx) }
    }

    fn lent(&self) -> &[u8] {
        &self.early[self.taken..]
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

    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.lent().is_empty() {
            let first = into.iter_mut().find(|slice| !slice.is_empty());
            return first.map_or(Poll::Ready(Ok(0)), |first| self.poll_read(cx, first));
        }
        let room: usize = into.iter().map(|slice| slice.len()).sum();
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut read = None;
            let outcome = self.stream.try_io(Interest::READABLE, || {
                let n = self.stream.try_read_vectored(into)?;
                read = Some(n);
                // Less than there was room for: the socket is empty, and need not be asked to say so.
                if TELLS_BY_SHORT_READS && 0 < n && n < room {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(n)
            });
            match (read, outcome) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                // Only now is it known that nothing is there; the next look waits.
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, outcome) => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Closing a socket of which everything was read sends FIN.
    fn finishes_by_drop(&self) -> bool {
        true
    }

    fn reset(&mut self) {
        // What fails here is a socket that is gone already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn keep_alive(&mut self) {
        if let Some(silence) = self.keepalive.take() {
            let keepalive = TcpKeepalive::new().with_time(silence).with_interval(PROBES);
            // What fails here is a socket that is gone already.
            let _ = SockRef::from(&self.stream).set_tcp_keepalive(&keepalive);
        }
    }

    fn tcp(&mut self) -> Option<&mut TcpStream> {
        self.early.is_empty().then_some(&mut self.stream)
    }
}

/// An [`Endpoint`] as tokio's streams, for code that speaks to those (a TLS or HTTP library).
pub struct AsStream<E>(pub E);

impl<E: Endpoint + Unpin> AsyncRead for AsStream<E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.0.poll_read(cx, buffer.initialize_unfilled()))?;
        buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<E: Endpoint + Unpin> AsyncWrite for AsStream<E> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.0.poll_write(cx, first)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_finish(cx)
    }
}

impl<E: Endpoint + ?Sized> Endpoint for Box<E> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_readable(cx)
    }
    fn lent(&self) -> &[u8] {
        (**self).lent()
    }
    fn consume(&mut self, n: usize) {
        (**self).consume(n);
    }
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, into)
    }
    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        (**self).poll_read_vectored(cx, into)
    }
    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Endpoint,
        most: usize,
    ) -> Option<Poll<Result<usize, DrawError>>> {
        (**self).poll_write_from(cx, source, most)
    }
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_writable(cx)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, bytes)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_finish(cx)
    }
    fn finishes_by_drop(&self) -> bool {
        (**self).finishes_by_drop()
    }
    fn reset(&mut self) {
        (**self).reset();
    }
    fn keep_alive(&mut self) {
        (**self).keep_alive();
    }
    fn tcp(&mut self) -> Option<&mut TcpStream> {
        (**self).tcp()
    }
}
