//! Accepting connections, and giving each to a worker.
//!
//! Invariant: the loop awaits nothing but the next connection; no client, and no lack of descriptors, ends it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::listener::Listener;
use crate::workers::Place;

/// A client that vanished is noticed after about three minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Each loop logs trouble at most this often.
const QUIET: Duration = Duration::from_secs(10);

/// What every client's socket has on. Linux hands it down from the listening socket, without a system call more.
pub(crate) fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL))
}

/// Accepts until it is aborted.
pub(crate) async fn run(socket: Arc<TcpListener>, listener: Arc<Listener>) {
    let mut trouble = Trouble::default();
    loop {
        match socket.accept().await {
            Ok((stream, client)) => {
                trouble.over(&listener);
                if !cfg!(target_os = "linux") && prepare(&SockRef::from(&stream)).is_err() {
                    continue;
                }
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                let place = listener.node().workers().place();
                if place.is_here() {
                    tokio::spawn(serve(listener.clone(), stream, client, place));
                } else if let Ok(stream) = stream.into_std() {
                    let (listener, workers) = (listener.clone(), listener.node().workers());
                    workers.spawn(place.worker(), async move {
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            serve(listener, stream, client, place).await;
                        }
                    });
                }
            }
            // The client was gone before it was accepted.
            Err(error) if is_clients(&error) => {}
            Err(error) => trouble.wait(&listener, &error).await,
        }
    }
}

/// Serves a connection, which has a place on this worker for so long.
async fn serve(listener: Arc<Listener>, stream: TcpStream, client: SocketAddr, _place: Place) {
    let Some(current) = listener.current() else { return };
    let served = current.front.serve(Connection { stream, client, listener });
    drop(current);
    served.await;
}

fn is_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A lack of descriptors or memory: waited out, and told without flooding the log.
#[derive(Default)]
struct Trouble {
    times: u32,
    told: Option<Instant>,
}

impl Trouble {
    async fn wait(&mut self, listener: &Listener, error: &io::Error) {
        self.times += 1;
        let now = Instant::now();
        if self.told.is_none_or(|told| now.duration_since(told) > QUIET) {
            self.told = Some(now);
            tracing::error!(
                listener = listener.name(),
                "cannot accept: {error}; open sessions go on, new ones wait (raise the limit of open files if this lasts)"
            );
        }
        tokio::time::sleep(Duration::from_millis(10 << self.times.min(6))).await;
    }

    fn over(&mut self, listener: &Listener) {
        if self.times > 0 {
            if self.told.is_some_and(|told| told.elapsed() > QUIET) {
                self.told = None;
            }
            tracing::info!(listener = listener.name(), "accepting again after {} failures", self.times);
            self.times = 0;
        }
    }
}
