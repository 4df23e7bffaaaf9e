//! A client's side: opens streams.
//!
//! Invariant: streams are opened in the order of their numbers; a request that was dropped before its answer is
//! reset.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};

use super::end::End;
use super::frame::{self, END_HEADERS, END_STREAM, HEADERS};
use super::shared::{Ending, Shared};
use super::stream::{Broken, Stream};
use super::{frame::MOST_WINDOW, head};
use crate::doubt::Doubt;

/// A connection's client. The connection ends when it was dropped and the last stream has ended.
pub struct Client {
    shared: Arc<Shared>,
}

/// Why no stream was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection takes no new stream any more.
    #[error("the connection is closing")]
    Closing,
    /// The peer takes no more at the moment; [`Client::ready`] waits until it does.
    #[error("the peer takes no more streams at the moment")]
    Full,
    /// The request has no form in HTTP/2.
    #[error("the request has no form in HTTP/2")]
    Malformed,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends a request; with `end`, there is nothing more to say.
    ///
    /// # Errors
    /// Why nothing was sent.
    pub fn open(&self, request: &Request<()>, end: bool) -> Result<Opening, OpenError> {
        let mut block = Vec::with_capacity(256);
        head::put_request(request, &mut block).ok_or(OpenError::Malformed)?;
        if block.len() > frame::DEFAULT_MAX_FRAME as usize {
            return Err(OpenError::Malformed);
        }
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        let shared = &self.shared;
        let (stream, first) = shared.with_control(|out| {
            let mut table = shared.table();
            if table.closing || i64::from(table.latest) > MOST_WINDOW - 2 {
                return Err(OpenError::Closing);
            }
            if table.streams.len() >= table.peer_max {
                return Err(OpenError::Full);
            }
            let id = table.latest;
            table.latest += 2;
            let (window, allowed) = (shared.peer_initial.load(Relaxed), shared.own_initial.load(Relaxed));
            let stream = Arc::new(Stream::new(id, window, allowed, shared.budget.enter()));
            stream.lock().finished = end;
            let first = table.streams.is_empty();
            table.streams.insert(id, stream.clone());
            frame::put(out, HEADERS, flags, id, &block);
            Ok((stream, first))
        })?;
        shared.unanswered.fetch_add(1, Relaxed);
        let opening = Opening(Some(End::new(shared.clone(), stream)));
        shared.kick();
        if first {
            // There is something to watch over now.
            shared.driver.wake();
        }
        Ok(opening)
    }

    /// Waits until a stream can be opened.
    ///
    /// # Errors
    /// The connection takes no new one any more.
    pub async fn ready(&self) -> Result<(), OpenError> {
        loop {
            let opened = self.shared.opened.notified();
            {
                let table = self.shared.table();
                if table.closing {
                    return Err(OpenError::Closing);
                }
                if table.streams.len() < table.peer_max {
                    return Ok(());
                }
            }
            opened.await;
        }
    }

    /// Whether it takes new streams.
    pub fn is_open(&self) -> bool {
        !self.shared.table().closing
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.shared.table().streams.len()
    }

    /// The round trip of the link.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.round_trip()
    }

    /// Bytes of data per second, either way, as of late.
    pub fn rate(&self) -> u64 {
        self.shared.pace.rate()
    }

    /// Measures the round trip anew.
    pub fn ask(&self) {
        self.shared.ask.store(true, Relaxed);
        self.shared.driver.wake();
    }

    /// What is believed of the peer.
    pub fn peer(&self) -> &Doubt {
        &self.shared.doubt
    }

    /// The peer is in doubt until it is heard; the connection is given up where that takes longer than `patience`.
    pub fn doubt(&self, patience: Duration) {
        self.shared.doubt.raise();
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.shared.hurry.store(millis.max(1), Relaxed);
        self.shared.driver.wake();
    }

    /// Takes no new stream from now on; the connection ends with its last one.
    pub fn retire(&self) {
        self.shared.table().closing = true;
        self.shared.driver.wake();
    }

    /// Ends the connection and its streams.
    pub fn cut(&self) {
        self.shared.end(Ending::Cut);
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.retire();
    }
}

/// A request on its way; ready with the response and the stream.
#[derive(Debug)]
#[must_use = "a request that is dropped is reset"]
pub struct Opening(Option<End>);

impl Future for Opening {
    type Output = io::Result<(Response<()>, End)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(end) = &self.0 else { return Poll::Pending };
        let mut state = end.stream().lock();
        if let Some(response) = state.answer.take() {
            drop(state);
            return match self.0.take() {
                Some(end) => Poll::Ready(Ok((*response, end))),
                None => Poll::Pending,
            };
        }
        if let Some(broken) = state.broken {
            drop(state);
            let error = self.error(broken);
            self.0 = None;
            return Poll::Ready(Err(error));
        }
        state.await_reading(cx);
        Poll::Pending
    }
}

impl Opening {
    fn error(&self, broken: Broken) -> io::Error {
        match &self.0 {
            Some(end) => end.shared().broken(broken),
            None => io::ErrorKind::ConnectionAborted.into(),
        }
    }
}
