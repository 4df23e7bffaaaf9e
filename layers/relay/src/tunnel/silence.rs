//! How a link's silence is noticed.
//!
//! Invariant: a link that is asked and stays silent is in doubt within [`BRIEF`] and given up within [`PATIENCE`];
//! whatever is heard meanwhile counts as an answer. The lean engine keeps the same watch over its connections
//! itself, by [`WATCH`]; what is here does it for the `h2` crate's.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use h2::{Ping, PingPong};
use swiftproxy_wire::doubt::Doubt;
use swiftproxy_wire::heard::Heard;
use swiftproxy_wire::lean;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// A link this quiet is asked whether it lives.
const QUIET: Duration = Duration::from_secs(15);

/// The same while a request of ours waits for its answer.
const IMPATIENT: Duration = Duration::from_secs(3);

/// How long the answer may take before no new session is put on the link; and before it is given up, where another
/// one to the same remote was given up already.
pub(super) const BRIEF: Duration = Duration::from_secs(3);

/// How long the answer may take before the link is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The lean engine's watch.
pub(super) const WATCH: lean::Watch =
    lean::Watch { quiet: QUIET, busy: IMPATIENT, doubt: BRIEF, patience: PATIENCE };

/// The watch over one connection of the `h2` crate.
#[derive(Debug)]
pub(super) struct Silence {
    /// When the far end was heard, and how much moves.
    pub(super) heard: Heard,
    /// What is believed of it.
    pub(super) doubt: Doubt,
    unanswered: AtomicUsize,
    asked: Mutex<Instant>,
    rtt_micros: AtomicU64,
    /// Milliseconds that the answer may take.
    patience: AtomicU64,
    ask: Notify,
    look: Notify,
}

impl Silence {
    /// Of a connection that begins; it is asked at once.
    pub(super) fn new(heard: Heard) -> Self {
        let silence = Self {
            heard,
            doubt: Doubt::default(),
            unanswered: AtomicUsize::new(0),
            asked: Mutex::new(Instant::now()),
            rtt_micros: AtomicU64::new(u64::MAX),
            patience: AtomicU64::new(millis(PATIENCE)),
            ask: Notify::new(),
            look: Notify::new(),
        };
        silence.ask();
        silence
    }

    /// The round trip of the last answered ping.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Relaxed);
        (micros != u64::MAX).then(|| Duration::from_micros(micros))
    }

    /// Asks now.
    pub(super) fn ask(&self) {
        self.ask.notify_one();
    }

    /// The far end is in doubt until it is heard, and given up where that takes longer than `patience`.
    pub(super) fn doubt(&self, patience: Duration) {
        self.doubt.raise();
        self.patience.fetch_min(millis(patience), Relaxed);
        self.ask.notify_one();
        self.look.notify_one();
    }

    /// Asks the far end now and then; ends when it does not answer. `changed` is told of doubts.
    pub(super) async fn watch(&self, ping: Option<PingPong>, changed: &watch::Sender<()>) {
        let Some(mut ping) = ping else { return std::future::pending().await };
        loop {
            tokio::select! {
                () = sleep_until(self.due()) => if self.due() > Instant::now() { continue },
                () = self.look.notified() => continue,
                () = self.ask.notified() => {}
            }
            let sent = Instant::now();
            let mut pong = pin!(ping.ping(Ping::opaque()));
            loop {
                let since = self.heard.last().max(sent);
                if since > sent {
                    self.calm(changed);
                }
                let patience = Duration::from_millis(self.patience.load(Relaxed));
                let bound = if self.doubt.is_silent() { patience } else { patience.min(BRIEF) };
                tokio::select! {
                    answer = &mut pong => match answer {
                        Ok(_) => break,
                        // The connection's own end says why.
                        Err(_) => return std::future::pending().await,
                    },
                    () = self.look.notified() => {}
                    () = sleep_until(since + bound) => {
                        let silent = self.heard.last().max(sent).elapsed();
                        if silent >= bound && self.doubt.fall_silent() {
                            changed.send_replace(());
                        }
                        if silent >= patience {
                            return;
                        }
                    }
                }
            }
            self.rtt_micros.store(sent.elapsed().as_micros() as u64, Relaxed);
            self.calm(changed);
        }
    }

    fn calm(&self, changed: &watch::Sender<()>) {
        self.patience.store(millis(PATIENCE), Relaxed);
        if self.doubt.clear() {
            changed.send_replace(());
        }
    }

    /// When its silence gets suspicious.
    fn due(&self) -> Instant {
        if self.unanswered.load(Relaxed) == 0 {
            return self.heard.last() + QUIET;
        }
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.heard.last().max(asked) + IMPATIENT
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A request that waits for its answer; while there is one, silence is suspicious.
#[derive(Debug)]
pub(super) struct Unanswered(Arc<Silence>);

impl Unanswered {
    /// One more.
    pub(super) fn new(silence: &Arc<Silence>) -> Self {
        if silence.unanswered.fetch_add(1, Relaxed) == 0 {
            *silence.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            silence.look.notify_one();
        }
        Self(silence.clone())
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Relaxed);
    }
}
