//! One stream's state, and its receive window.
//!
//! Invariant: received bytes that nobody has read are never more than the window that was given; an idle stream owns
//! no buffer.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::budget::Counted;
use super::frame::Code;
use super::shared::Ending;
use crate::record::pool;

/// What a stream drains in this time fits into its window, however short the round trip, up to [`STEADY`]: reader and
/// sender take turns on a busy machine. A rate is measured for as long at least, so that the burst that an account may
/// have at once does not count as one.
const TURN: Duration = Duration::from_millis(16);

/// Bytes in a window that keep a sender busy while its reader has its turn. More would only wait for the reader, and
/// hold up what comes behind it on the connection.
const STEADY: u64 = 256 << 10;

/// Windows from here on are bulk's, whose buffers are kept for the next.
const LARGE: u32 = 256 << 10;

/// Bytes of a stream's largest window.
pub(super) const MOST: u32 = 4 << 20;

/// A stream.
pub(super) struct Stream {
    pub(super) id: u32,
    state: Mutex<State>,
    pub(super) counted: Counted,
}

/// What happens to it.
pub(super) struct State {
    /// Received, and not taken by the stream's end yet.
    pub(super) queue: Vec<u8>,
    /// Received, and not consumed: the queue, and what the end holds of it.
    unread: u32,
    /// What the peer may still send.
    allowed: i64,
    /// Bytes that are to be allowed or unread.
    target: u32,
    /// What of that is beyond the initial window.
    extra: u32,
    /// Since when the rate is measured at which it drains, and what it drained since.
    since: Option<Instant>,
    drained: u32,
    /// Its end has waited for more since then.
    dry: bool,
    /// What we may still send.
    pub(super) window: i64,
    /// The peer has ended its side.
    pub(super) ended: bool,
    /// We have ended ours.
    pub(super) finished: bool,
    /// Its end was dropped.
    pub(super) gone: bool,
    /// It waits in a line for its turn to send.
    pub(super) queued: bool,
    /// It was called from there and has not sent since.
    pub(super) called: bool,
    /// Its source had no more than it sent last.
    pub(super) sparse: bool,
    pub(super) broken: Option<Broken>,
    /// Of a client: the response's head has come; and itself, until it is taken.
    pub(super) answered: bool,
    pub(super) answer: Option<Box<Response<()>>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Why a stream does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The peer reset it.
    Reset(Code),
    /// The peer broke a rule, and we reset it.
    Fault(Code),
    /// The connection has ended.
    Connection,
}

/// A stream that was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream was reset (HTTP/2 error {})", .0.0)]
pub struct Reset(pub Code);

impl Broken {
    pub(super) fn error(self, ending: Option<&Ending>) -> io::Error {
        match self {
            Self::Reset(code) | Self::Fault(code) => {
                io::Error::new(io::ErrorKind::ConnectionReset, Reset(code))
            }
            Self::Connection => {
                let why = ending.cloned().unwrap_or(Ending::Cut);
                io::Error::new(io::ErrorKind::ConnectionAborted, why)
            }
        }
    }
}

/// What a window lacks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    pub(super) bytes: u32,
    /// Its end had to wait for more: what it is given, it does not leave unread.
    pub(super) dry: bool,
}

/// Received bytes that the peer had no leave to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

