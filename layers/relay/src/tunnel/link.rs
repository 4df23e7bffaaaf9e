//! One HTTP/2 connection to the remote, and the task that drives it.
//!
//! Invariant: a link that goes silent is closed within a bound, so that its streams fail instead of hanging; a
//! link that is retired takes no new stream and closes when its last one has ended.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use swiftproxy_wire::h2::{Windows, client_builder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::heard::{Heard, Listening};

/// A link this quiet is asked whether it lives.
const QUIET: Duration = Duration::from_secs(15);

/// The same while a request of ours waits for its answer.
const IMPATIENT: Duration = Duration::from_secs(3);

/// How long the answer may take before the link is given up; whatever is heard meanwhile counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the remote.
#[derive(Debug)]
pub(super) struct Link {
    requests: Mutex<Option<SendRequest<Bytes>>>,
    heard: Heard,
    streams: AtomicUsize,
    unanswered: AtomicUsize,
    asked: Mutex<Instant>,
    rtt_micros: AtomicU64,
    ask: Notify,
    look: Notify,
    cut: Notify,
    changed: watch::Sender<()>,
}

impl Link {
    /// Shakes hands over `stream` and drives the connection from then on. `changed` is told when it takes no
    /// stream any more.
    ///
    /// # Errors
    /// The handshake's.
    pub(super) async fn start<S>(stream: S, changed: watch::Sender<()>) -> Result<Arc<Self>, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let heard = Heard::now();
        let stream = Listening::new(stream, heard.clone());
        let (requests, mut connection) = client_builder().handshake::<_, Bytes>(stream).await?;
        let link = Arc::new(Self {
            requests: Mutex::new(Some(requests)),
            heard,
            streams: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            asked: Mutex::new(Instant::now()),
            rtt_micros: AtomicU64::new(u64::MAX),
            ask: Notify::new(),
            look: Notify::new(),
            cut: Notify::new(),
            changed,
        });
        let ping = connection.ping_pong();
        link.ask.notify_one();
        tokio::spawn({
            let link = link.clone();
            async move {
                let mut windows = Windows::CLIENT;
                let driven = poll_fn(|cx| {
                    windows.fit_client(&mut connection, link.streams.load(Relaxed));
                    Pin::new(&mut connection).poll(cx)
                });
                let why = tokio::select! {
                    outcome = driven => match outcome {
                        Ok(()) => "closed".to_owned(),
                        Err(error) => error.to_string(),
                    },
                    () = link.watch(ping) => "it went silent".to_owned(),
                    () = link.cut.notified() => "cut".to_owned(),
                };
                tracing::debug!(%why, "a connection to the remote has ended");
                drop(connection);
                link.retire();
            }
        });
        Ok(link)
    }

    /// Asks the far end now and then, and ends when it does not answer.
    async fn watch(&self, ping: Option<PingPong>) {
        let heard = &self.heard;
        let Some(mut ping) = ping else { return std::future::pending().await };
        loop {
            tokio::select! {
                () = sleep_until(self.due()) => if self.due() > Instant::now() { continue },
                () = self.look.notified() => continue,
                () = self.ask.notified() => {}
            }
            let sent = Instant::now();
            let mut pong = pin!(ping.ping(Ping::opaque()));
            loop {
                tokio::select! {
                    answer = &mut pong => match answer {
                        Ok(_) => break,
                        // The connection's own end says why.
                        Err(_) => return std::future::pending().await,
                    },
                    () = sleep_until(heard.last().max(sent) + PATIENCE) => {
                        if heard.last().max(sent) + PATIENCE <= Instant::now() {
                            return;
                        }
                    }
                }
            }
            self.rtt_micros.store(sent.elapsed().as_micros() as u64, Relaxed);
        }
    }

    /// When its silence gets suspicious.
    fn due(&self) -> Instant {
        if self.unanswered.load(Relaxed) == 0 {
            return self.heard.last() + QUIET;
        }
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.heard.last().max(asked) + IMPATIENT
    }

    /// Whether it takes new streams.
    pub(super) fn is_open(&self) -> bool {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How many streams it carries.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    /// How little it suits a new stream: bulk would delay it, and company too, though less.
    pub(super) fn load(&self) -> (bool, usize) {
        (self.heard.is_bulk(), self.streams())
    }

    /// The round trip of the last answered ping.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Relaxed);
        (micros != u64::MAX).then(|| Duration::from_micros(micros))
    }

    /// Measures the round trip anew.
    pub(super) fn ask(&self) {
        self.ask.notify_one();
    }

    /// Takes no new stream from now on.
    pub(super) fn retire(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.changed.send_replace(());
    }

    /// Ends it and its streams.
    pub(super) fn cut(&self) {
        self.retire();
        self.cut.notify_one();
    }

    /// Takes a place for a stream.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        self.streams.fetch_add(1, Relaxed);
        Place(self.clone())
    }
}

/// A stream's place on a link; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Link>);

impl Place {
    /// Sends a request; none where the link takes none any more.
    ///
    /// # Errors
    /// HTTP/2's.
    pub(super) async fn request(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<Option<(Unanswered, ResponseFuture, SendStream<Bytes>)>, h2::Error> {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(requests) = requests else { return Ok(None) };
        let unanswered = Unanswered::new(&self.0);
        let (response, send) = requests.ready().await?.send_request(request, end)?;
        Ok(Some((unanswered, response, send)))
    }

    /// The link takes no new stream from now on.
    pub(super) fn retire(&self) {
        self.0.retire();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// A request that waits for its answer; while there is one, silence is suspicious.
#[derive(Debug)]
pub(super) struct Unanswered(Arc<Link>);

impl Unanswered {
    fn new(link: &Arc<Link>) -> Self {
        if link.unanswered.fetch_add(1, Relaxed) == 0 {
            *link.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            link.look.notify_one();
        }
        Self(link.clone())
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Relaxed);
    }
}
