//! The frame path: TLS records sealed and opened in memory, and DATA frames of the lean engine from a stream's one end
//! to its other, encrypted and not, over a loopback connection. All on one thread, so it is the work of both sides.

#![allow(clippy::unwrap_used, reason = "what fails stops the measurement")]

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Request, Response};
use rustls::{ClientConfig, ServerConfig};
use swiftproxy_core::endpoint::Endpoint as _;
use swiftproxy_wire::lean::{self, Client, End, Server, Watch};
use swiftproxy_wire::record::{self, Accepted, Channel};
use swiftproxy_wire::tls::{Trust, client_config, pin_of, server_config, server_name};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const WATCH: Watch = Watch {
    quiet: Duration::from_secs(600),
    busy: Duration::from_secs(600),
    doubt: Duration::from_secs(600),
    patience: Duration::from_secs(600),
};

/// One interactive message, one record, and a batch of them.
const SIZES: [usize; 3] = [128, 16 << 10, 256 << 10];

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let trust = Trust::Pins(pin_of(made.cert.der()).unwrap().parse().unwrap());
    (client_config(&trust).unwrap(), server_config(&cert, &key).unwrap())
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin>(near: S, far: S) -> (Channel<S>, Channel<S>) {
    let (client, server) = configs();
    let name = server_name("localhost").unwrap();
    let far = record::accept(far, Vec::new(), server, b"h2");
    let (near, far) = tokio::join!(record::connect(near, client, name), far);
    let Ok(Accepted::Channel(far)) = far else { panic!("TLS 1.3 and h2 were offered") };
    (near.unwrap(), far)
}

fn records(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("records, sealed and opened");
    for size in SIZES {
        let (near, far) = duplex(1 << 20);
        let (near, far) = runtime.block_on(shake(near, far));
        let (mut near, mut far) = (near.into_stream(), far.into_stream());
        let (sent, mut got) = (vec![7; size], vec![0; size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} bytes"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let send = async {
                        near.write_all(&sent).await.unwrap();
                        near.flush().await.unwrap();
                    };
                    let (_, n) = tokio::join!(send, far.read_exact(&mut got));
                    n.unwrap()
                })
            });
        });
    }
    group.finish();
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A stream of a lean connection, both ends, and what keeps it.
async fn stream(tls: bool) -> (End, End, (Client, Server)) {
    let (near, far) = sockets().await;
    let (near, mut far) = match tls {
        true => shake(near, far).await,
        false => (Channel::clear(near, Vec::new()), Channel::clear(far, Vec::new())),
    };
    let serve = async {
        assert!(lean::knows(&mut far).await.unwrap());
        let (server, driver) = lean::serve(far, WATCH, &lean::Budget::default());
        tokio::spawn(driver);
        server
    };
    let (client, mut server) = tokio::join!(lean::connect(near, WATCH, true), serve);
    let (client, driver) = client.unwrap();
    tokio::spawn(driver);
    let asked = Request::connect("www.example.com:443").body(()).unwrap();
    let opening = client.open(&asked, false).unwrap();
    let (_, responder) = server.accept().await.unwrap();
    let far = responder.respond(&Response::new(()), false).unwrap();
    let (_, near) = opening.await.unwrap();
    (near, far, (client, server))
}

fn frames(c: &mut Criterion) {
    let runtime = runtime();
    for (tls, name) in [(true, "lean frames, encrypted"), (false, "lean frames, clear")] {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let (mut near, mut far, _kept) = runtime.block_on(stream(tls));
            let (sent, mut got) = (vec![7; size], vec![0; size]);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(format!("{size} bytes"), |b| {
                b.iter(|| {
                    runtime.block_on(async {
                        let send = async {
                            let mut rest = &sent[..];
                            while !rest.is_empty() {
                                let n = poll_fn(|cx| near.poll_write(cx, rest)).await.unwrap();
                                rest = &rest[n..];
                            }
                        };
                        let receive = async {
                            let mut left = size;
                            while left > 0 {
                                left -= poll_fn(|cx| far.poll_read(cx, &mut got[..left])).await.unwrap();
                            }
                        };
                        tokio::join!(send, receive)
                    })
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, records, frames);
criterion_main!(benches);
