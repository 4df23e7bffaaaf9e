//! What a connection's streams have accepted and its socket has not taken yet.
//!
//! Invariant: it is [`MOST`] bytes at most, however many streams there are and however wide their windows; streams that
//! wait for room get it in turn, and each byte's room is given back when the socket has taken it or its stream is gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use swiftproxy_core::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a whole connection.
const MOST: usize = 2 << 20;

/// Bytes that one stream takes at a time.
const STEP: usize = 64 << 10;

/// One connection's.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Semaphore>);

impl Default for Queue {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Queue {
    /// Room for some of `want` bytes, if there is any.
    pub fn try_hold(&self, want: usize) -> Option<Held> {
        let n = want.min(STEP).min(self.0.available_permits());
        let n = u32::try_from(n).ok().filter(|n| *n > 0)?;
        self.0.clone().try_acquire_many_owned(n).ok().map(Held)
    }

    /// Waits for room.
    pub async fn room(&self) {
        // Nobody closes it. What was got is not kept: the next step takes what it needs.
        let _ = self.0.acquire().await;
    }
}

/// Room for so many bytes.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

impl Held {
    /// How many.
    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Keeps only room for `n` bytes.
    pub(super) fn keep(&mut self, n: usize) {
        if let Some(surplus) = self.bytes().checked_sub(n) {
            drop(self.0.split(surplus));
        }
    }

    /// `bytes` that give the room back when they are dropped.
    pub fn hold(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        struct Owner<T> {
            bytes: T,
            _room: Held,
        }
        impl<T: AsRef<[u8]>> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                self.bytes.as_ref()
            }
        }
        Bytes::from_owner(Owner { bytes, _room: self })
    }
}

/// A stream's place in the line for room.
#[derive(Default)]
pub(super) struct Place(Option<BoxFuture<()>>);

impl Place {
    /// Ready when there is room.
    pub(super) fn poll_room(&mut self, queue: &Queue, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.is_none() && queue.0.available_permits() > 0 {
            return Poll::Ready(());
        }
        let wait = self.0.get_or_insert_with(|| {
            let queue = queue.clone();
            Box::pin(async move { queue.room().await })
        });
        ready!(Pin::new(wait).poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_bounded_and_comes_back_with_the_bytes() {
        let queue = Queue::default();
        let mut held = Vec::new();
        while let Some(room) = queue.try_hold(usize::MAX) {
            let n = room.bytes();
            held.push(room.hold(vec![0; n]));
        }
        assert_eq!(held.iter().map(Bytes::len).sum::<usize>(), MOST);
        let waits = tokio::spawn({
            let queue = queue.clone();
            async move { queue.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        let part = held.pop().unwrap();
        let clone = part.slice(5..);
        drop(part);
        assert!(queue.try_hold(1).is_none(), "half of it is still there");
        drop(clone);
        waits.await.unwrap();
        let mut room = queue.try_hold(1000).unwrap();
        room.keep(10);
        assert_eq!(queue.0.available_permits(), STEP - 10);
        drop((room, held));
        assert_eq!(queue.0.available_permits(), MOST);
    }
}
