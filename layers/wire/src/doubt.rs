//! Whether a connection's peer is believed to be there still.
//!
//! Invariant: silence is told of once, however many look.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

const CALM: u8 = 0;
const ASKED: u8 = 1;
const SILENT: u8 = 2;
const TOLD: u8 = 3;

/// What is believed of one connection's peer. Whoever drives the connection changes it, and others may raise it.
#[derive(Debug, Default)]
pub struct Doubt(AtomicU8);

impl Doubt {
    /// Nothing speaks against it.
    pub fn is_calm(&self) -> bool {
        self.0.load(SeqCst) == CALM
    }

    /// It was asked and has not been heard for too long.
    pub fn is_silent(&self) -> bool {
        matches!(self.0.load(SeqCst), SILENT | TOLD)
    }

    /// Something speaks against it: an answer is wanted before it is trusted with more.
    pub fn raise(&self) {
        let _ = self.0.compare_exchange(CALM, ASKED, SeqCst, SeqCst);
    }

    /// It did not answer soon; whether that is news.
    pub fn fall_silent(&self) -> bool {
        let news = |state| (state < SILENT).then_some(SILENT);
        self.0.fetch_update(SeqCst, SeqCst, news).is_ok()
    }

    /// It was heard; whether that is news.
    pub fn clear(&self) -> bool {
        !self.is_calm() && self.0.swap(CALM, SeqCst) != CALM
    }

    /// Whether it fell silent and nobody has asked this yet.
    pub fn take_alarm(&self) -> bool {
        self.0.compare_exchange(SILENT, TOLD, SeqCst, SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_until_it_is_over() {
        let doubt = Doubt::default();
        assert!(doubt.is_calm() && !doubt.is_silent() && !doubt.take_alarm());
        doubt.raise();
        assert!(!doubt.is_calm() && !doubt.is_silent() && !doubt.take_alarm());
        assert!(doubt.fall_silent());
        doubt.raise();
        assert!(doubt.is_silent() && !doubt.is_calm());
        assert!(!doubt.fall_silent(), "known");
        assert!(doubt.take_alarm());
        assert!(!doubt.take_alarm() && !doubt.fall_silent() && doubt.is_silent());
        assert!(doubt.clear() && !doubt.clear() && doubt.is_calm());
        assert!(doubt.fall_silent() && doubt.take_alarm());
    }
}
