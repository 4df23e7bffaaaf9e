//! Handshakes that never end, and far too many of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use super::{pair, watched};

/// Sends byte after byte until the other end has closed; how long that took.
fn dribble(addr: SocketAddr, first: &[u8], then: u8) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(first).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    loop {
        match stream.read(&mut [0; 512]) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            _ => {}
        }
        if stream.write_all(&[then]).is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{first:?} goes on and on");
    }
    start.elapsed()
}

#[test]
fn bytes_that_dribble_in_end_at_the_deadline_in_every_protocol() {
    let pair = pair();
    let (plain, tunnel) = (pair.remote.addr("plain"), pair.remote.addr("tunnel"));
    let openings: [(SocketAddr, &'static [u8], u8); 8] = [
        (plain, b"\x05\xff", 7),
        (plain, b"\x05\x01\x02\x01\xff", b'a'),
        (plain, b"\x04\x01\x00\x50\x7f\0\0\x01", b'a'),
        (plain, b"GET http://a.example/ HTTP/1.1\r\nX: ", b'a'),
        (plain, b"CONNECT ", b'a'),
        (plain, b"{", b' '),
        (tunnel, b"\x16\x03\x01\x02\x00\x01", 0),
        (tunnel, b"\x16", 3),
    ];
    let times = watched(&pair, 32 << 20, || {
        let clients: Vec<_> = openings
            .map(|(addr, first, then)| std::thread::spawn(move || dribble(addr, first, then)))
            .into_iter()
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(times.iter().all(|time| *time < Duration::from_secs(8)), "{times:?}");
}

#[test]
fn thousands_of_half_open_handshakes_are_capped_by_address() {
    use socket2::{Domain, Socket, Type};
    let pair = pair();
    let tunnel = pair.remote.addr("tunnel");
    let left = watched(&pair, 64 << 20, || {
        let mut held = Vec::new();
        for _ in 0..2000 {
            // From another address than the well-behaved client's.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
            socket.connect(&tunnel.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            let _ = stream.write_all(b"\x16\x03\x01");
            held.push(stream);
            if held.len() > 300 {
                held.retain(|stream| {
                    stream.set_nonblocking(true).unwrap();
                    matches!((&*stream).read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
                });
            }
        }
        super::descriptors(&pair.remote)
    });
    assert!(left < 200, "{left} descriptors");
    assert!(pair.remote.stats()["refusals"]["too_many_connections"].as_u64() > Some(1000));
}
