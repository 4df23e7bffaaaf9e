//! The sending side of a connection: records sealed where they are read into, sent many at once.
//!
//! Invariant: what is sealed is sent, in its order; nothing more is sealed while some of it waits for the socket.

use std::array;
use std::io::{self, IoSliceMut};
use std::task::{Context, Poll, ready};

use tokio::net::tcp::OwnedWriteHalf;

use super::frame::{DATA, HEAD, Head};
use crate::record::{MAX_PLAIN, Seal, pool};

/// Bytes of a DATA frame that fills a record with its head.
pub(super) const FRAME: usize = MAX_PLAIN - HEAD;

/// DATA frames of one batch.
pub(super) const SLOTS: usize = 8;

/// Bytes of control frames that go ahead of one batch.
const CONTROL: usize = 32 * 1024;

/// A socket, its key, and what it has not taken yet.
pub(super) struct Out {
    /// None once the connection has ended: it closes though streams' ends are still held.
    socket: Option<OwnedWriteHalf>,
    seal: Seal,
    buffer: Option<Box<[u8]>>,
    from: usize,
    to: usize,
    update: bool,
    #[cfg(test)]
    pub(super) sends: usize,
}

impl Out {
    pub(super) fn new(socket: OwnedWriteHalf, seal: Seal) -> Self {
        Self {
            socket: Some(socket),
            seal,
            buffer: None,
            from: 0,
            to: 0,
            update: false,
            #[cfg(test)]
            sends: 0,
        }
    }

    /// The socket, until it was closed.
    pub(super) fn socket(&self) -> Option<&OwnedWriteHalf> {
        self.socket.as_ref()
    }

    /// Lets go of the socket and of what it did not take.
    pub(super) fn close(&mut self) {
        self.socket = None;
        if let Some(buffer) = self.buffer.take() {
            pool::give(buffer);
        }
        (self.from, self.to) = (0, 0);
    }

    /// Seals control frames, as many as go ahead of one batch, and takes them off. Whether that was all of them.
    pub(super) fn control(&mut self, frames: &mut Vec<u8>) -> io::Result<bool> {
        let most = frames.len().min(CONTROL);
        let (mut taken, size) = (0, self.seal.max_plain().unwrap_or(CONTROL));
        while taken < most {
            self.refresh()?;
            let piece = &frames[taken..most.min(taken + size)];
            let (before, to) = (self.seal.before(), self.to);
            let buffer = self.buffer.get_or_insert_with(pool::take);
            let room = buffer.get_mut(to..).unwrap_or_default();
            if room.len() < before + piece.len() + self.seal.behind() {
                break;
            }
            room[before..before + piece.len()].copy_from_slice(piece);
            self.to += self.seal.seal(room, piece.len()).ok_or_else(spent)?;
            taken += piece.len();
        }
        let all = taken == frames.len();
        frames.drain(..taken);
        Ok(all)
    }

    /// Has a new key used from here on, where the one in use has done its work or the peer wants one.
    fn refresh(&mut self) -> io::Result<()> {
        if self.seal.is_spent() || self.update {
            let buffer = self.buffer.get_or_insert_with(pool::take);
            let room = buffer.get_mut(self.to..).unwrap_or_default();
            self.to += self.seal.update(room).ok_or_else(spent)?;
            self.update = false;
        }
        Ok(())
    }

    /// The peer wants a new key before the next data.
    pub(super) fn ask_update(&mut self) {
        self.update = true;
    }

    /// Reads at most `room` bytes by `read` into a batch of a stream's DATA frames, and seals it; 0 where `read`
    /// gave none, and nothing was sealed then.
    pub(super) fn fill(
        &mut self,
        cx: &mut Context<'_>,
        (stream, max_frame, room): (u32, usize, usize),
        read: impl FnOnce(&mut Context<'_>, &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, Failed>> {
        self.refresh().map_err(Failed::Sink)?;
        let lead = self.seal.before() + HEAD;
        let around = lead + self.seal.behind();
        let most = self.seal.max_plain().map_or(max_frame, |plain| max_frame.min(plain - HEAD));
        let buffer = self.buffer.get_or_insert_with(pool::take);
        let free = buffer.get_mut(self.to..).unwrap_or_default();

        let mut slots: [IoSliceMut<'_>; SLOTS] = array::from_fn(|_| IoSliceMut::new(&mut []));
        let (mut left, mut used) = (room, 0);
        for (slot, record) in slots.iter_mut().zip(free.chunks_mut(around + most)) {
            let n = left.min(record.len().saturating_sub(around));
            if n == 0 {
                break;
            }
            *slot = IoSliceMut::new(&mut record[lead..lead + n]);
            left -= n;
            used += 1;
        }
        let n = ready!(read(cx, &mut slots[..used])).map_err(Failed::Source)?.min(room - left);

        // Every slot but the last is full, so that one record ends where the next begins.
        let mut left = n;
        while left > 0 {
            let length = left.min(most);
            let record = buffer.get_mut(self.to..).unwrap_or_default();
            let head = Head { length, kind: DATA, flags: 0, stream }.print();
            record.get_mut(lead - HEAD..lead).ok_or_else(|| Failed::Sink(spent()))?.copy_from_slice(&head);
            self.to += self.seal.seal(record, HEAD + length).ok_or_else(|| Failed::Sink(spent()))?;
            left -= length;
        }
        Poll::Ready(Ok(n))
    }

    /// Bytes that are sealed and not sent.
    pub(super) fn sealed(&self) -> usize {
        self.to - self.from
    }

    /// Sends what is sealed; whether that was all of it.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        if let Some(buffer) = &self.buffer {
            while self.from < self.to {
                #[cfg(test)]
                {
                    self.sends += 1;
                }
                match socket.try_write(&buffer[self.from..self.to]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => self.from += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(buffer) = self.buffer.take() {
            pool::give(buffer);
        }
        (self.from, self.to) = (0, 0);
        Ok(true)
    }

    /// Sends an alert behind everything else, as far as the socket takes it.
    pub(super) fn alert(&mut self, alert: u8) {
        let mut record = Vec::new();
        self.seal.alert(alert, &mut record);
        if let Some(socket) = &self.socket
            && self.from == self.to
        {
            // It is a courtesy; who does not read does not get it.
            let _ = socket.try_write(&record);
        }
    }
}

/// Which end failed.
pub(super) enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

fn spent() -> io::Error {
    io::Error::other("a record that cannot be sealed")
}
