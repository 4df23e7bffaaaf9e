//! TLS whose records are ours: what a client may say to a server before the handshake, and what somebody between the
//! two may do to their bytes. Whatever it is, nothing but what was said is ever heard.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use swiftproxy_wire::record::{self, Accepted};
use swiftproxy_wire::tls::{Trust, client_config, pin_of, server_config, server_name};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

struct World {
    runtime: Runtime,
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

thread_local! {
    static WORLD: World = {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a folder");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let pin = pin_of(made.cert.der()).expect("a pin");
        World {
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
            server: server_config(&cert, &key).expect("a configuration"),
            client: client_config(&Trust::Pins(pin.parse().expect("a pin"))).expect("a configuration"),
        }
    };
}

/// What the client says once it has shaken hands.
const SAID: usize = 40_000;

fn said() -> Vec<u8> {
    (0..SAID).map(|at| (at * 31 >> 3) as u8).collect()
}

/// Carries bytes on, and does to some of them what `ops` say: where, what, with which byte.
async fn tamper(mut from: ReadHalf<DuplexStream>, mut into: WriteHalf<DuplexStream>, ops: &[[u8; 4]]) {
    let (mut at, mut buffer) = (0_usize, vec![0; 4096]);
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let mut out = Vec::with_capacity(n + 8);
        for (offset, &byte) in buffer[..n].iter().enumerate() {
            let op = ops.iter().find(|op| usize::from(u16::from_le_bytes([op[0], op[1]])) == at + offset);
            match op {
                None => out.push(byte),
                Some([_, _, what, with]) => match what % 4 {
                    0 => out.push(byte ^ with),
                    1 => {}
                    2 => out.extend([byte, *with]),
                    _ => out.extend([byte, byte]),
                },
            }
        }
        at += n;
        if into.write_all(&out).await.is_err() {
            return;
        }
    }
    let _ = into.shutdown().await;
}

/// What a server makes of any bytes, which come in pieces: whoever is handed on is handed on with all of them.
async fn first(world: &World, bytes: &[u8], piece: usize) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut from, mut into) = split(near);
    let says = async {
        for piece in bytes.chunks(piece) {
            if into.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = into.shutdown().await;
    };
    let hears = async {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    };
    let serves = async {
        match record::accept(far, Vec::new(), world.server.clone(), b"h2").await {
            Ok(Accepted::Other(stream, received)) => {
                assert!(bytes.starts_with(&received), "handed on with something else");
                drop(stream);
            }
            Ok(Accepted::Channel(_)) => panic!("nobody shook hands"),
            Err(_) => {}
        }
    };
    tokio::join!(says, hears, serves);
}

async fn between(world: &World, ops: &[[u8; 4]]) {
    let ((client, near), (far, server)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
    let ((up_from, down_into), (down_from, up_into)) = (split(near), split(far));
    let name = server_name("localhost").expect("a name");
    let asks = async {
        let Ok(channel) = record::connect(client, world.client.clone(), name).await else { return };
        let mut stream = channel.into_stream();
        if stream.write_all(&said()).await.is_ok() {
            let _ = stream.shutdown().await;
        }
        let _ = stream.read(&mut [0; 64]).await;
    };
    let serves = async {
        let accepted = record::accept(server, Vec::new(), world.server.clone(), b"h2").await;
        let Ok(Accepted::Channel(channel)) = accepted else { return };
        let (mut stream, mut heard) = (channel.into_stream(), Vec::new());
        let whole = stream.read_to_end(&mut heard).await.is_ok();
        assert!(said().starts_with(&heard), "something else was heard");
        assert!(!whole || heard.len() == SAID, "a part was taken for the whole");
        assert!(whole || !ops.is_empty(), "nobody did anything");
    };
    tokio::join!(asks, serves, tamper(up_from, up_into, ops), tamper(down_from, down_into, &[]));
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, piece, rest @ ..] = bytes else { return };
    WORLD.with(|world| {
        world.runtime.block_on(async {
            if mode & 1 == 0 {
                let ends = timeout(Duration::from_secs(8), first(world, rest, usize::from(*piece).max(1)));
                ends.await.expect("it ends");
            } else {
                // A length that was made larger has both wait for each other: whoever calls has a deadline.
                let (ops, _) = rest.as_chunks::<4>();
                let wait = if ops.is_empty() { 8000 } else { 100 };
                let ends = timeout(Duration::from_millis(wait), between(world, ops)).await;
                assert!(ends.is_ok() || !ops.is_empty(), "nobody did anything, and it hangs");
            }
        });
    });
});
