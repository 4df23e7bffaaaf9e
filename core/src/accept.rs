//! Accepting connections.
//!
//! Invariant: the loop awaits nothing but the next connection; no client, and no lack of descriptors, ends it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::listener::Listener;

/// Connections the kernel holds for us; it caps this by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// A client that vanished is noticed after about three minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Trouble is logged at most this often.
const QUIET: Duration = Duration::from_secs(10);

/// Binds a listening socket; `::` takes IPv4 clients too.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // On Windows this would let two programs share a port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    listening(socket)
}

/// The same of a socket that was bound before us.
pub(crate) fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    socket.set_nonblocking(true)?;
    listening(socket)
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    if cfg!(target_os = "linux") {
        prepare(&SockRef::from(&socket))?;
    }
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What every client's socket has on. Linux hands it down from the listening socket, without a system call more.
fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL))
}

/// Accepts until it is aborted.
pub(crate) async fn run(socket: Arc<TcpListener>, listener: Arc<Listener>) {
    let mut trouble = Trouble::default();
    loop {
        match socket.accept().await {
            Ok((stream, client)) => {
                trouble.over(&listener);
                if !cfg!(target_os = "linux") && prepare(&SockRef::from(&stream)).is_err() {
                    continue;
                }
                let Some(current) = listener.current() else { continue };
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                tokio::spawn(current.front.serve(Connection { stream, client, listener: listener.clone() }));
            }
            // The client was gone before it was accepted.
            Err(error) if is_clients(&error) => {}
            Err(error) => trouble.wait(&listener, &error).await,
        }
    }
}

fn is_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A lack of descriptors or memory: waited out, and told without flooding the log.
#[derive(Default)]
struct Trouble {
    times: u32,
    told: Option<Instant>,
}

impl Trouble {
    async fn wait(&mut self, listener: &Listener, error: &io::Error) {
        self.times += 1;
        let now = Instant::now();
        if self.told.is_none_or(|told| now.duration_since(told) > QUIET) {
            self.told = Some(now);
            tracing::error!(
                listener = listener.name(),
                "cannot accept: {error}; open sessions go on, new ones wait (raise the limit of open files if this lasts)"
            );
        }
        tokio::time::sleep(Duration::from_millis(10 << self.times.min(6))).await;
    }

    fn over(&mut self, listener: &Listener) {
        if self.times > 0 {
            if self.told.is_some_and(|told| told.elapsed() > QUIET) {
                self.told = None;
            }
            tracing::info!(listener = listener.name(), "accepting again after {} failures", self.times);
            self.times = 0;
        }
    }
}
