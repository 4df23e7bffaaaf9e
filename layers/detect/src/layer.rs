//! The outermost layer: a connection in, many sessions out.
//!
//! Invariant: a connection whose session is piped holds nothing of its handshake any more.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, ready};

use swiftproxy_core::BoxFuture;
use swiftproxy_core::connection::Connection;
use swiftproxy_core::credentials::Authenticator;
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::opened::Opened;
use swiftproxy_core::stack::Stack;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::config::Settings;
use crate::context::Context;
use crate::talk::talk;

/// What a handshake comes to: a session and the client's end of it, to be piped; or nothing more to do.
pub(crate) type Next = Option<(Opened, Box<dyn Endpoint>)>;

/// The layer of one listener.
pub struct Detect {
    listener: Arc<Listener>,
    authenticator: Option<Arc<dyn Authenticator>>,
    settings: Arc<Settings>,
}

impl Detect {
    pub(crate) fn new(
        listener: Arc<Listener>,
        authenticator: Option<Arc<dyn Authenticator>>,
        settings: Arc<Settings>,
    ) -> Self {
        Self { listener, authenticator, settings }
    }
}

impl Layer<Stack> for Detect {
    type Service = Front;

    fn layer(&self, stack: Stack) -> Front {
        Front(Arc::new(Shared {
            stack,
            listener: self.listener.clone(),
            authenticator: self.authenticator.clone(),
            settings: self.settings.clone(),
        }))
    }
}

struct Shared {
    stack: Stack,
    listener: Arc<Listener>,
    authenticator: Option<Arc<dyn Authenticator>>,
    settings: Arc<Settings>,
}

/// Serves connections.
#[derive(Clone)]
pub struct Front(Arc<Shared>);

impl Front {
    /// A new client's surroundings, if there is room for another handshake.
    pub(crate) fn context(&self, client: SocketAddr) -> Option<Context> {
        let shared = &self.0;
        let Some(pass) = shared.settings.gate.enter(client.ip()) else {
            shared.listener.node().count_refusal(Refusal::TooManyConnections);
            tracing::debug!(%client, "too many handshakes at a time");
            return None;
        };
        Some(Context {
            stack: shared.stack.clone(),
            listener: shared.listener.clone(),
            client,
            authenticator: shared.authenticator.clone(),
            settings: shared.settings.clone(),
            pass: Mutex::new(Some(pass)),
        })
    }
}

impl Service<Connection> for Front {
    type Response = ();
    type Error = Infallible;
    type Future = Serving;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection) -> Serving {
        let deadline = Instant::now() + self.0.settings.handshake_timeout;
        match self.context(connection.client) {
            Some(context) => Serving::new(Box::pin(talk(context, connection.stream, deadline))),
            None => Serving(State::Done),
        }
    }
}

/// One connection from its first byte to its last. Small, for there is one for as long as a session lasts.
pub struct Serving(State);

enum State {
    Talk(BoxFuture<Next>),
    Pipe(BoxFuture<()>),
    Done,
}

impl Serving {
    /// From a talk on.
    pub(crate) fn new(talk: BoxFuture<Next>) -> Self {
        Self(State::Talk(talk))
    }
}

impl Future for Serving {
    type Output = Result<(), Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        loop {
            self.0 = match &mut self.0 {
                State::Talk(talk) => match ready!(talk.as_mut().poll(cx)) {
                    Some((opened, client)) => State::Pipe(opened.run(client)),
                    None => State::Done,
                },
                State::Pipe(pipe) => {
                    ready!(pipe.as_mut().poll(cx));
                    State::Done
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Proxy;

    #[tokio::test]
    async fn what_lasts_is_small() {
        assert!(size_of::<Serving>() <= 24);
        let proxy = Proxy::start("{}", None).await;
        let context = proxy.front.context(proxy.addr).expect("room");
        let stream = proxy.connect().await;
        let talk = talk(context, stream, Instant::now());
        // One for as long as a handshake lasts.
        assert!(size_of_val(&talk) <= 2048, "{} bytes", size_of_val(&talk));
    }
}
