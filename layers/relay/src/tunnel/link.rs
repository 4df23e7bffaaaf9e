//! One HTTP/2 connection to the remote, and the task that drives it.
//!
//! Invariant: a link that goes silent is closed within a bound, so that its streams fail instead of hanging; a
//! link that is retired takes no new stream and closes when its last one has ended.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::{Request, Response};
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_wire::h2::{H2End, Windows, client_builder};
use swiftproxy_wire::lean;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::heard::{BULK, Heard, Listening};

/// A link this quiet is asked whether it lives.
const QUIET: Duration = Duration::from_secs(15);

/// The same while a request of ours waits for its answer.
const IMPATIENT: Duration = Duration::from_secs(3);

/// How long the answer may take before the link is given up; whatever is heard meanwhile counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the lean engine watches over its connection, which is the same.
pub(super) const WATCH: lean::Watch = lean::Watch { quiet: QUIET, busy: IMPATIENT, patience: PATIENCE };

/// A connection to the remote.
#[derive(Debug)]
pub(super) struct Link {
    requests: Requests,
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

/// Who sends requests.
enum Requests {
    /// The `h2` crate, until the link is retired.
    H2(Mutex<Option<SendRequest<Bytes>>>),
    /// Our own engine, which also watches over its connection.
    Lean(lean::Client),
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H2(_) => "H2",
            Self::Lean(_) => "Lean",
        })
    }
}

impl Link {
    fn new(requests: Requests, heard: Heard, changed: watch::Sender<()>) -> Arc<Self> {
        Arc::new(Self {
            requests,
            heard,
            streams: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            asked: Mutex::new(Instant::now()),
            rtt_micros: AtomicU64::new(u64::MAX),
            ask: Notify::new(),
            look: Notify::new(),
            cut: Notify::new(),
            changed,
        })
    }

    /// Drives a connection of the lean engine from now on.
    pub(super) fn start_lean(
        client: lean::Client,
        driver: lean::Driver,
        changed: watch::Sender<()>,
    ) -> Arc<Self> {
        let link = Self::new(Requests::Lean(client), Heard::now(), changed);
        tokio::spawn({
            let link = link.clone();
            async move {
                let why = driver.await;
                tracing::debug!(%why, "a connection to the remote has ended");
                link.retire();
            }
        });
        link
    }

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
        let link = Self::new(Requests::H2(Mutex::new(Some(requests))), heard, changed);
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
        match &self.requests {
            Requests::H2(requests) => requests.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
            Requests::Lean(client) => client.is_open(),
        }
    }

    /// How many streams it carries.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    /// How little it suits a new stream: bulk would delay it, and company too, though less.
    pub(super) fn load(&self) -> (bool, usize) {
        let bulk = match &self.requests {
            Requests::H2(_) => self.heard.is_bulk(),
            Requests::Lean(client) => client.rate() >= BULK,
        };
        (bulk, self.streams())
    }

    /// The round trip of the last answered ping.
    pub(super) fn rtt(&self) -> Option<Duration> {
        if let Requests::Lean(client) = &self.requests {
            return client.round_trip();
        }
        let micros = self.rtt_micros.load(Relaxed);
        (micros != u64::MAX).then(|| Duration::from_micros(micros))
    }

    /// Measures the round trip anew.
    pub(super) fn ask(&self) {
        match &self.requests {
            Requests::H2(_) => self.ask.notify_one(),
            Requests::Lean(client) => client.ask(),
        }
    }

    /// Takes no new stream from now on.
    pub(super) fn retire(&self) {
        match &self.requests {
            Requests::H2(requests) => drop(requests.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Requests::Lean(client) => client.retire(),
        }
        self.changed.send_replace(());
    }

    /// Ends it and its streams.
    pub(super) fn cut(&self) {
        self.retire();
        match &self.requests {
            Requests::H2(_) => self.cut.notify_one(),
            Requests::Lean(client) => client.cut(),
        }
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
    /// The link's.
    pub(super) async fn request(&self, request: Request<()>, end: bool) -> Result<Option<Asked>, Fault> {
        match &self.0.requests {
            Requests::H2(requests) => {
                let requests = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(requests) = requests else { return Ok(None) };
                let unanswered = Unanswered::new(&self.0);
                let (response, send) = requests.ready().await?.send_request(request, end)?;
                Ok(Some(Asked::H2(unanswered, response, send)))
            }
            Requests::Lean(client) => loop {
                match client.open(&request, end) {
                    Ok(opening) => return Ok(Some(Asked::Lean(opening))),
                    Err(lean::OpenError::Closing) => return Ok(None),
                    Err(lean::OpenError::Malformed) => return Err(Fault::Reset),
                    Err(lean::OpenError::Full) => {}
                }
                if client.ready().await.is_err() {
                    return Ok(None);
                }
            },
        }
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

/// A request that was sent.
pub(super) enum Asked {
    /// Over the `h2` crate.
    H2(Unanswered, ResponseFuture, SendStream<Bytes>),
    /// Over our own engine.
    Lean(lean::Opening),
}

impl Asked {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The stream's, or the link's.
    pub(super) async fn answer(self) -> Result<Response<Box<dyn Endpoint>>, Fault> {
        match self {
            Self::H2(_unanswered, response, send) => {
                let (head, body) = response.await?.into_parts();
                Ok(Response::from_parts(head, Box::new(H2End::new(send, body))))
            }
            Self::Lean(opening) => {
                let (response, end) = opening.await?;
                Ok(response.map(|()| Box::new(end) as Box<dyn Endpoint>))
            }
        }
    }
}

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The remote did not look at it.
    Unseen,
    /// It was reset: the target cannot be connected, as far as HTTP/2 has words for it.
    Connect,
    /// It was reset for another reason.
    Reset,
    /// The link is of no use any more.
    Link,
}

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(Reason::REFUSED_STREAM) => Self::Unseen,
            Some(Reason::CONNECT_ERROR) if error.is_reset() => Self::Connect,
            Some(_) if error.is_reset() => Self::Reset,
            _ => Self::Link,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<lean::Reset>()) {
            Some(lean::Reset(lean::Code::REFUSED_STREAM)) => Self::Unseen,
            Some(lean::Reset(lean::Code::CONNECT_ERROR)) => Self::Connect,
            Some(_) => Self::Reset,
            None => Self::Link,
        }
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
