//! Where a listener's sockets come from: one was handed over when the process was started (socket activation,
//! sd_listen_fds(3)), or they are bound anew, one a worker where the kernel spreads connections over them.
//!
//! Invariant: what was handed over stays open as long as the process does, for whoever holds it beside us holds its
//! address too; a listener of that address gets a copy, after every reload anew.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::accept::prepare;
use crate::config::{Config, ConfigError};
use crate::workers::Workers;

/// Connections the kernel holds for us; it caps this by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listening sockets of one address, each to be accepted from on its worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Where they listen.
    pub(crate) addr: SocketAddr,
    /// One of each of the first workers.
    pub(crate) each: Vec<Arc<tokio::net::TcpListener>>,
}

/// A listening socket that somebody opened for us.
#[derive(Debug)]
pub struct Handed {
    /// What it was called, such as a listener's name.
    pub name: Option<String>,
    /// Where it listens.
    pub addr: SocketAddr,
    socket: TcpListener,
}

impl Handed {
    /// That socket under that name.
    ///
    /// # Errors
    /// It has no address.
    pub fn new(name: Option<String>, socket: TcpListener) -> io::Result<Self> {
        Ok(Self { name, addr: socket.local_addr()?, socket })
    }
}

/// Sockets for a listener that has none.
pub(crate) fn open(
    config: &Config,
    listener: &str,
    bind: SocketAddr,
    (handed, workers): (&[Handed], &Workers),
) -> Result<Sockets, ConfigError> {
    let key = format!("listeners.{listener}.bind");
    let sockets = match find(handed, listener, bind) {
        Ok(Some(handed)) => handed.socket.try_clone().and_then(adopt),
        Ok(None) => bind_each(bind, workers.count()),
        Err(addr) => {
            let problem = format!("the socket that was handed over for it listens on {addr}, not on {bind}");
            return Err(config.error(&key, problem, format!("write bind = \"{addr}\"")));
        }
    };
    sockets.and_then(|sockets| listening(sockets, workers)).map_err(|error| {
        config.error(&key, format!("cannot listen on {bind}: {error}"), remedy(error.kind()))
    })
}

/// Bound sockets of one address; `::` takes IPv4 clients too.
fn bind_each(addr: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
    let first = unbound(addr)?;
    first.bind(&addr.into())?;
    let mut sockets = vec![first];
    spread(&mut sockets, count)?;
    Ok(sockets)
}

/// More sockets of the first one's address, over which the kernel spreads connections (SO_REUSEPORT, socket(7)).
#[cfg(target_os = "linux")]
fn spread(sockets: &mut Vec<Socket>, count: usize) -> io::Result<()> {
    while sockets.len() < count {
        // Only now: with it, the first would be bound beside another program's.
        sockets[0].set_reuse_port(true)?;
        let addr = sockets[0].local_addr()?;
        let next = unbound(addr.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?)?;
        next.set_reuse_port(true)?;
        next.bind(&addr)?;
        sockets.push(next);
    }
    Ok(())
}

/// Elsewhere one socket is all there is.
#[cfg(not(target_os = "linux"))]
fn spread(_: &mut Vec<Socket>, _: usize) -> io::Result<()> {
    Ok(())
}

fn unbound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows this would let two programs share a port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// The same of a socket that was bound before us.
fn adopt(socket: TcpListener) -> io::Result<Vec<Socket>> {
    Ok(vec![Socket::from(socket)])
}

fn listening(sockets: Vec<Socket>, workers: &Workers) -> io::Result<Sockets> {
    let mut each = Vec::with_capacity(sockets.len());
    for (worker, socket) in sockets.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        if cfg!(target_os = "linux") {
            prepare(&SockRef::from(&socket))?;
        }
        socket.listen(BACKLOG)?;
        let socket = workers.within(worker, || tokio::net::TcpListener::from_std(socket.into()))?;
        each.push(Arc::new(socket));
    }
    let addr = each.first().ok_or(io::ErrorKind::AddrNotAvailable)?.local_addr()?;
    Ok(Sockets { addr, each })
}

/// The one that listens on `bind`; otherwise where the one listens that bears the listener's name, if there is one.
fn find<'a>(
    handed: &'a [Handed],
    listener: &str,
    bind: SocketAddr,
) -> Result<Option<&'a Handed>, SocketAddr> {
    if let Some(found) = handed.iter().find(|handed| handed.addr == bind) {
        return Ok(Some(found));
    }
    match handed.iter().find(|handed| handed.name.as_deref() == Some(listener)) {
        Some(named) => Err(named.addr),
        None => Ok(None),
    }
}

fn remedy(error: io::ErrorKind) -> &'static str {
    match error {
        io::ErrorKind::AddrInUse => "choose another port, or stop the program that has it",
        io::ErrorKind::PermissionDenied => "choose a port from 1024, or grant the right to bind it",
        io::ErrorKind::AddrNotAvailable => "write an address that this machine has",
        _ => "choose another address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_decides_and_a_name_that_disagrees_is_told() {
        let open = |name: &str| {
            Handed::new(Some(name.to_owned()), TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
        };
        let handed = [open("a"), open("a"), open("b")];
        let of = |name: &str, bind| find(&handed, name, bind).map(|found| found.map(|handed| handed.addr));
        assert_eq!(of("a", handed[1].addr), Ok(Some(handed[1].addr)));
        assert_eq!(of("c", handed[2].addr), Ok(Some(handed[2].addr)));
        let other = "127.0.0.1:1".parse().unwrap();
        assert_eq!(of("b", other), Err(handed[2].addr));
        assert_eq!(of("c", other), Ok(None));
    }
}
