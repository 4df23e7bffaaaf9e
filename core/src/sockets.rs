//! Where a listener's socket comes from: it was handed over when the process was started (socket activation,
//! sd_listen_fds(3)), or it is bound anew.
//!
//! Invariant: what was handed over stays open as long as the process does, for whoever holds it beside us holds its
//! address too; a listener of that address gets a copy, after every reload anew.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::accept;
use crate::config::{Config, ConfigError};

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

/// A socket for a listener that has none.
pub(crate) fn open(
    config: &Config,
    listener: &str,
    bind: SocketAddr,
    handed: &[Handed],
) -> Result<tokio::net::TcpListener, ConfigError> {
    let key = format!("listeners.{listener}.bind");
    let socket = match find(handed, listener, bind) {
        Ok(Some(handed)) => handed.socket.try_clone().and_then(accept::adopt),
        Ok(None) => accept::bind(bind),
        Err(addr) => {
            let problem = format!("the socket that was handed over for it listens on {addr}, not on {bind}");
            return Err(config.error(&key, problem, format!("write bind = \"{addr}\"")));
        }
    };
    socket.map_err(|error| {
        config.error(&key, format!("cannot listen on {bind}: {error}"), remedy(error.kind()))
    })
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
