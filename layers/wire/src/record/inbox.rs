//! What was received: many records by one read, each opened where it lies.
//!
//! Invariant: while nothing is there to read, no more is kept than the start of one record.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::fault::Fault;
use super::open::{Open, Step};
use super::pool::{self, BUFFER};

/// A receiving direction with its buffer; without a key it hands on what came as it is.
pub struct Inbox {
    open: Option<Box<Open>>,
    buffer: Option<Box<[u8]>>,
    /// What is not opened yet, in `buffer`.
    start: usize,
    end: usize,
    /// The same while there is no buffer.
    parked: Vec<u8>,
    closed: bool,
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Data, there in [`Inbox::bytes`].
    Data(Range<usize>),
    /// More has to be read first.
    Short,
    /// The peer said that it sends no more.
    Closed,
}

impl Inbox {
    pub(super) fn new(open: Option<Open>, received: Vec<u8>) -> Self {
        Self { open: open.map(Box::new), buffer: None, start: 0, end: 0, parked: received, closed: false }
    }

    /// The buffer that [`Next::Data`] speaks of.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }

    /// Whether the peer asked for a change of our own key since this was asked last.
    pub(crate) fn take_update_asked(&mut self) -> bool {
        self.open.as_mut().is_some_and(|open| open.take_update_asked())
    }

    /// The next data. Call it until it is short; what it answered before may be gone then.
    pub(crate) fn next(&mut self) -> Result<Next, Fault> {
        if self.closed {
            return Ok(Next::Closed);
        }
        if !self.parked.is_empty() {
            self.unpark();
        }
        let Some(buffer) = &mut self.buffer else { return Ok(Next::Short) };
        let Some(open) = &mut self.open else {
            let all = self.start..self.end;
            self.start = self.end;
            return Ok(if all.is_empty() { Next::Short } else { Next::Data(all) });
        };
        loop {
            match open.step(&mut buffer[self.start..self.end])? {
                Step::Short => return Ok(Next::Short),
                Step::Closed => {
                    self.closed = true;
                    return Ok(Next::Closed);
                }
                Step::Record(length, data) => {
                    let data = self.start + data.start..self.start + data.end;
                    self.start += length;
                    if !data.is_empty() {
                        return Ok(Next::Data(data));
                    }
                }
            }
        }
    }

    /// Reads once, as much as there is; 0 is the end of the connection.
    pub(crate) fn poll_fill<S>(&mut self, cx: &mut Context<'_>, socket: &mut S) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        self.unpark();
        let Some(buffer) = &mut self.buffer else { return Poll::Ready(Ok(0)) };
        if self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut into = ReadBuf::new(&mut buffer[self.end..]);
        let polled = Pin::new(socket).poll_read(cx, &mut into);
        let n = into.filled().len();
        self.end += n;
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(n)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.park();
                Poll::Pending
            }
        }
    }

    fn unpark(&mut self) {
        if self.buffer.is_some() {
            return;
        }
        let mut buffer = pool::take();
        // The start of a record, or of what a handshake left; it fits.
        let n = self.parked.len().min(BUFFER);
        buffer[..n].copy_from_slice(&self.parked[..n]);
        self.parked = Vec::new();
        (self.start, self.end) = (0, n);
        self.buffer = Some(buffer);
    }

    fn park(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.parked = buffer[self.start..self.end].to_vec();
            (self.start, self.end) = (0, 0);
            pool::give(buffer);
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            pool::give(buffer);
        }
    }
}
