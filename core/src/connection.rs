//! What the accept loop hands to the outermost layer.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::listener::Listener;

/// An accepted connection of which nothing was read yet.
#[derive(Debug)]
pub struct Connection {
    /// The client's socket, `TCP_NODELAY` and keepalive on.
    pub stream: TcpStream,
    /// Where the client is (an IPv4-mapped IPv6 address as IPv4).
    pub client: SocketAddr,
    /// The listener that accepted it.
    pub listener: Arc<Listener>,
}
