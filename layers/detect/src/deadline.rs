//! One deadline over a whole handshake.
//!
//! Invariant: bytes that come one at a time do not move it; only time that we take ourselves does.

use std::future::Future;

use swiftproxy_core::error::Refusal;
use tokio::time::{Instant, timeout_at};

use crate::inbox::Fault;

/// When the client must have said what it wants.
pub(crate) struct Deadline(pub(crate) Instant);

impl Deadline {
    /// Waits for something that depends on the client.
    pub(crate) async fn hold<T>(&self, step: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout_at(self.0, step).await.unwrap_or(Err(Fault::Refused(Refusal::HandshakeTimeout)))
    }

    /// Waits for something that depends on us; the client gets that time back.
    pub(crate) async fn pause<T>(&mut self, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = work.await;
        self.0 += start.elapsed();
        done
    }
}
