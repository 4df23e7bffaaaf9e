//! The switch that ends a session from outside.
//!
//! Invariant: once fired it stays fired, with the first reason; whoever polls it is woken.

use std::sync::OnceLock;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

/// Why a session ended before its ends did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An admin ended it.
    Kicked,
    /// Its account was disabled.
    Disabled,
    /// Its account was removed.
    Removed,
    /// A rule that came later denies it.
    Denied,
    /// The node shuts down and its deadline passed.
    Shutdown,
    /// No byte moved for the idle timeout.
    Idle,
}

impl Reason {
    /// The stable word for logs and the API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Disabled => "account_disabled",
            Self::Removed => "account_removed",
            Self::Denied => "denied",
            Self::Shutdown => "shutdown",
            Self::Idle => "idle",
        }
    }
}

/// One session's switch. One task at a time waits on it.
#[derive(Debug, Default)]
pub struct Cancel {
    reason: OnceLock<Reason>,
    waker: AtomicWaker,
}

impl Cancel {
    /// Ends the session; the first reason stays.
    pub fn fire(&self, reason: Reason) {
        let _ = self.reason.set(reason);
        self.waker.wake();
    }

    /// Wakes who polls it, for something else that it is to look at.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// The reason, once fired.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }

    /// Ready once fired; otherwise the current task is woken when it is.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.reason() {
            return Poll::Ready(reason);
        }
        self.waker.register(cx.waker());
        self.reason().map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until fired.
    pub async fn fired(&self) -> Reason {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_wakes_the_waiter() {
        let cancel = std::sync::Arc::new(Cancel::default());
        let waiter = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.fired().await }
        });
        tokio::task::yield_now().await;
        cancel.fire(Reason::Kicked);
        cancel.fire(Reason::Shutdown);
        assert_eq!(waiter.await.unwrap(), Reason::Kicked);
    }
}
