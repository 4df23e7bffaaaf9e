//! Connected pairs of sockets on loopback, thousands a second.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// An address that is connected to.
pub struct Loopback {
    socket: TcpListener,
    from: Cell<u32>,
}

impl Loopback {
    /// A free port, on that runtime.
    pub fn new(runtime: &Runtime) -> Self {
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        Self { socket, from: Cell::new(0) }
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Who connected, what was accepted, and where from. Each comes from another address, or the ports that wait
    /// after a close would run out.
    pub async fn pair(&self) -> (TcpStream, TcpStream, SocketAddr) {
        let from = self.from.get();
        self.from.set((from + 1) % 0xffff);
        let near = TcpSocket::new_v4().expect("a socket");
        let own = Ipv4Addr::from_bits(0x7f01_0001 + from);
        near.bind(SocketAddr::new(IpAddr::V4(own), 0)).expect("an address of loopback");
        let (near, accepted) = tokio::join!(near.connect(self.addr()), self.socket.accept());
        let (near, (far, peer)) = (near.expect("connected"), accepted.expect("accepted"));
        near.set_nodelay(true).expect("a socket");
        (near, far, peer)
    }
}

/// Says all of `says` in such pieces, then nothing more; returns what it was told until the other side had ended.
pub async fn talk(mut stream: TcpStream, says: &[u8], piece: usize) -> Vec<u8> {
    let (mut from, mut into) = stream.split();
    let saying = async {
        for piece in says.chunks(piece) {
            if into.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = into.shutdown().await;
    };
    let mut told = Vec::new();
    let hearing = async {
        let _ = from.read_to_end(&mut told).await;
    };
    tokio::join!(saying, hearing);
    told
}

/// Waits until no task of the runtime is left, of which some may still have to hear that all is over.
pub async fn quiet() {
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..10_000 {
        if metrics.num_alive_tasks() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} tasks outlive the connection", metrics.num_alive_tasks());
}
