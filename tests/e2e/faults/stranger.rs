//! Clients of HTTP/2 other than our local role that vanish, with the remote's socket to them full.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use crate::abuse::floods::{Tls, over};
use crate::abuse::readers::hoard;
use crate::support::namespace::inside;
use crate::support::traffic::Bulk;
use crate::support::wait::until_within;
use crate::support::{Pair, until};

use super::{counted, for_a_while, ip};

const AWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A client at that address with one download, of which it reads nothing by itself.
fn client(from: Ipv4Addr, remote: SocketAddr, pin: &str, target: SocketAddr) -> Tls {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&remote.into()).unwrap();
    hoard(over(TcpStream::from(socket), pin, false), &target.to_string(), 1)
}

#[test]
#[ignore = "root: an interface of its own; slow: silence is asked about after 30 s"]
fn one_who_vanished_holds_no_session_and_one_who_does_not_read_keeps_his() {
    let name = "faults::stranger::one_who_vanished_holds_no_session_and_one_who_does_not_read_keeps_his";
    if !inside(name, "ip addr add 192.0.2.1/32 dev lo") {
        return;
    }
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 400Mbit/s"], "");
    let remote = pair.remote.addr("tunnel");
    let start = |from| client(from, remote, &pair.pin, bulk.source);
    let (_there, _away) = (start(Ipv4Addr::LOCALHOST), start(AWAY));
    // One more that goes while it reads: what it was sent is not acknowledged, and no window is closed.
    let mut reader = start(AWAY);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while matches!(reader.read(&mut buffer), Ok(1..)) {}
    });
    let open = || pair.remote.stats()["sessions"]["open"].as_u64();
    until("all are open", || (open() == Some(3)).then_some(()));
    for_a_while(3000);
    let before = counted(&pair.remote, "alice");
    until("one reads", || (counted(&pair.remote, "alice") > before + (1 << 20)).then_some(()));
    ip(&["addr", "del", "192.0.2.1/32", "dev", "lo"]);
    let gone = Instant::now();
    until_within(Duration::from_secs(110), "they are noticed", || (open() == Some(1)).then_some(()));
    assert!(gone.elapsed() > Duration::from_secs(20), "they were not cut: {:?}", gone.elapsed());
    // The one that is there has been asked for as long, and is asked again.
    for_a_while(45_000);
    assert_eq!(open(), Some(1));
}
