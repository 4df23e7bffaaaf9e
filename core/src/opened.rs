//! A session whose target is connected: what a relay answers, and what is then piped.
//!
//! Invariant: nothing was read from the client for it, and nothing is, before [`Opened::run`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::BoxFuture;
use crate::endpoint::Endpoint;
use crate::meter::{Direction, Wait};
use crate::session::Session;

/// Moves a session's bytes until both ways have ended.
pub trait Engine: Send + Sync {
    /// Pipes; ends when both ways ended, one failed, or the session was cancelled. The label of why goes to
    /// [`Live::set_outcome`](crate::live::Live::set_outcome).
    fn run(&self, session: Session, client: Box<dyn Endpoint>, target: Box<dyn Endpoint>) -> BoxFuture<()>;
}

/// A connected target, with its session.
pub struct Opened {
    session: Session,
    bound: Option<SocketAddr>,
    target: Box<dyn Endpoint>,
    engine: Arc<dyn Engine>,
}

impl Opened {
    /// What a relay answers. `bound` is the address it was dialled from, where that is known.
    pub fn new(
        session: Session,
        bound: Option<SocketAddr>,
        target: Box<dyn Endpoint>,
        engine: Arc<dyn Engine>,
    ) -> Self {
        Self { session, bound, target, engine }
    }

    /// The address the target sees.
    pub fn bound(&self) -> Option<SocketAddr> {
        self.bound
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Pipes between `client` and the target until the end.
    pub fn run(self, client: Box<dyn Endpoint>) -> BoxFuture<()> {
        self.engine.run(self.session, client, self.target)
    }

    /// The target's side as a stream that asks the meter and tells the taps, for a protocol that speaks to the
    /// target itself (forwarded HTTP).
    pub fn into_stream(self) -> TargetStream {
        TargetStream {
            session: self.session,
            target: self.target,
            waits: Default::default(),
            kept_alive: false,
        }
    }
}

/// A target's side under its session's meter.
pub struct TargetStream {
    session: Session,
    target: Box<dyn Endpoint>,
    waits: [Wait; 2],
    kept_alive: bool,
}

impl TargetStream {
    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn cancelled(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let cancelled = self.session.live().cancel.poll(cx);
        // Looked at once our waker is registered: whoever told it before would have woken nobody.
        if !self.kept_alive && self.session.live().is_long() {
            self.kept_alive = true;
            self.target.keep_alive();
        }
        match cancelled {
            Poll::Pending => Ok(()),
            Poll::Ready(reason) => {
                self.session.live().set_outcome(reason.label());
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason.label()))
            }
        }
    }
}

impl AsyncRead for TargetStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cancelled(cx)?;
        ready!(this.target.poll_readable(cx))?;
        let want = into.remaining();
        let [_, wait] = &mut this.waits;
        let grant = ready!(this.session.meter.poll_reserve(cx, Direction::Down, want, wait));
        let room = into.initialize_unfilled_to(grant.bytes().min(want));
        let n = ready!(this.target.poll_read(cx, room))?;
        grant.spend(n);
        this.session.meter.count(Direction::Down, n);
        into.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TargetStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cancelled(cx)?;
        ready!(this.target.poll_writable(cx))?;
        let [wait, _] = &mut this.waits;
        let grant = ready!(this.session.meter.poll_reserve(cx, Direction::Up, bytes.len(), wait));
        let n = ready!(this.target.poll_write(cx, &bytes[..grant.bytes().min(bytes.len())]))?;
        grant.spend(n);
        this.session.meter.count(Direction::Up, n);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().target.poll_finish(cx)
    }
}
