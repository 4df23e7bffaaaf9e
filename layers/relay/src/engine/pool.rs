//! Pipes to splice through, used again and again.
//!
//! Invariant: only a pipe that is known to be empty is used again, or one session's bytes would reach another.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// How much a pipe holds, in bytes; 64 pages.
const CAPACITY: usize = 256 * 1024;
/// The first few hold more, as much as an unprivileged user's may (pipe(7)): a lone stream has the least to wait for.
const LARGE: usize = 1024 * 1024;
const LARGE_ONES: usize = 8;
/// A pipe that holds less is no use: an unprivileged user gets such when 16,384 pages of theirs are in pipes.
const LEAST_CAPACITY: usize = 64 * 1024;
/// How many pipes there are at most, in use or not: half of those pages.
const MOST: usize = 104;

/// A pipe, and what is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    _counted: Counted,
}

/// One of the pipes there are.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The pipes of a node.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Mutex<Vec<Pipe>>,
    count: Arc<AtomicUsize>,
}

impl Pool {
    /// An empty pipe, if there is or may be one.
    pub(super) fn take(&self) -> Option<Pipe> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.or_else(|| self.make())
    }

    fn make(&self) -> Option<Pipe> {
        let before = self.count.fetch_add(1, Relaxed);
        let counted = Counted(self.count.clone());
        if before >= MOST {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let wanted = if before < LARGE_ONES { LARGE } else { CAPACITY };
        let capacity = fcntl_setpipe_size(&write, wanted)
            .or_else(|_| fcntl_setpipe_size(&write, CAPACITY))
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))
            .unwrap_or(0);
        (capacity >= LEAST_CAPACITY).then_some(Pipe { read, write, held: 0, _counted: counted })
    }

    /// Keeps a pipe for the next, if it is empty.
    pub(super) fn give_back(&self, pipe: Pipe) {
        if pipe.held == 0 {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(pipe);
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).len();
        (self.count.load(Relaxed), free)
    }
}

impl Pipe {
    /// Bytes that went in and did not come out.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves at most `most` bytes in; 0 is the source's end.
    pub(super) fn fill(&mut self, source: impl std::os::fd::AsFd, most: usize) -> Result<usize, Errno> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = splice(source, None, &self.write, None, most, flags)?;
        self.held += n;
        Ok(n)
    }

    /// Moves what it holds out, as much as the sink takes.
    pub(super) fn drain(&mut self, sink: impl std::os::fd::AsFd) -> Result<usize, Errno> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let n = splice(&self.read, None, sink, None, self.held, flags)?;
        self.held -= n.min(self.held);
        Ok(n)
    }
}
