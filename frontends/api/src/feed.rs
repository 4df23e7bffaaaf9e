//! A subscriber's ticks.
//!
//! Invariant: the first is there at once; a slow subscriber skips; none is given once the node shuts down or the
//! secret was changed.

use std::sync::Arc;

use swiftproxy_stats::Tick;
use tokio::sync::watch;

use crate::config::Settings;
use crate::serve::Shared;

pub(crate) struct Feed {
    first: Option<Arc<Tick>>,
    ticks: watch::Receiver<Arc<Tick>>,
    /// What the subscriber was let in by.
    let_in: Arc<Settings>,
    settings: watch::Receiver<Arc<Settings>>,
    closing: watch::Receiver<bool>,
}

impl Feed {
    pub(crate) fn new(shared: &Shared, let_in: Arc<Settings>) -> Self {
        let ticks = shared.sampler.subscribe();
        Self {
            first: Some(shared.sampler.now()),
            ticks,
            let_in,
            settings: shared.settings.subscribe(),
            closing: shared.closing.subscribe(),
        }
    }

    /// The next tick, or none at the end. Loses none when dropped.
    pub(crate) async fn next(&mut self) -> Option<Arc<Tick>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => None,
            _ = self.settings.wait_for(|now| !now.same_secret(&self.let_in)) => None,
            changed = self.ticks.changed() => {
                changed.ok()?;
                Some(self.ticks.borrow_and_update().clone())
            }
        }
    }
}
