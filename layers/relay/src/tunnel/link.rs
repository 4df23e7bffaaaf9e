//! One HTTP/2 connection to the remote, and the task that drives it.
//!
//! Invariant: a link that goes silent is closed within a bound, so that its streams fail instead of hanging; a
//! link that is retired takes no new stream and closes when its last one has ended.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Request, Response};
use swiftproxy_core::endpoint::Endpoint;
use swiftproxy_core::workers::Workers;
use swiftproxy_wire::doubt::Doubt;
use swiftproxy_wire::h2::{H2End, Queue, Windows, client_builder};
use swiftproxy_wire::heard::{BULK, Heard, Listening};
use swiftproxy_wire::lean;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

use super::silence::{Silence, Unanswered};

/// A connection to the remote.
#[derive(Debug)]
pub(super) struct Link {
    requests: Requests,
    /// Of the `h2` crate's.
    queue: Queue,
    streams: AtomicUsize,
    /// The worker that drives it.
    worker: Option<usize>,
    /// It ended, and neither end meant it to.
    broke: AtomicBool,
    cut: Notify,
    changed: watch::Sender<()>,
}

/// Who sends requests.
enum Requests {
    /// The `h2` crate, until the link is retired.
    H2(Mutex<Option<SendRequest<Bytes>>>, Arc<Silence>),
    /// Our own engine, which also watches over its connection.
    Lean(lean::Client),
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H2(..) => "H2",
            Self::Lean(_) => "Lean",
        })
    }
}

impl Link {
    fn new(requests: Requests, changed: watch::Sender<()>) -> Arc<Self> {
        Arc::new(Self {
            requests,
            queue: Queue::default(),
            streams: AtomicUsize::new(0),
            worker: Workers::here(),
            broke: AtomicBool::new(false),
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
        let link = Self::new(Requests::Lean(client), changed);
        tokio::spawn({
            let link = link.clone();
            let (mut driver, mut known) = (Box::pin(driver), (true, true, false));
            async move {
                let why = poll_fn(|cx| {
                    let polled = driver.as_mut().poll(cx);
                    let seen = (link.is_open(), link.is_calm(), link.is_silent());
                    if std::mem::replace(&mut known, seen) != seen {
                        link.changed.send_replace(());
                    }
                    polled
                });
                let why = why.await;
                tracing::debug!(%why, "a connection to the remote has ended");
                link.end(!matches!(why, lean::Ending::Closed | lean::Ending::Cut));
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
        let silence = Arc::new(Silence::new(heard));
        let link = Self::new(Requests::H2(Mutex::new(Some(requests)), silence.clone()), changed);
        let ping = connection.ping_pong();
        tokio::spawn({
            let link = link.clone();
            async move {
                let mut windows = Windows::CLIENT;
                let driven = poll_fn(|cx| {
                    windows.fit_client(&mut connection, link.streams.load(Relaxed));
                    Pin::new(&mut connection).poll(cx)
                });
                let (why, broke) = tokio::select! {
                    outcome = driven => match outcome {
                        Ok(()) => ("closed".to_owned(), false),
                        Err(error) => (error.to_string(), true),
                    },
                    () = silence.watch(ping, &link.changed) => ("it went silent".to_owned(), true),
                    () = link.cut.notified() => ("cut".to_owned(), false),
                };
                tracing::debug!(%why, "a connection to the remote has ended");
                drop(connection);
                link.end(broke);
            }
        });
        Ok(link)
    }

    /// Whether it takes new streams.
    pub(super) fn is_open(&self) -> bool {
        match &self.requests {
            Requests::H2(requests, _) => requests.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
            Requests::Lean(client) => client.is_open(),
        }
    }

    /// Whether it ended, and neither end meant it to.
    pub(super) fn broke(&self) -> bool {
        self.broke.load(Relaxed)
    }

    fn peer(&self) -> &Doubt {
        match &self.requests {
            Requests::H2(_, silence) => &silence.doubt,
            Requests::Lean(client) => client.peer(),
        }
    }

    /// Nothing speaks against its far end.
    pub(super) fn is_calm(&self) -> bool {
        self.peer().is_calm()
    }

    /// Its far end was asked, and has not been heard for too long.
    pub(super) fn is_silent(&self) -> bool {
        self.peer().is_silent()
    }

    /// Whether it fell silent and nobody has asked this yet.
    pub(super) fn take_alarm(&self) -> bool {
        self.peer().take_alarm()
    }

    /// Its far end is in doubt until it is heard, and given up where that takes longer than `patience`.
    pub(super) fn doubt(&self, patience: Duration) {
        match &self.requests {
            Requests::H2(_, silence) => silence.doubt(patience),
            Requests::Lean(client) => client.doubt(patience),
        }
    }

    /// The worker that drives it.
    pub(super) fn worker(&self) -> Option<usize> {
        self.worker
    }

    /// How many streams it carries.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    /// How little it suits a new stream: bulk would delay it, and company too, though less.
    pub(super) fn load(&self) -> (bool, usize) {
        let bulk = match &self.requests {
            Requests::H2(_, silence) => silence.heard.is_bulk(),
            Requests::Lean(client) => client.rate() >= BULK,
        };
        (bulk, self.streams())
    }

    /// The round trip of the last answered ping.
    pub(super) fn rtt(&self) -> Option<Duration> {
        match &self.requests {
            Requests::H2(_, silence) => silence.rtt(),
            Requests::Lean(client) => client.round_trip(),
        }
    }

    /// Measures the round trip anew.
    pub(super) fn ask(&self) {
        match &self.requests {
            Requests::H2(_, silence) => silence.ask(),
            Requests::Lean(client) => client.ask(),
        }
    }

    /// Takes no new stream from now on.
    pub(super) fn retire(&self) {
        match &self.requests {
            Requests::H2(requests, _) => drop(requests.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Requests::Lean(client) => client.retire(),
        }
        self.changed.send_replace(());
    }

    fn end(&self, broke: bool) {
        // Said before it is seen to take nothing any more.
        self.broke.fetch_or(broke, Relaxed);
        self.retire();
    }

    /// Ends it and its streams.
    pub(super) fn cut(&self) {
        self.retire();
        match &self.requests {
            Requests::H2(..) => self.cut.notify_one(),
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
            Requests::H2(requests, silence) => {
                let requests = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(requests) = requests else { return Ok(None) };
                let unanswered = Unanswered::new(silence);
                let (response, send) = requests.ready().await?.send_request(request, end)?;
                Ok(Some(Asked::H2(unanswered, response, send, self.0.queue.clone())))
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

    /// The link's far end takes no more of it.
    pub(super) fn retire(&self) {
        self.0.retire();
    }

    /// The link has ended under a request.
    pub(super) fn broke(&self) {
        self.0.end(true);
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
    H2(Unanswered, ResponseFuture, SendStream<Bytes>, Queue),
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
            Self::H2(_unanswered, response, send, queue) => {
                let (head, body) = response.await?.into_parts();
                Ok(Response::from_parts(head, Box::new(H2End::new(send, body, queue))))
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
    /// The remote had said before that it stops.
    Stops,
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
            Some(Reason::NO_ERROR) if error.is_go_away() => Self::Stops,
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
