//! HTTP/2 floods (RFC 9113 §10.5) at the remote's TLS port, frame by frame.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use swiftproxy_wire::tls::{Trust, client_config, server_name};
use tokio::time::Instant;

use super::{pair, watched};

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// What offers our own engine (RFC 9113 §6.5.2: others ignore it).
const LEAN: [u8; 6] = [0xf5, 0xe1, 0, 0, 0, 1];

/// A connection of HTTP/2, to our own engine where `lean`.
pub(super) fn connect(addr: SocketAddr, pin: &str, lean: bool) -> Tls {
    over(TcpStream::connect(addr).unwrap(), pin, lean)
}

/// The same over a socket that is connected.
pub(crate) fn over(stream: TcpStream, pin: &str, lean: bool) -> Tls {
    let config = client_config(&Trust::Pins(pin.parse().unwrap())).unwrap();
    let tls = ClientConnection::new(config, server_name("127.0.0.1").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = StreamOwned::new(tls, stream);
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    tls.write_all(&frame(4, 0, 0, if lean { &LEAN } else { &[] })).unwrap();
    // From here on answers are read now and then, without waiting for them.
    tls.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    tls.sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    tls
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as HPACK says it without its tables (RFC 7541 §6.2.2).
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}

fn fields(login: bool) -> Vec<u8> {
    let login =
        if login { field("proxy-authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==") } else { Vec::new() };
    [field(":method", "CONNECT"), field(":authority", "127.0.0.1:1"), login].concat()
}

/// Sends one flood for a while; whether the remote ended it.
fn flood(mut tls: Tls, mut next: impl FnMut(u32) -> Vec<u8>) -> bool {
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let many: Vec<u8> = (0..500)
            .flat_map(|_| {
                n += 1;
                next(n)
            })
            .collect();
        if tls.write_all(&many).is_err() {
            break;
        }
    }
    // What it had to say: to its end, or until it says nothing more.
    let mut answer = vec![0; 64 << 10];
    loop {
        match tls.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

#[test]
fn floods_end_in_a_bound_and_hurt_nobody_else() {
    flood_with(false);
}

#[test]
fn floods_of_our_own_engine_end_in_a_bound_and_hurt_nobody_else() {
    flood_with(true);
}

fn flood_with(lean: bool) {
    let pair = pair();
    let (addr, pin) = (pair.remote.addr("tunnel"), pair.pin.clone());
    let open = |login| {
        move |n: u32| {
            let id = n * 2 - 1;
            [frame(1, 4, id, &fields(login)), frame(3, 0, id, &[0, 0, 0, 8])].concat()
        }
    };
    type Next = Box<dyn FnMut(u32) -> Vec<u8> + Send>;
    let floods: Vec<(&str, bool, Vec<u8>, Next)> = vec![
        ("rapid reset", true, vec![], Box::new(open(false))),
        ("rapid reset, logged in", true, vec![], Box::new(open(true))),
        ("settings", false, vec![], Box::new(|_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 9]))),
        ("ping", false, vec![], Box::new(|_| frame(6, 0, 0, &[0; 8]))),
        ("window update", false, vec![], Box::new(|_| frame(8, 0, 0, &[0, 0, 0, 1]))),
        ("empty data", true, frame(1, 4, 1, &fields(true)), Box::new(|_| frame(0, 0, 1, &[]))),
        (
            "continuation",
            true,
            frame(1, 0, 1, &fields(false)),
            Box::new(|_| frame(9, 0, 1, &field("x", "y"))),
        ),
        (
            "header bomb",
            true,
            frame(1, 0, 1, &fields(false)),
            Box::new(|_| frame(9, 0, 1, &field("x", &"y".repeat(120)))),
        ),
        ("priorities", false, vec![], Box::new(|_| frame(2, 0, 1, &[0; 5]))),
        ("unknown frames", false, vec![], Box::new(|_| frame(99, 0, 0, &[0; 9]))),
    ];
    watched(&pair, 96 << 20, || {
        let floods: Vec<_> = floods
            .into_iter()
            .map(|(name, ends, first, next)| {
                let pin = pin.clone();
                std::thread::spawn(move || {
                    let mut tls = connect(addr, &pin, lean);
                    tls.write_all(&first).unwrap();
                    (name, ends, flood(tls, next))
                })
            })
            .collect();
        for attack in floods {
            let (name, ends, ended) = attack.join().unwrap();
            // Our own engine ends them all; the crates answer some as fast as they are read.
            assert!(ended || !(ends || lean), "{name} goes on");
        }
    });
}
