//! Dial and pipe, through the pair: ends, resets, half-closes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};

use crate::support::traffic::socks5;
use crate::support::{Pair, until};

#[test]
fn half_close_both_ways() {
    for pair in Pair::by_each_engine("", "") {
        half_close(&pair);
    }
}

fn half_close(pair: &Pair) {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = target.local_addr().unwrap();

    // The client ends first, and still hears the answer.
    let mut client = socks5(pair.addr(), addr);
    let (mut server, _) = target.accept().unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"question");
    server.write_all(b"answer").unwrap();
    drop(server);
    heard.clear();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"answer");

    // The target speaks and ends first.
    let mut client = socks5(pair.addr(), addr);
    let (mut server, _) = target.accept().unwrap();
    server.write_all(b"banner").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    heard.clear();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"banner");
    client.write_all(b"late").unwrap();
    drop(client);
    heard.clear();
    server.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"late");
}

#[test]
fn a_reset_is_passed_on_as_a_reset_both_ways() {
    for pair in Pair::by_each_engine("", "") {
        resets(&pair);
    }
}

fn resets(pair: &Pair) {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let reset = |stream: std::net::TcpStream| {
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    };
    let was_reset = |mut stream: std::net::TcpStream| {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream.read(&mut [0; 16]).expect_err("no orderly end").kind() == ErrorKind::ConnectionReset
    };
    let client = socks5(pair.addr(), target.local_addr().unwrap());
    let (server, _) = target.accept().unwrap();
    reset(server);
    assert!(was_reset(client), "the target's");
    let client = socks5(pair.addr(), target.local_addr().unwrap());
    let (server, _) = target.accept().unwrap();
    reset(client);
    assert!(was_reset(server), "the client's");
}

/// What a client does not read stays at its sender, but for buffers and windows; and is all there later.
#[test]
fn a_client_that_does_not_read_holds_little_of_our_memory() {
    let pair = Pair::start(&["alice"], "");
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = socks5(pair.addr(), target.local_addr().unwrap());
    let (mut server, _) = target.accept().unwrap();
    let total = 64 << 20;
    let writer = std::thread::spawn(move || server.write_all(&vec![9; total]).map(|()| drop(server)));
    let memory = || rss(pair.remote.pid()) + rss(pair.local.pid());
    let before = memory();
    let down = || pair.remote.stats()["total"]["down"].as_u64().unwrap();
    let mut last = 0;
    until("it stands still", || {
        crate::support::wait::pause(std::time::Duration::from_millis(300));
        let still = down() == last && last > 0;
        last = down();
        still.then_some(())
    });
    assert!(memory() < before + (16 << 20), "{} KiB more", (memory() - before) >> 10);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), total);
    writer.join().unwrap().unwrap();
}

/// A process's resident memory, in bytes.
fn rss(pid: u32) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
