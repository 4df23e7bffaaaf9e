//! Names to addresses, by the system's resolver, off the async threads.
//!
//! Invariant: a name server that does not answer keeps so many threads and no more, whatever is asked of it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use swiftproxy_core::error::Refusal;
use tokio::sync::Semaphore;

/// How many names are looked up at a time.
const MOST: usize = 128;

/// A node's lookups.
#[derive(Debug)]
pub(super) struct Resolver(Arc<Semaphore>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Resolver {
    /// A name's addresses as the system orders them, IPv4-mapped ones as IPv4.
    pub(super) async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let permit = self.0.clone().acquire_owned().await.map_err(|_| Refusal::Internal)?;
        let name = name.to_owned();
        // Whoever asked may be gone before the system answers; the thread is busy until it does.
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let found = (name.as_str(), port).to_socket_addrs().map_err(|_| Refusal::DnsFailed)?;
            Ok(found.map(|addr| SocketAddr::new(addr.ip().to_canonical(), port)).collect())
        });
        lookup.await.unwrap_or(Err(Refusal::Internal))
    }
}
