//! A server's side: requests as they arrive, and who answers them.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use http::{Request, Response};
use tokio::sync::mpsc;

use super::end::End;
use super::frame::{self, Code, END_HEADERS, END_STREAM, GOAWAY, HEADERS};
use super::head;
use super::shared::{Ending, Shared};

/// A request, and who answers it.
pub type Arrival = (Request<()>, Responder);

/// A connection's requests.
pub struct Server {
    shared: Arc<Shared>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

impl Server {
    pub(super) fn new(shared: Arc<Shared>, arrivals: mpsc::UnboundedReceiver<Arrival>) -> Self {
        Self { shared, arrivals }
    }

    /// The next request; none once the connection has ended. Whatever arrived and is not accepted counts among the
    /// streams that there may be.
    pub async fn accept(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.shared.table().streams.len()
    }

    /// Takes no new stream; the connection ends when the last one has. One GOAWAY is enough where RFC 9113 §6.8 would
    /// have two: a stream that comes too late is refused, which a client of ours takes as well as the GOAWAY itself for
    /// leave to open it elsewhere.
    pub fn drain(&self) {
        let mut table = self.shared.table();
        if std::mem::replace(&mut table.closing, true) {
            return;
        }
        let payload = [table.latest.to_be_bytes(), Code::NO_ERROR.0.to_be_bytes()].concat();
        drop(table);
        self.shared.control(|out| frame::put(out, GOAWAY, 0, 0, &payload));
        self.shared.kick();
        self.shared.driver.wake();
    }

    /// Ends it and its streams.
    pub fn cut(&self) {
        self.shared.end(Ending::Cut);
    }
}

/// Answers one request. Dropped without an answer, the stream is reset.
#[derive(Debug)]
pub struct Responder(End);

impl Responder {
    pub(super) fn new(end: End) -> Self {
        Self(end)
    }

    /// Answers; with `end`, there is nothing more to say.
    ///
    /// # Errors
    /// The client has reset the stream, or the connection has ended.
    pub fn respond(self, response: &Response<()>, end: bool) -> io::Result<End> {
        let (shared, stream) = (self.0.shared(), self.0.stream());
        let mut state = stream.lock();
        if let Some(broken) = state.broken {
            drop(state);
            return Err(shared.broken(broken));
        }
        state.answered = true;
        state.finished = end;
        let closed = state.is_closed();
        drop(state);
        let mut block = Vec::with_capacity(128);
        head::put_response(response, &mut block);
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        shared.control(|out| frame::put(out, HEADERS, flags, stream.id, &block));
        shared.kick();
        if closed {
            shared.forget(stream.id);
        }
        Ok(self.0)
    }

    /// Resets the stream with `code`.
    pub fn refuse(mut self, code: Code) {
        self.0.reset_with(code);
    }

    /// Waits until the client has reset the stream, or the connection has ended.
    pub async fn gone(&mut self) -> io::Error {
        poll_fn(|cx| self.0.poll_gone(cx)).await
    }
}
