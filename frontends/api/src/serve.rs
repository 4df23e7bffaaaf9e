//! The API of one node: what it runs by, and its accept loop.
//!
//! Invariant: a connection beyond the cap, or its address's share of it, is answered and closed at once, and none is
//! left when [`Api::run`] ends but those that outstay the grace.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use swiftproxy_core::node::Node;
use swiftproxy_stats::Sampler;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::access::Failures;
use crate::config::{ApiConfig, Settings};
use crate::io::{Held, Slot};
use crate::routes;
use crate::share::Shares;

/// The bounds of everything a peer can make us wait for or hold.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Connections at a time.
    pub(crate) connections: u32,
    /// Those of one address.
    pub(crate) share: u32,
    /// For a request's head, idle connections included.
    pub(crate) head: Duration,
    /// For a request's body.
    pub(crate) body: Duration,
    /// For a peer to take some bytes.
    pub(crate) write: Duration,
    /// A wrong secret's answer comes that late.
    pub(crate) penalty: Duration,
    /// For the first message on `/`.
    pub(crate) first_message: Duration,
    /// Between pings.
    pub(crate) ping: Duration,
    /// For the tunnel's answer.
    pub(crate) connect: Duration,
    /// For connections to end once the node shuts down, and for a peer's close frame.
    pub(crate) grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 256,
            share: 128,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            write: Duration::from_secs(30),
            penalty: Duration::from_secs(1),
            first_message: Duration::from_secs(10),
            ping: Duration::from_secs(15),
            connect: Duration::from_secs(60),
            grace: Duration::from_secs(1),
        }
    }
}

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) sampler: Arc<Sampler>,
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) bounds: Bounds,
    pub(crate) failures: Failures,
}

impl Shared {
    /// Waits until the node shuts down.
    async fn closed(&self) {
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

/// The connection a request came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Via {
    pub(crate) peer: SocketAddr,
    /// Whether it came in by an address that only this machine reaches.
    pub(crate) loopback: bool,
}

type OnBind = Box<dyn Fn(SocketAddr) + Send + Sync>;

/// The API of one node. It serves what the last configuration said, for as long as [`Api::run`] is polled.
pub struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) bound: ArcSwapOption<Bound>,
    pub(crate) sockets: watch::Sender<Option<Arc<TcpListener>>>,
    on_bind: OnceLock<OnBind>,
    pub(crate) slots: Arc<Semaphore>,
    shares: Arc<Shares>,
}

/// The address that was asked for, and the one it became.
pub(crate) struct Bound {
    pub(crate) asked: SocketAddr,
    pub(crate) addr: SocketAddr,
}

impl Api {
    /// An API that listens nowhere yet.
    pub fn new(node: Arc<Node>) -> Arc<Self> {
        Self::with_bounds(node, Bounds::default())
    }

    pub(crate) fn with_bounds(node: Arc<Node>, bounds: Bounds) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(bounds.connections as usize));
        let shares = Shares::new(bounds.share);
        let shared = Shared {
            sampler: Sampler::new(node.clone()),
            node,
            settings: watch::Sender::default(),
            closing: watch::Sender::default(),
            bounds,
            failures: Failures::default(),
        };
        Arc::new(Self {
            shared: Arc::new(shared),
            bound: ArcSwapOption::empty(),
            sockets: watch::Sender::default(),
            on_bind: OnceLock::new(),
            slots,
            shares,
        })
    }

    /// An API that is bound by `config` already; inside a tokio runtime.
    ///
    /// # Errors
    /// The first key that is wrong, or why the address cannot be bound.
    pub fn bind(
        node: Arc<Node>,
        config: &ApiConfig,
    ) -> Result<Arc<Self>, swiftproxy_core::error::BuildError> {
        let api = Self::new(node);
        let mut errors = Vec::new();
        match api.prepare(config, &mut |error| errors.push(error)) {
            Some(change) => change(),
            None => errors.into_iter().next().map_or(Ok(()), Err)?,
        }
        Ok(api)
    }

    /// Has `tell` told of each address that is bound from now on, and of the one that is bound already.
    pub fn on_bind(&self, tell: impl Fn(SocketAddr) + Send + Sync + 'static) {
        if self.on_bind.set(Box::new(tell)).is_ok()
            && let Some(addr) = self.local_addr()
        {
            self.told(addr);
        }
    }

    pub(crate) fn told(&self, addr: SocketAddr) {
        if let Some(tell) = self.on_bind.get() {
            tell(addr);
        }
    }

    /// The address it is bound to, if it is.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.bound.load().as_deref().map(|bound| bound.addr)
    }

    /// Its figures, for whoever shows them without a socket.
    pub fn sampler(&self) -> &Arc<Sampler> {
        &self.shared.sampler
    }

    /// Serves until `shutdown`; then streams are closed, and answers under way have a second to end.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let router = routes::router(self.shared.clone());
        let mut sockets = self.sockets.subscribe();
        sockets.mark_changed();
        let mut socket: Option<Arc<TcpListener>> = None;
        let mut shutdown = pin!(shutdown);
        let mut sampling = pin!(self.shared.sampler.run());
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = &mut sampling => {}
                Ok(()) = sockets.changed() => socket = sockets.borrow_and_update().clone(),
                accepted = accept(socket.as_deref()) => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer, &router),
                    Err(error) => {
                        tracing::warn!("the API cannot accept: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
            }
        }
        drop(socket);
        self.sockets.send_replace(None);
        self.bound.store(None);
        self.shared.closing.send_replace(true);
        let all = self.slots.acquire_many(self.shared.bounds.connections);
        let _ = tokio::time::timeout(self.shared.bounds.grace, all).await;
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, router: &Router) {
        let Ok(local) = stream.local_addr() else { return };
        let slot = self.slots.clone().try_acquire_owned().ok();
        let Some(slot) = slot.zip(self.shares.take(peer.ip())) else {
            // As much of it as the empty send queue takes at once, which is all of it.
            let _ = stream.try_write(FULL);
            return;
        };
        let via = Via {
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            loopback: local.ip().to_canonical().is_loopback(),
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(self.shared.clone(), router.clone(), stream, via, slot));
    }
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 69\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
    {\"error\":\"too_many_connections\",\"message\":\"too many API connections\"}";

/// Never ready where there is no socket.
async fn accept(socket: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

async fn connection(shared: Arc<Shared>, router: Router, stream: TcpStream, via: Via, slot: Slot) {
    let service = TowerToHyperService::new(router.layer(axum::Extension(via)));
    let held = Held::new(stream, shared.bounds.write, slot);
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.bounds.head)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(held), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = shared.closed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client = %via.peer, "API connection: {error}");
    }
}
