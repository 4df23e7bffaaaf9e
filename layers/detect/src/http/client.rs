//! The client's connection in its two halves.
//!
//! Invariant: bytes that were read and not used stay in order, whatever await their reader was dropped at; a
//! client that waits owns no buffer, and what it sends ahead is bounded by [`AHEAD`].

use std::future::{pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::ready;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use swiftproxy_wire::http1::{HeadError, HeadReader, RequestHead};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, timeout_at};

/// How many bytes are read at a time.
const CHUNK: usize = 16 << 10;

/// How many bytes a client may send ahead of an answer before it is read no more.
const AHEAD: usize = 64 << 10;

/// How long an answer may stand still once the client has ended its half. It may have gone for good, which looks
/// the same until something is written to it.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// How far an exchange is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How often something was written to the client.
    pub(super) writes: AtomicUsize,
    /// Whether the request's body was read whole.
    pub(super) uploaded: AtomicBool,
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum HeadFault {
    /// The client left.
    Gone,
    /// It was not there in time.
    Late,
    /// It is refused.
    Refused(HeadError),
}

/// Both halves of a connection of which `early` was read already.
pub(super) fn split<S: AsyncRead + AsyncWrite>(stream: S, early: Vec<u8>) -> (Reader<S>, Writer<S>) {
    let (read, write) = tokio::io::split(stream);
    (Reader { half: read, bytes: BytesMut::from(early.as_slice()), ended: false }, Writer { half: write })
}

/// What the client says.
pub(super) struct Reader<S> {
    half: ReadHalf<S>,
    /// Read and not used.
    pub(super) bytes: BytesMut,
    ended: bool,
}

/// What is said to the client.
pub(super) struct Writer<S> {
    half: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite> Reader<S> {
    /// The whole connection again, and what was not used.
    pub(super) fn join(self, writer: Writer<S>) -> (S, Vec<u8>)
    where
        S: Unpin,
    {
        (self.half.unsplit(writer.half), self.bytes.into())
    }

    /// Whether something is there already.
    pub(super) fn holds_bytes(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Waits for more bytes; 0 is the end. Reads into the worker's stack first, so that waiting takes no buffer.
    pub(super) async fn more(&mut self) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let n = poll_fn(|cx| {
            let mut scratch = [const { MaybeUninit::uninit() }; CHUNK];
            let mut chunk = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut self.half).poll_read(cx, &mut chunk))?;
            self.bytes.extend_from_slice(chunk.filled());
            std::task::Poll::Ready(io::Result::Ok(chunk.filled().len()))
        })
        .await?;
        self.ended = n == 0;
        Ok(n)
    }

    /// Reads a head that must be whole by `deadline`.
    pub(super) async fn head(&mut self, deadline: Instant) -> Result<RequestHead, HeadFault> {
        let mut reader = HeadReader::new();
        loop {
            if !self.bytes.is_empty()
                && let Some((head, n)) = reader.read(&self.bytes).map_err(HeadFault::Refused)?
            {
                self.bytes.advance(n.min(self.bytes.len()));
                return Ok(head);
            }
            match timeout_at(deadline, self.more()).await {
                Ok(Ok(n)) if n > 0 => {}
                Ok(_) => return Err(HeadFault::Gone),
                Err(_) if self.bytes.is_empty() => return Err(HeadFault::Gone),
                Err(_) => return Err(HeadFault::Late),
            }
        }
    }

    /// Waits until the client has gone. What it sends meanwhile is kept. One that has ended its half counts as
    /// there while its answer makes `progress`.
    pub(super) async fn gone(&mut self, progress: &Progress) {
        while !self.ended {
            if self.bytes.len() >= AHEAD {
                return pending().await;
            }
            if self.more().await.is_err() {
                return;
            }
        }
        loop {
            let before = progress.writes.load(Relaxed);
            sleep(HALF_CLOSED).await;
            if progress.writes.load(Relaxed) == before {
                return;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite> Writer<S> {
    /// Writes all of it, through to the socket.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.half.write_all(bytes).await?;
        self.half.flush().await
    }

    /// The same of bytes that lie in several places.
    pub(super) async fn say_all(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        self.half.write_all_buf(&mut bytes).await?;
        self.half.flush().await
    }
}
