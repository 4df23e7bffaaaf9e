//! Over loopback sockets: lean against lean, against the `h2` crate both ways, and against whoever breaks the rules.

mod faults;
mod flow;
mod interop;
mod pairs;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use swiftproxy_core::endpoint::{AsStream, Endpoint};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::record::{self, Accepted, Channel};

/// Encrypted and not.
const LAYERS: [bool; 2] = [true, false];

const WATCH: Watch = Watch {
    quiet: Duration::from_secs(15),
    busy: Duration::from_secs(3),
    doubt: Duration::from_secs(3),
    patience: Duration::from_secs(10),
};

/// A connected pair of sockets.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A client's channel and a server's, of which the server received nothing yet.
async fn channels(tls: bool) -> (Channel, Channel) {
    let (near, far) = sockets().await;
    if !tls {
        return (Channel::clear(near, Vec::new()), Channel::clear(far, Vec::new()));
    }
    let (client, server) = record::tests::configs();
    let name = crate::tls::server_name("localhost").unwrap();
    let (near, far) =
        tokio::join!(record::connect(near, client, name), record::accept(far, Vec::new(), server, b"h2"));
    let Accepted::Channel(far) = far.unwrap() else { panic!("TLS 1.3 and h2 were offered") };
    (near.unwrap(), far)
}

/// Both ends of one lean connection, driven.
struct Pair {
    client: Client,
    server: Server,
    near: JoinHandle<Ending>,
    far: JoinHandle<Ending>,
    /// The server's.
    budget: Budget,
}

impl Pair {
    async fn new(tls: bool) -> Self {
        Self::over(channels(tls).await).await
    }

    async fn over((near, mut far): (Channel, Channel)) -> Self {
        let budget = Budget::default();
        let server = async {
            assert!(knows(&mut far).await.unwrap());
            let (server, driver) = serve(far, WATCH, &budget);
            (server, tokio::spawn(driver))
        };
        let (client, (server, far)) = tokio::join!(connect(near, WATCH, true), server);
        let (client, driver) = client.unwrap();
        Self { client, server, near: tokio::spawn(driver), far, budget }
    }

    /// A stream, and both of its ends.
    async fn stream(&mut self) -> (End, End) {
        let opening = self.client.open(&request("a.example:443"), false).unwrap();
        let (asked, responder) = self.server.accept().await.unwrap();
        assert_eq!(asked.uri(), "a.example:443");
        let far = responder.respond(&Response::new(()), false).unwrap();
        let (response, near) = opening.await.unwrap();
        assert_eq!(response.status(), 200);
        (near, far)
    }
}

fn request(target: &str) -> Request<()> {
    Request::connect(target).body(()).unwrap()
}

fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|at| (((at + seed) * 31) >> 3) as u8).collect()
}

/// Writes all of it and says that nothing follows.
async fn send(end: &mut (impl Endpoint + ?Sized), bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = poll_fn(|cx| end.poll_write(cx, rest)).await?;
        rest = &rest[n..];
    }
    poll_fn(|cx| end.poll_finish(cx)).await
}

/// Reads to the end.
async fn receive(end: &mut (impl Endpoint + ?Sized)) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll_fn(|cx| end.poll_read(cx, &mut buffer)).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Sends until it takes no more, and long enough after that; how much that was.
async fn stuff(end: &mut End) -> usize {
    let (mut sent, mut quiet, chunk) = (0, 0, vec![5; 64 * 1024]);
    while quiet < 50 {
        match poll_fn(|cx| Poll::Ready(end.poll_write(cx, &chunk))).await {
            Poll::Ready(n) => {
                quiet = 0;
                sent += n.unwrap();
            }
            Poll::Pending => {
                quiet += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    sent
}

/// The HTTP/2 code of a stream that was reset.
fn code(error: &io::Error) -> Option<Code> {
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error:?}");
    Some(error.get_ref()?.downcast_ref::<Reset>()?.0)
}

fn stream_of(end: End) -> AsStream<End> {
    AsStream(end)
}

fn shared(pair: &Pair) -> Arc<shared::Shared> {
    pair.client.shared().clone()
}
