//! `direct`: dials the target itself, and pipes.
//!
//! Invariant: an address is judged before it is dialled, and what was judged is what is dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use schemars::JsonSchema;
use serde::Deserialize;
use swiftproxy_core::BoxFuture;
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::endpoint::Tcp;
use swiftproxy_core::error::{BuildError, Refusal};
use swiftproxy_core::live::Live;
use swiftproxy_core::opened::{self, Opened};
use swiftproxy_core::registry::{Build, RelayConfig};
use swiftproxy_core::session::Session;
use swiftproxy_core::target::Host;
use swiftproxy_core::units::Span;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::Service;

use crate::engine::Engine;

pub(crate) mod attempt;
pub(crate) mod eyeballs;
mod resolve;
#[cfg(test)]
mod tests;

use attempt::Attempt;
use resolve::Resolver;

/// Dials targets from this machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long resolving and connecting may take together.
    pub connect_timeout: Span,
    /// How long a connection is silent before it is asked whether its peer is still there (TCP keepalive). Those of
    /// sessions that end within a few seconds are not.
    pub keepalive: Span,
    /// Ends a session in which no byte moved for that long, in whole seconds. Absent: none is ended.
    pub idle_timeout: Option<Span>,
    /// The local address to dial from. Targets of the other address family cannot be reached then.
    #[schemars(example = "192.0.2.1")]
    pub bind: Option<IpAddr>,
    /// Moves bulk inside the kernel where both ends are plain TCP (Linux only).
    pub splice: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Span::secs(10),
            keepalive: Span::secs(60),
            idle_timeout: None,
            bind: None,
            splice: true,
        }
    }
}

impl RelayConfig for Config {
    const KIND: &'static str = "direct";
    const SUMMARY: &'static str = "Dials the target from this machine.";
    type Relay = Direct;

    fn build(self, build: &mut Build<'_>) -> Result<Direct, BuildError> {
        if self.connect_timeout.0.is_zero() {
            return Err(build.error("connect_timeout", "leaves no time", "write a time such as \"10s\""));
        }
        for (key, span) in [("keepalive", Some(self.keepalive)), ("idle_timeout", self.idle_timeout)] {
            if span.is_some_and(|span| span.0 < Duration::from_secs(1)) {
                return Err(build.error(key, "is less than a second", "write a time such as \"60s\""));
            }
        }
        Ok(Direct(Arc::new(Inner {
            connect_timeout: self.connect_timeout.0,
            idle_timeout: self.idle_timeout.map(|span| span.0),
            keepalive: self.keepalive.0,
            bind: self.bind,
            resolver: build.node.state("resolver", Resolver::default),
            engine: Engine::of(build.node, self.splice),
        })))
    }
}

/// The relay.
#[derive(Clone)]
pub struct Direct(Arc<Inner>);

struct Inner {
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    keepalive: Duration,
    bind: Option<IpAddr>,
    resolver: Arc<Resolver>,
    engine: Arc<dyn opened::Engine>,
}

type Answer = Result<Opened, Refusal>;

impl Service<Session> for Direct {
    type Response = Opened;
    type Error = Refusal;
    type Future = Either<std::future::Ready<Answer>, BoxFuture<Answer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, session: Session) -> Self::Future {
        let answer = |answer| Either::Left(std::future::ready(answer));
        if session.target().port == 0 {
            // What dialling it would meet.
            return answer(Err(Refusal::Refused));
        }
        let relay = self.0.clone();
        let Some(addr) = session.target().addr() else {
            return Either::Right(Box::pin(relay.open_by_name(session)));
        };
        // An address is dialled at once; near ones answer at once.
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let started = session.check_address(addr).and_then(|()| attempt::start(addr, relay.bind));
        match started {
            Err(refusal) => answer(Err(refusal)),
            Ok(Attempt::Connected(stream)) => answer(relay.opened(session, addr, stream)),
            Ok(attempt) => Either::Right(Box::pin(relay.open_pending(session, addr, attempt))),
        }
    }
}

impl Inner {
    async fn open_pending(
        self: Arc<Self>,
        session: Session,
        addr: SocketAddr,
        mut attempt: Attempt,
    ) -> Answer {
        let deadline = Instant::now() + self.connect_timeout;
        let live = session.live().clone();
        let connected = std::future::poll_fn(|cx| attempt.poll(cx));
        let stream = unless_over(&live, deadline, Refusal::Timeout, connected).await??;
        self.opened(session, addr, stream)
    }

    async fn open_by_name(self: Arc<Self>, session: Session) -> Answer {
        let deadline = Instant::now() + self.connect_timeout;
        let live = session.live().clone();
        let port = session.target().port;
        let found = match &session.target().host {
            Host::Domain(name) => {
                let lookup = self.resolver.resolve(name, port);
                unless_over(&live, deadline, Refusal::DnsFailed, lookup).await??
            }
            Host::Ip(_) => return Err(Refusal::Internal),
        };
        let mut denied = None;
        let mut allowed = eyeballs::interleave(found.into_iter());
        allowed.retain(|addr| match session.check_address(*addr) {
            Ok(()) => true,
            Err(refusal) => {
                denied.get_or_insert(refusal);
                false
            }
        });
        if allowed.is_empty() {
            return Err(denied.unwrap_or(Refusal::DnsFailed));
        }
        let race = eyeballs::race(&allowed, self.bind);
        let (addr, stream) = unless_over(&live, deadline, Refusal::Timeout, race).await??;
        self.opened(session, addr, stream)
    }

    fn opened(&self, session: Session, addr: SocketAddr, stream: TcpStream) -> Answer {
        let bound = stream.local_addr().ok();
        if bound == Some(addr) {
            // A port nobody listens on can happen to be the one we dial from, and then answers itself.
            return Err(Refusal::Refused);
        }
        session.live().set_dialled(addr);
        if let Some(after) = self.idle_timeout {
            session.live().end_when_idle(after);
        }
        let target = Tcp::new(stream).asked_after(self.keepalive);
        Ok(Opened::new(session, bound, Box::new(target), self.engine.clone()))
    }
}

/// What `work` comes to, unless its time is over before or the session is.
async fn unless_over<T>(
    live: &Live,
    deadline: Instant,
    late: Refusal,
    work: impl Future<Output = T>,
) -> Result<T, Refusal> {
    let mut work = std::pin::pin!(tokio::time::timeout_at(deadline, work));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(reason) = live.cancel.poll(cx) {
            return Poll::Ready(Err(match reason {
                Reason::Disabled | Reason::Removed => Refusal::AccountDisabled,
                Reason::Shutdown => Refusal::Draining,
                Reason::Kicked | Reason::Denied => Refusal::Denied,
                Reason::Idle => Refusal::Timeout,
            }));
        }
        work.as_mut().poll(cx).map(|done| done.map_err(|_| late))
    })
    .await
}
