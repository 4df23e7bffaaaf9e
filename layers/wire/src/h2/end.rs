//! One HTTP/2 stream as an endpoint.
//!
//! Invariant: window credit goes back only for bytes that were consumed, so a stream that nobody reads holds no
//! more than its window; an idle stream reserves next to nothing of the connection's.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use swiftproxy_core::endpoint::Endpoint;

use super::io_error;
use super::queue::{Place, Queue};

/// A CONNECT stream (RFC 9113 §8.5), of either side.
///
/// Dropped before both ways ended it resets the stream, for a session that was cut must not look complete.
pub struct H2End {
    send: SendStream<Bytes>,
    recv: RecvStream,
    queue: Queue,
    place: Place,
    held: Bytes,
    ended: bool,
    finished: bool,
}

impl H2End {
    /// The stream's two halves: on a server those of the response and the request, on a client of the request
    /// and the response. `queue` is the connection's.
    pub fn new(send: SendStream<Bytes>, recv: RecvStream, queue: Queue) -> Self {
        Self { send, recv, queue, place: Place::default(), held: Bytes::new(), ended: false, finished: false }
    }

    fn credit(&mut self, n: usize) {
        // What fails here is a stream that is closed already, whose credit went back then.
        let _ = self.recv.flow_control().release_capacity(n);
    }

    /// After the last DATA: nothing, or trailers, which a connected stream must not carry (RFC 9113 §8.5).
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if ready!(self.recv.poll_trailers(cx)).map_err(io_error)?.is_some() {
            self.send.send_reset(Reason::PROTOCOL_ERROR);
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "trailers on a connected stream",
            )));
        }
        self.ended = true;
        Poll::Ready(Ok(()))
    }

    /// Why nothing can be sent any more.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.finished {
            return Poll::Ready(io::ErrorKind::BrokenPipe.into());
        }
        Poll::Ready(match self.send.poll_reset(cx) {
            // It has said all it had to say, and wants nothing more (RFC 9113 §8.1).
            Poll::Ready(Ok(Reason::NO_ERROR)) => io::ErrorKind::BrokenPipe.into(),
            Poll::Ready(Ok(reason)) => {
                io::Error::new(io::ErrorKind::ConnectionReset, h2::Error::from(reason))
            }
            Poll::Ready(Err(error)) => io_error(error),
            Poll::Pending => io::ErrorKind::ConnectionReset.into(),
        })
    }
}

impl Endpoint for H2End {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.is_empty() && !self.ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(chunk) => self.held = chunk.map_err(io_error)?,
                None => return self.poll_end(cx),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn lent(&self) -> &[u8] {
        &self.held
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.held.len());
        self.held.advance(n);
        self.credit(n);
        if self.held.is_empty() {
            // Lets go of the frame's memory.
            self.held = Bytes::new();
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(cx))?;
        let n = self.held.len().min(into.len());
        into[..n].copy_from_slice(&self.held[..n]);
        self.consume(n);
        Poll::Ready(Ok(n))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.send.capacity() > 0 {
                return self.place.poll_room(&self.queue, cx).map(Ok);
            }
            // One byte is enough to know, and little enough to keep while there is nothing to send.
            self.send.reserve_capacity(1);
            if self.send.capacity() > 0 {
                continue;
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(capacity) => {
                    capacity.map_err(io_error)?;
                }
                None => return self.poll_broken(cx).map(Err),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(bytes.len());
        if self.send.capacity() == 0 {
            ready!(self.poll_writable(cx))?;
            self.send.reserve_capacity(bytes.len());
        }
        let mut room = loop {
            match self.queue.try_hold(self.send.capacity().min(bytes.len())) {
                Some(room) => break room,
                // Waiting keeps nothing of the connection's window but a byte.
                None => {
                    self.send.reserve_capacity(1);
                    ready!(self.poll_writable(cx))?;
                    self.send.reserve_capacity(bytes.len());
                }
            }
        };
        let n = room.bytes().min(self.send.capacity());
        room.keep(n);
        if let Err(error) = self.send.send_data(room.hold(bytes[..n].to_vec()), false) {
            return match self.poll_broken(cx) {
                Poll::Ready(broken) => Poll::Ready(Err(broken)),
                Poll::Pending => Poll::Ready(Err(io_error(error))),
            };
        }
        Poll::Ready(Ok(n))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            if self.send.send_data(Bytes::new(), true).is_err() {
                return self.poll_broken(cx).map(Err);
            }
            self.finished = true;
        }
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self) {
        self.send.send_reset(Reason::CONNECT_ERROR);
    }
}
