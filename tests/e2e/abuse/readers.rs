//! Clients that never read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::traffic::{Bulk, socks5};
use crate::support::wait::pause;

use super::{pair, watched};

#[test]
fn downloads_that_nobody_reads_are_held_in_bounds() {
    let (pair, bulk) = (pair(), Bulk::start());
    let plain = pair.remote.addr("plain");
    watched(&pair, 96 << 20, || {
        let through: Vec<_> = (0..60).map(|_| socks5(pair.addr(), bulk.source)).collect();
        let straight: Vec<_> = (0..60)
            .map(|_| {
                let mut stream = TcpStream::connect(plain).unwrap();
                let login = "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==";
                let at = bulk.source;
                let head =
                    format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: {login}\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                let mut status = [0; 12];
                stream.read_exact(&mut status).unwrap();
                assert_eq!(&status, b"HTTP/1.1 200");
                stream
            })
            .collect();
        pause(Duration::from_secs(3));
        let local = super::resident(&pair.local);
        assert!(local < 256 << 20, "{} MiB in the local role", local >> 20);
        drop((through, straight));
    });
}
