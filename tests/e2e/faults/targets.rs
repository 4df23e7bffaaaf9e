//! Targets that reset or stall at every stage.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::traffic::socks5;
use crate::support::{Origin, Pair, curl, until};

use super::{Download, counted, for_a_while, serves};

/// More than sockets and windows hold would stay behind where the reader is slow; this is read at once.
const PART: usize = 300_000;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_target_that_resets_resets_the_client() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "");
    let (target, addr) = listener();
    // At once.
    let client = socks5(pair.addr(), addr);
    reset(target.accept().unwrap().0);
    let (end, received) = Download::of(client).end(Duration::from_secs(20));
    assert!(end.is_err() && received == 0, "{end:?} after {received}");
    assert_eq!(counted(&pair.remote, "alice"), 0);
    // In the middle of a download, after what was sent has arrived.
    let download = Download::of(socks5(pair.addr(), addr));
    let (mut server, _) = target.accept().unwrap();
    server.write_all(&vec![1; PART]).unwrap();
    until("it has arrived", || {
        (download.received.load(std::sync::atomic::Ordering::Relaxed) == PART as u64).then_some(())
    });
    reset(server);
    let (end, received) = download.end(Duration::from_secs(20));
    assert!(end.is_err() && received == PART as u64, "{end:?} after {received}");
    assert_eq!(counted(&pair.remote, "alice"), PART as u64);
    // In the middle of an upload.
    let mut client = socks5(pair.addr(), addr);
    let (mut server, _) = target.accept().unwrap();
    client.write_all(&[1; 1000]).unwrap();
    server.read_exact(&mut [0; 1000]).unwrap();
    reset(server);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let end = client.read(&mut [0; 1]);
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    // Between the two halves.
    let mut client = socks5(pair.addr(), addr);
    let (server, _) = target.accept().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    until("the half-close arrives", || matches!((&server).read(&mut [0; 1]), Ok(0)).then_some(()));
    reset(server);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(client.read(&mut [0; 1]).is_err());
    serves(pair.addr(), &origin.url("/bytes/10"));
    until("nothing is left over", || (pair.remote.stats()["sessions"]["open"] == 0).then_some(()));
}

#[test]
fn a_target_that_stalls_holds_up_nobody_else() {
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], "\n[relays.direct]\nconnect_timeout = \"1s\"\n");
    // Before its connection: its queue is full, so the kernel drops what knocks.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let queue = full.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&queue, Duration::from_millis(100))).collect();
    let proxy = format!("http://{}", pair.addr());
    let said = curl(&["--proxy", &proxy, "-p", "-v", &format!("http://{queue}/")]).said;
    assert!(said.contains("HTTP/1.1 504") && said.contains("connection_timeout"), "{said}");
    drop(fill);
    // Before its first byte, in the middle, and while it is sent to.
    let (target, addr) = listener();
    let silent = Download::of(socks5(pair.addr(), addr));
    let silent_server = target.accept().unwrap().0;
    let halfway = Download::of(socks5(pair.addr(), addr));
    let (mut halfway_server, _) = target.accept().unwrap();
    halfway_server.write_all(&vec![1; PART]).unwrap();
    let upload = socks5(pair.addr(), addr);
    let unread = target.accept().unwrap().0;
    upload.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    while let Ok(n) = (&upload).write(&[1; 64 << 10]) {
        taken += n;
        assert!(taken < 64 << 20, "{taken} bytes for a target that reads none");
    }
    for_a_while(1000);
    for stalled in [&silent, &halfway] {
        assert!(!stalled.has_ended(), "patience is the user's to lose");
    }
    serves(pair.addr(), &origin.url("/bytes/10"));
    assert!(counted(&pair.remote, "alice") >= PART as u64);
    // They go on as if nothing had been.
    halfway_server.write_all(&vec![1; PART]).unwrap();
    drop((halfway_server, silent_server, unread));
    let (end, received) = halfway.end(Duration::from_secs(20));
    assert!(end.is_ok() && received == 2 * PART as u64, "{end:?} after {received}");
    let (end, received) = silent.end(Duration::from_secs(20));
    assert!(end.is_ok() && received == 0, "{end:?} after {received}");
}
