//! Clients that never read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::traffic::{Bulk, socks5};
use crate::support::wait::pause;

use super::floods::{Tls, connect, field, frame};
use super::{pair, watched};

/// Opens many tunnels on one connection, lets them send all they like, and reads nothing.
pub(crate) fn hoard(mut tls: Tls, target: &str, streams: u32) -> Tls {
    // The widest windows there are, of streams and connection.
    let wide = 0x7fff_ffff_u32.to_be_bytes();
    let mut say = frame(4, 0, 0, &[&[0, 4][..], &wide].concat());
    say.extend(frame(8, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes()));
    for n in 0..streams {
        let login = field("proxy-authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==");
        let fields = [field(":method", "CONNECT"), field(":authority", target), login].concat();
        say.extend(frame(1, 4, 2 * n + 1, &fields));
    }
    tls.write_all(&say).unwrap();
    tls
}

#[test]
fn streams_that_nobody_reads_are_held_in_bounds() {
    let (pair, bulk) = (pair(), Bulk::start());
    let (addr, target) = (pair.remote.addr("tunnel"), bulk.source.to_string());
    for lean in [true, false] {
        let most = watched(&pair, 128 << 20, || {
            let held: Vec<_> = (0..4).map(|_| hoard(connect(addr, &pair.pin, lean), &target, 120)).collect();
            crate::support::until("all are open", || {
                (pair.remote.stats()["sessions"]["open"].as_u64() >= Some(480)).then_some(())
            });
            pause(Duration::from_secs(3));
            let most = super::resident(&pair.remote);
            drop(held);
            most
        });
        eprintln!("lean {lean}: {} MiB", most >> 20);
        crate::support::until("all are gone", || {
            (pair.remote.stats()["sessions"]["open"] == 0).then_some(())
        });
    }
}

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
