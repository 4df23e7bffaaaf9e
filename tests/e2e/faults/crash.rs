//! The remote is killed, or asked to stop, in the middle of work: what is stored then (DESIGN §5, invariant 4).

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::Ordering::Relaxed;

use crate::support::proxy::connected;
use crate::support::traffic::{Flow, socks5};
use crate::support::{Pair, Proxy, until};

use super::{Source, for_a_while, moves, sql, stored};

#[test]
fn kill_9_at_random_moments_loses_no_more_than_a_sync_each() {
    const KILLS: u64 = 4;
    // At 1 MB/s: a sync's second, what a busy machine adds to it, and the burst of a tenth.
    const SHORT: u64 = 2_500_000;
    let source = Source::start();
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let bound = pair.remote.addr("tunnel");
    let database = pair.database();
    let Pair { mut remote, local, .. } = pair;
    let (folder, file) = (remote.folder.clone(), remote.file().to_owned());
    let mut received = 0;
    for kill in 1..=KILLS {
        connected(&local);
        let flow = Flow::down(local.addr("local"), source.addr);
        moves(&flow.received);
        for_a_while(RandomState::new().hash_one(kill) % 1500);
        remote.kill();
        until("the client notices", || flow.has_ended().then_some(()));
        received += flow.received.load(Relaxed);
        let (stored, sent) = (stored(&database), source.sent.load(Relaxed));
        assert!(stored <= sent, "{stored} stored, {sent} sent");
        assert!(stored + kill * SHORT >= received, "kill {kill}: {stored} stored, {received} received");
        remote = Proxy::run(&folder, file.clone(), &["--set", &format!("listeners.tunnel.bind={bound}")]);
        assert_eq!(super::stored(&database), stored, "a restart adds nothing");
    }
    let boots: u64 = sql(&database, "SELECT count(DISTINCT boot_id) FROM usage").parse().unwrap();
    assert!(boots <= KILLS, "{boots}");
    assert_eq!(sql(&database, "PRAGMA integrity_check"), "ok");
}

/// Sends `down` to each client, reads until the client is through, and then closes.
fn target(down: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let read = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                let _ = stream.write_all(&vec![7; down]);
                let _ = read.join();
            });
        }
    });
    addr
}

#[test]
fn sigterm_under_load_cuts_nobody_and_stores_every_byte() {
    const DOWN: usize = 1_500_000;
    const UP: usize = 700_000;
    let users = ["alice", "bob", "carol"];
    let rows = users.map(|user| format!("{user} --down 8Mbit/s --up 4Mbit/s"));
    let pair = Pair::start(&rows.each_ref().map(String::as_str), "");
    pair.remote.edit(|text| text.replace("shutdown_timeout = \"5s\"", "shutdown_timeout = \"60s\""));
    pair.remote.logged("configuration reloaded");
    let others = [pair.another("bob"), pair.another("carol")];
    let target = target(DOWN);
    let proxies = [pair.addr(), others[0].addr("local"), others[1].addr("local")];
    let clients = proxies.map(|proxy| {
        std::thread::spawn(move || {
            let mut stream = socks5(proxy, target);
            let mut reader = stream.try_clone().unwrap();
            let read = std::thread::spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all.len())
            });
            stream.write_all(&vec![9; UP]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read.join().unwrap()
        })
    });
    until("all are at work", || {
        let stats = pair.remote.stats();
        let accounts = stats["accounts"].as_array()?.clone();
        accounts.iter().all(|account| account["down"].as_u64() > Some(100_000)).then_some(())
    });
    pair.remote.signal("TERM");
    for client in clients {
        assert_eq!(client.join().unwrap().unwrap(), DOWN, "nobody is cut");
    }
    let database = pair.database();
    let Pair { remote, local, .. } = pair;
    let _folder = remote.folder.clone();
    let (status, log) = remote.wait();
    assert!(status.success() && !log.contains("were cut"), "{log}");
    let rows = sql(
        &database,
        "SELECT u.name, sum(up), sum(down), sum(sessions) FROM usage JOIN users u ON u.id = user_id GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(rows, users.map(|user| format!("{user}|{UP}|{DOWN}|1")).join("\n"));
    drop((local, others));
}