impl Stream {
    /// A stream on which either side may send so much at first.
    pub(super) fn new(id: u32, window: u32, allowed: u32, counted: Counted) -> Self {
        Self {
            id,
            counted,
            state: Mutex::new(State {
                queue: Vec::new(),
                unread: 0,
                allowed: allowed.into(),
                target: allowed,
                extra: 0,
                since: None,
                drained: 0,
                dry: false,
                window: window.into(),
                ended: false,
                finished: false,
                gone: false,
                queued: false,
                called: false,
                sparse: true,
                broken: None,
                answered: false,
                answer: None,
                reader: None,
                writer: None,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_reader(&self) {
        let waker = self.lock().reader.take();
        wake(waker);
    }

    pub(super) fn wake_writer(&self) {
        let waker = self.lock().writer.take();
        wake(waker);
    }

    /// Ends it for both of its sides; whether it was not broken before.
    pub(super) fn break_off(&self, broken: Broken) -> bool {
        let mut state = self.lock();
        if state.broken.is_some() {
            return false;
        }
        state.broken = Some(broken);
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        wake(reader);
        wake(writer);
        true
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl State {
    pub(super) fn await_reading(&mut self, cx: &Context<'_>) {
        register(&mut self.reader, cx);
    }

    /// Its end has read all there is, and waits for more.
    pub(super) fn run_dry(&mut self, cx: &Context<'_>) {
        self.dry = true;
        self.await_reading(cx);
    }

    /// Bytes that were received and not consumed.
    pub(super) fn unread(&self) -> u32 {
        self.unread
    }

    pub(super) fn await_writing(&mut self, cx: &Context<'_>) {
        register(&mut self.writer, cx);
    }

    pub(super) fn take_writer(&mut self) -> Option<Waker> {
        self.writer.take()
    }

    /// Lets go of everything that a stream keeps for its end.
    pub(super) fn let_go(&mut self) {
        self.gone = true;
        self.queue = Vec::new();
        self.answer = None;
        self.reader = None;
        self.writer = None;
    }

    /// Whether either side has said its last word.
    pub(super) fn is_closed(&self) -> bool {
        self.broken.is_some() || (self.ended && self.finished)
    }

    /// Takes note of a DATA frame's payload, padding included.
    pub(super) fn receive(&mut self, length: u32) -> Result<(), Overrun> {
        self.allowed -= i64::from(length);
        self.unread += length;
        // A window that was made smaller may be below zero; an empty frame needs none (RFC 9113 §6.9.1).
        if self.allowed < 0 && length > 0 { Err(Overrun) } else { Ok(()) }
    }

    /// Whether the peer has said its last word.
    pub(super) fn sends_no_more(&self) -> bool {
        self.ended || self.broken.is_some()
    }

    /// Keeps received bytes for the stream's end.
    pub(super) fn deliver(&mut self, bytes: &[u8]) {
        if self.gone || self.broken.is_some() {
            return;
        }
        let need = self.queue.len() + bytes.len();
        if need > self.queue.capacity() {
            if self.queue.capacity() == 0 && self.target >= LARGE {
                self.queue = pool::take_vec();
            }
            // Doubled, but not beyond what may ever be there; bulk's from the start large enough to be kept.
            let least = if self.target >= LARGE { need.max(pool::WORTH) } else { need };
            let capacity = (2 * self.queue.capacity()).min(self.target as usize).max(least);
            self.queue.reserve_exact(capacity - self.queue.len());
        }
        self.queue.extend_from_slice(bytes);
    }

    /// Takes what was received, for a buffer that was emptied.
    pub(super) fn take_queue(&mut self, mut emptied: Vec<u8>) -> Vec<u8> {
        emptied.clear();
        if self.target < LARGE {
            emptied = Vec::new();
        }
        std::mem::replace(&mut self.queue, emptied)
    }

    /// What its window has grown by; it has given that back.
    pub(super) fn take_extra(&mut self) -> u32 {
        std::mem::take(&mut self.extra)
    }

    /// Follows a change of the initial window (RFC 9113 §6.9.2).
    pub(super) fn shift_allowed(&mut self, delta: i64) {
        self.allowed += delta;
        let target = i64::from(self.target) + delta;
        self.target = u32::try_from(target.clamp(1, MOST.into())).unwrap_or(MOST);
    }

    /// How much its window lacks of a turn at the rate at which it drains lately, and of three round trips where its
    /// end had to wait; where there was always something to read, it is the reader who is slow, or held to a rate. Three,
    /// for up to half a window waits to be credited, and a sender that is held up by its window is to have twice as much.
    fn too_small_by(&mut self, round_trip: Duration) -> Growth {
        let now = Instant::now();
        let Some(since) = self.since else {
            (self.since, self.drained, self.dry) = (Some(now), 0, false);
            return Growth::default();
        };
        let took = now - since;
        if took < TURN.max(round_trip) {
            return Growth::default();
        }
        self.since = Some(now);
        let dry = std::mem::take(&mut self.dry);
        let drained = u128::from(std::mem::take(&mut self.drained));
        let in_time = |time: Duration| {
            u64::try_from(drained * time.as_nanos() / took.as_nanos().max(1)).unwrap_or(u64::MAX)
        };
        let far = if dry { in_time(3 * round_trip) } else { 0 };
        let right = far.saturating_add(in_time(TURN).min(STEADY));
        let bytes = u32::try_from(right).unwrap_or(MOST).min(MOST).saturating_sub(self.target);
        Growth { bytes, dry }
    }

    /// Takes note that `n` bytes were consumed; the credit that the peer is to be given now, if any. `grow` says
    /// whether a window may become that much larger.
    pub(super) fn consume(
        &mut self,
        n: u32,
        round_trip: Duration,
        grow: impl FnOnce(Growth) -> bool,
    ) -> Option<u32> {
        self.unread = self.unread.saturating_sub(n);
        self.drained = self.drained.saturating_add(n);
        if self.sends_no_more() {
            return None;
        }
        let due = i64::from(self.target) - self.allowed - i64::from(self.unread);
        if due < i64::from(self.target / 2).max(1) {
            return None;
        }
        let more = self.too_small_by(round_trip);
        if more.bytes > 0 && grow(more) {
            self.target += more.bytes;
            self.extra += more.bytes;
        }
        let due = i64::from(self.target) - self.allowed - i64::from(self.unread);
        self.allowed += due;
        u32::try_from(due).ok().filter(|due| *due > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lean::budget::Budget;

    const RTT: Duration = Duration::from_millis(50);

    /// Drains a stream as fast as its window allows, but no more than `most` bytes a round trip, for so many round
    /// trips, and waits for more in between; its window in the end.
    async fn drain(most: u32, round_trip: Duration, times: u32) -> u32 {
        drain_by(most, round_trip, times, true).await
    }

    async fn drain_by(most: u32, round_trip: Duration, times: u32, dry: bool) -> u32 {
        let stream = Stream::new(1, 0, 64 << 10, Budget::default().enter());
        for _ in 0..times {
            {
                let mut state = stream.lock();
                let n = u32::try_from(state.allowed).unwrap().min(most);
                state.receive(n).unwrap();
                for piece in [n / 2, n - n / 2] {
                    state.consume(piece, round_trip, |_| true);
                }
                assert!(state.allowed + i64::from(state.unread) <= state.target.into());
                state.dry |= dry;
            }
            tokio::time::advance(round_trip).await;
        }
        stream.lock().target
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_grows_with_what_drains() {
        assert_eq!(drain(u32::MAX, RTT, 8).await, MOST);
        let fits = drain(500_000, RTT, 50).await;
        assert!((1_000_000..2_500_000).contains(&fits), "{fits}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_drain_leaves_it_as_it_is() {
        assert_eq!(drain(16 << 10, RTT, 1000).await, 64 << 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_is_never_kept_waiting_needs_no_more_than_a_turn() {
        let at_most = 64 << 10;
        assert_eq!(drain_by(u32::MAX, RTT, 50, false).await, at_most);
        assert!(drain_by(at_most, RTT, 50, true).await > at_most);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_no_rate() {
        // 1 Mbit/s, in bursts of 100 ms.
        let stream = Stream::new(1, 0, 8 << 10, Budget::default().enter());
        let next_door = Duration::from_micros(100);
        for _ in 0..50 {
            for _ in 0..3 {
                {
                    let mut state = stream.lock();
                    state.receive(4 << 10).unwrap();
                    state.consume(4 << 10, next_door, |_| true);
                    state.dry = true;
                }
                tokio::time::advance(Duration::from_millis(3)).await;
            }
            tokio::time::advance(Duration::from_millis(90)).await;
        }
        assert_eq!(stream.lock().target, 8 << 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_drains_next_door_needs_no_more_than_a_turn() {
        // 1 GB/s.
        let fits = drain(100_000, Duration::from_micros(100), 10_000).await;
        assert!((STEADY..3 * STEADY).contains(&fits.into()), "{fits}");
    }

    #[tokio::test]
    async fn unread_bytes_are_bounded_by_the_window() {
        let stream = Stream::new(1, 0, 1000, Budget::default().enter());
        let mut state = stream.lock();
        state.receive(600).unwrap();
        assert_eq!(state.consume(400, RTT, |_| false), None, "less than half");
        state.receive(400).unwrap();
        assert_eq!(state.consume(100, RTT, |_| false), Some(500));
        assert_eq!(state.receive(501), Err(Overrun));
    }

    #[tokio::test]
    async fn an_initial_window_that_shrinks_takes_credit_back() {
        let stream = Stream::new(1, 0, 1000, Budget::default().enter());
        let mut state = stream.lock();
        state.receive(700).unwrap();
        state.shift_allowed(-500);
        assert_eq!(state.allowed, -200);
        assert_eq!(state.receive(0), Ok(()), "the end needs no window");
        assert_eq!(state.consume(200, RTT, |_| false), None, "its own half is not back yet");
        assert_eq!(state.consume(500, RTT, |_| false), Some(700));
    }

    #[tokio::test]
    async fn what_was_too_little_for_credit_is_credited_when_the_window_shrinks_below_it() {
        let stream = Stream::new(1, 0, 1000, Budget::default().enter());
        let mut state = stream.lock();
        state.receive(400).unwrap();
        assert_eq!(state.consume(400, RTT, |_| false), None, "less than half");
        state.shift_allowed(-900);
        assert_eq!(state.consume(0, RTT, |_| false), Some(400), "nothing would come to ask again");
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Stream>() <= 256, "{}", size_of::<Stream>());
    }
}
