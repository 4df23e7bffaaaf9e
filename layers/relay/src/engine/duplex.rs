//! Both ways of a session as one future.
//!
//! Invariant: however it ends, each end learns how: by the other's FIN, or by RST where something was cut.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::meter::Direction;
use swiftproxy_core::session::Session;

use super::Shared;
use super::flow::{Broken, Flow, Way};

pub(super) struct Duplex {
    shared: Arc<Shared>,
    session: Session,
    client: Box<dyn Endpoint>,
    target: Box<dyn Endpoint>,
    up: Flow,
    down: Flow,
    kept_alive: bool,
    over: bool,
}

impl Duplex {
    pub(super) fn new(
        shared: Arc<Shared>,
        session: Session,
        client: Box<dyn Endpoint>,
        target: Box<dyn Endpoint>,
    ) -> Self {
        let (up, down) = (Flow::new(Direction::Up), Flow::new(Direction::Down));
        Self { shared, session, client, target, up, down, kept_alive: false, over: false }
    }

    fn poll_flows(&mut self, cx: &mut Context<'_>) -> Poll<Result<&'static str, &'static str>> {
        let mut way = Way {
            meter: &self.session.meter,
            shared: &self.shared,
            splice_after: self.session.must_copy().map_or(self.shared.splice_after, |_| None),
            last: self.down.has_ended(),
        };
        let (client, target) = (&mut *self.client, &mut *self.target);
        let up = self.up.poll(cx, &way, client, target);
        let up = up.map_err(|broken| {
            label(broken, ["client_reset", "client_timeout"], ["target_reset", "target_timeout"])
        })?;
        way.last = self.up.has_ended();
        let down = self.down.poll(cx, &way, target, client);
        let down = down.map_err(|broken| {
            label(broken, ["target_reset", "target_timeout"], ["client_reset", "client_timeout"])
        })?;
        if up.is_pending() || down.is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(match (self.up.is_shut(), self.down.is_shut()) {
            (_, true) => "client_closed",
            (true, _) => "target_closed",
            _ => "done",
        }))
    }

    fn cut(&mut self) {
        self.client.reset();
        self.target.reset();
    }
}

/// The word for a failure of a flow's source or sink: cut by the peer, or by the kernel for want of an answer.
fn label(broken: Broken, source: [&'static str; 2], sink: [&'static str; 2]) -> &'static str {
    let (error, [reset, timeout]) = match broken {
        Broken::Source(error) => (error, source),
        Broken::Sink(error) => (error, sink),
    };
    if error.kind() == io::ErrorKind::TimedOut { timeout } else { reset }
}

impl Future for Duplex {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let cancelled = this.session.live().cancel.poll(cx);
        // Looked at once our waker is registered: whoever told it before would have woken nobody.
        if !this.kept_alive && this.session.live().is_long() {
            this.kept_alive = true;
            this.target.keep_alive();
        }
        let outcome = match cancelled {
            Poll::Ready(reason) => Err(reason.label()),
            Poll::Pending => match this.poll_flows(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => outcome,
            },
        };
        if outcome.is_err() {
            this.cut();
        }
        this.over = true;
        let (Ok(label) | Err(label)) = outcome;
        this.session.live().set_outcome(label);
        Poll::Ready(())
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(self.up.held() + self.down.held(), Relaxed);
        if !self.over {
            self.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<Duplex>();
        assert!(size <= 640, "{size} bytes");
    }
}
