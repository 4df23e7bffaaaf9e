//! Who sends next, once streams have to wait for the socket or for the connection's window.
//!
//! Invariant: those who had nothing waiting go first, the others in turn; a stream stands in line once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::stream::Stream;

/// The two lines.
#[derive(Default)]
pub(super) struct Turns {
    sparse: VecDeque<Arc<Stream>>,
    bulk: VecDeque<Arc<Stream>>,
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.sparse.len() + self.bulk.len()
    }

    /// Puts a stream in line, if it does not stand there already; in front where it was called before in vain.
    pub(super) fn enter(&mut self, stream: &Arc<Stream>, (sparse, again): (bool, bool)) {
        let line = if sparse { &mut self.sparse } else { &mut self.bulk };
        if again {
            line.push_front(stream.clone());
        } else {
            line.push_back(stream.clone());
        }
    }

    /// Calls the next one who still wants to send.
    pub(super) fn call(&mut self) -> Option<Waker> {
        while let Some(stream) = self.sparse.pop_front().or_else(|| self.bulk.pop_front()) {
            let mut state = stream.lock();
            state.queued = false;
            if let Some(waker) = state.take_writer() {
                state.called = true;
                return Some(waker);
            }
        }
        if self.bulk.capacity() > 64 {
            *self = Self::default();
        }
        None
    }
}
