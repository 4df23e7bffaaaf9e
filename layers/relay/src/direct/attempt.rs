//! One connection being made.
//!
//! Invariant: what a connection needs from its first segment on is set before it is connected, and nothing else is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, Socket, Type};
use swiftproxy_core::error::Refusal;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connection, made or being made.
pub(super) enum Attempt {
    Connected(TcpStream),
    Pending(Option<TcpStream>),
}

/// Starts one, from the address `bind` if one is given; it may be connected at once.
pub(super) fn start(addr: SocketAddr, bind: Option<IpAddr>) -> Result<Attempt, Refusal> {
    if bind.is_some_and(|ip| ip.is_ipv4() != addr.is_ipv4()) {
        return Err(Refusal::UnreachableNet);
    }
    try_start(addr, bind).map_err(|error| refusal(&error))
}

fn try_start(addr: SocketAddr, bind: Option<IpAddr>) -> io::Result<Attempt> {
    let socket = nonblocking(Domain::for_address(addr))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(ip) = bind {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    let connected = match socket.connect(&addr.into()) {
        Ok(()) => true,
        Err(error) if is_under_way(&error) => false,
        Err(error) => return Err(error),
    };
    let stream = TcpStream::from_std(socket.into())?;
    Ok(if connected { Attempt::Connected(stream) } else { Attempt::Pending(Some(stream)) })
}

#[cfg(target_os = "linux")]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    // One system call for all of it.
    Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}

#[cfg(not(target_os = "linux"))]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

impl Attempt {
    /// Ready when it is connected or has failed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<TcpStream, Refusal>> {
        let Self::Pending(pending) = self else {
            return match std::mem::replace(self, Self::Pending(None)) {
                Self::Connected(stream) => Poll::Ready(Ok(stream)),
                Self::Pending(_) => Poll::Ready(Err(Refusal::Internal)),
            };
        };
        let Some(stream) = pending else { return Poll::Ready(Err(Refusal::Internal)) };
        let failed = match ready!(stream.poll_write_ready(cx)) {
            Ok(()) if is_well(stream) => None,
            Ok(()) => stream.take_error().unwrap_or_else(Some),
            Err(error) => Some(error),
        };
        Poll::Ready(match failed {
            None => pending.take().ok_or(Refusal::Internal),
            Some(error) => Err(refusal(&error)),
        })
    }
}

/// Whether it is known without a system call that no error waits: epoll tells of one (epoll_ctl(2), EPOLLERR).
fn is_well(stream: &TcpStream) -> bool {
    let told = stream.try_io(Interest::ERROR, || Ok(()));
    cfg!(any(target_os = "linux", target_os = "android")) && told.is_err()
}

/// What a failure to connect is called.
fn refusal(error: &io::Error) -> Refusal {
    use io::ErrorKind as Kind;
    match error.kind() {
        // Some hosts answer a SYN first and then think better of it.
        Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted => Refusal::Refused,
        Kind::TimedOut => Refusal::Timeout,
        // The latter where this machine has no address of the family.
        Kind::NetworkUnreachable | Kind::NetworkDown | Kind::AddrNotAvailable => Refusal::UnreachableNet,
        Kind::HostUnreachable | Kind::PermissionDenied | Kind::InvalidInput => Refusal::UnreachableHost,
        _ => {
            tracing::warn!(%error, "cannot connect");
            Refusal::Internal
        }
    }
}
