//! Whether the far end of a TCP connection still acknowledges what it gets, as this system knows it.
//!
//! Invariant: a peer that is there and does not read never counts as gone, for its system acknowledges every probe of
//! the window that it closed. Where the system cannot be asked, nobody has gone.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// A connection, by its two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    local: SocketAddr,
    peer: SocketAddr,
}

impl Path {
    /// Of a connection that is open.
    pub fn of(stream: &TcpStream) -> Option<Self> {
        let plain = |addr: SocketAddr| match addr.ip().to_canonical() {
            ip if ip.is_ipv4() => SocketAddr::new(ip, addr.port()),
            _ => addr,
        };
        Some(Self { local: plain(stream.local_addr().ok()?), peer: plain(stream.peer_addr().ok()?) })
    }

    /// Whether what was sent last, or the probe of a closed window, was repeated and not acknowledged.
    pub fn is_unanswered(&self) -> bool {
        #[cfg(target_os = "linux")]
        return linux::repeated(self).is_ok_and(|times| times >= linux::OFTEN);
        #[cfg(not(target_os = "linux"))]
        false
    }
}

/// By sock_diag(7). Nothing is bound or sent to anybody: the kernel answers within the call.
#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, Read, Write};
    use std::net::{IpAddr, SocketAddr};

    use socket2::{Domain, Protocol, Socket, Type};

    use super::Path;

    /// Times in a row that count as silence: four timeouts, each twice as long as the one before.
    pub(super) const OFTEN: u8 = 3;

    /// From linux/socket.h, linux/netlink.h and linux/sock_diag.h.
    const AF_NETLINK: i32 = 16;
    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;

    /// Of `struct nlmsghdr`, and of `struct inet_diag_req_v2` behind it.
    const HEADER: usize = 16;
    const REQUEST: usize = 56;

    /// `idiag_timer` of linux/inet_diag.h: a segment's acknowledgement is awaited; a closed window is probed.
    const RETRANSMITS: u8 = 1;
    const PROBES: u8 = 4;

    /// How often in a row the last thing to be acknowledged was sent again.
    pub(super) fn repeated(path: &Path) -> io::Result<u8> {
        let mut socket =
            Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
        socket.set_nonblocking(true)?;
        socket.write_all(&request(path))?;
        let mut answer = [0; 512];
        let n = socket.read(&mut answer)?;
        Ok(read(answer.get(..n).unwrap_or_default()).unwrap_or(0))
    }

    fn request(path: &Path) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + REQUEST);
        out.extend_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
        out.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        out.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        // Sequence and port: there is one question and one answer.
        out.extend_from_slice(&[0; 8]);
        let family = if path.local.is_ipv4() { AF_INET } else { AF_INET6 };
        out.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
        // In any state.
        out.extend_from_slice(&u32::MAX.to_ne_bytes());
        for port in [path.local.port(), path.peer.port()] {
            out.extend_from_slice(&port.to_be_bytes());
        }
        for end in [path.local, path.peer] {
            let mut room = [0; 16];
            match end.ip() {
                IpAddr::V4(ip) => room[..4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => room = ip.octets(),
            }
            out.extend_from_slice(&room);
        }
        let scope = |end| if let SocketAddr::V6(end) = end { end.scope_id() } else { 0 };
        out.extend_from_slice(&scope(path.local).max(scope(path.peer)).to_ne_bytes());
        // No cookie.
        out.extend_from_slice(&[u8::MAX; 8]);
        out
    }

    /// The answer's `struct inet_diag_msg`: family, state, timer, times, and more; none where it is something else.
    fn read(answer: &[u8]) -> Option<u8> {
        let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
        let [_family, _state, timer, times] = *answer.get(HEADER..)?.first_chunk()?;
        (kind == SOCK_DIAG_BY_FAMILY).then_some(if matches!(timer, RETRANSMITS | PROBES) { times } else { 0 })
    }

    #[cfg(test)]
    mod tests {
        use std::time::Duration;

        use tokio::io::AsyncWriteExt;
        use tokio::net::{TcpListener, TcpStream};
        use tokio::time::{Instant, sleep, timeout};

        use super::*;

        /// What the kernel says of a connection in full: the timer that runs and its count.
        fn timer(path: &Path) -> (u8, u8) {
            let mut socket =
                Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))
                    .unwrap();
            socket.write_all(&request(path)).unwrap();
            let mut answer = [0; 512];
            let n = socket.read(&mut answer).unwrap();
            assert_eq!(u16::from_ne_bytes([answer[4], answer[5]]), SOCK_DIAG_BY_FAMILY, "{n} bytes");
            (answer[HEADER + 2], answer[HEADER + 3])
        }

        #[tokio::test]
        async fn a_peer_that_does_not_read_is_there() {
            for at in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
                let listener = TcpListener::bind(at).await.unwrap();
                let mut to = listener.local_addr().unwrap();
                if to.ip().is_unspecified() {
                    to.set_ip("127.0.0.1".parse().unwrap());
                }
                let _peer = TcpStream::connect(to).await.unwrap();
                let (mut stream, _) = listener.accept().await.unwrap();
                let path = Path::of(&stream).unwrap();
                assert_eq!(repeated(&path).unwrap(), 0);
                // Until neither end's system takes any more.
                let chunk = vec![0; 64 << 10];
                while timeout(Duration::from_millis(200), stream.write(&chunk)).await.is_ok() {}
                let start = Instant::now();
                let mut probed = 0;
                while start.elapsed() < Duration::from_secs(4) {
                    let (timer, _) = timer(&path);
                    probed += u32::from(timer == PROBES);
                    assert!(!path.is_unanswered(), "{at}");
                    sleep(Duration::from_millis(50)).await;
                }
                assert!(probed > 10, "{at}: the window is closed, and that is what is asked about");
            }
        }

        #[test]
        fn who_is_not_there_is_nobody() {
            let path = Path { local: "127.0.0.1:9".parse().unwrap(), peer: "127.0.0.1:10".parse().unwrap() };
            assert!(!path.is_unanswered());
            assert_eq!(read(&[]), None);
            assert_eq!(read(&[0; 19]), None);
        }
    }
}
