//! What a connection's streams and its driver share.
//!
//! Invariant: locks are taken in the order `out`, `control`, `table`, `turns`, a stream's; none is held while
//! somebody is woken or waited for, and none across an await.

mod control;
mod data;

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use swiftproxy_core::endpoint::DrawError;
use tokio::sync::Notify;

use super::budget::Budget;
use super::frame::{self, Code, DEFAULT_MAX_FRAME, DEFAULT_WINDOW, MOST_WINDOW, RST_STREAM, WINDOW_UPDATE};
use super::out::{Failed, Out};
use super::pace::Pace;
use super::stream::{Broken, Growth, Stream};
use super::turns::Turns;
use crate::doubt::Doubt;

/// Bytes of answers to a peer that does not read them.
const MAX_REPLIES: usize = 32 * 1024;

/// Which side this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lean) enum Role {
    Client,
    Server,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// In good order.
    #[error("closed")]
    Closed,
    /// We were told to.
    #[error("cut")]
    Cut,
    /// The peer ended it with an error.
    #[error("the peer ended it (HTTP/2 error {code})", code = .0.0)]
    Peer(Code),
    /// The peer broke a rule.
    #[error("{what} (HTTP/2 error {code})", what = .1, code = .0.0)]
    Fault(Code, &'static str),
    /// The socket failed, or TLS did.
    #[error("{1}")]
    Io(io::ErrorKind, String),
    /// The peer was not heard any more.
    #[error("it went silent")]
    Silent,
    /// The server does not speak it.
    #[error("the server does not know this engine")]
    Unknown,
}

impl From<&io::Error> for Ending {
    fn from(error: &io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }
}

/// Control frames on their way.
#[derive(Default)]
pub(in crate::lean) struct Control {
    pub(in crate::lean) frames: Vec<u8>,
    /// Bytes of them that answer something.
    replies: usize,
}

/// The open streams.
pub(in crate::lean) struct Table {
    pub(in crate::lean) streams: HashMap<u32, Arc<Stream>>,
    /// Of a client: the next stream's number. Of a server: the latest that the client opened.
    pub(in crate::lean) latest: u32,
    /// No stream is opened any more.
    pub(in crate::lean) closing: bool,
    /// How many the peer lets us open.
    pub(in crate::lean) peer_max: usize,
}

/// What a connection's streams and its driver share.
pub(in crate::lean) struct Shared {
    pub(in crate::lean) role: Role,
    pub(in crate::lean) out: Mutex<Out>,
    control: Mutex<Control>,
    /// There are control frames to send.
    pending: AtomicBool,
    /// The driver was told that there is something to send.
    due: AtomicBool,
    /// The socket did not take all that is sealed.
    stuck: AtomicBool,
    /// It was so lately.
    slow: AtomicBool,
    /// What we may send on the whole connection.
    window: AtomicI64,
    /// The peer's largest frame.
    max_frame: AtomicUsize,
    /// The peer's initial window; changed under the table's lock.
    pub(in crate::lean) peer_initial: AtomicU32,
    /// Ours, as the peer knows it; likewise.
    pub(in crate::lean) own_initial: AtomicU32,
    turns: Mutex<Turns>,
    waiting: AtomicUsize,
    /// The stream that sent a whole batch last.
    last: AtomicU32,
    table: Mutex<Table>,
    /// Window that streams were given beyond the initial one, and its bound.
    grown: AtomicU64,
    most_grown: u64,
    /// What the initial windows come out of.
    pub(in crate::lean) budget: Budget,
    /// Nanoseconds.
    round_trip: AtomicU64,
    /// Requests that wait for their answers.
    pub(in crate::lean) unanswered: AtomicUsize,
    pub(in crate::lean) pace: Pace,
    /// A ping is wanted.
    pub(in crate::lean) ask: AtomicBool,
    /// Whether the peer is there, and how many milliseconds somebody gives it to answer; 0 is nobody.
    pub(in crate::lean) doubt: Doubt,
    pub(in crate::lean) hurry: AtomicU64,
    pub(in crate::lean) driver: AtomicWaker,
    pub(in crate::lean) ended: OnceLock<Ending>,
    /// The socket takes nothing any more, and why; what it has received is still taken.
    lost: OnceLock<Ending>,
    /// A client may open a stream again, or the first settings have come.
    pub(in crate::lean) opened: Notify,
    pub(in crate::lean) settled: AtomicBool,
}

pub(in crate::lean) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(in crate::lean) fn new(role: Role, out: Out, most_grown: u64, budget: Budget) -> Self {
        let (latest, peer_max) = match role {
            Role::Client => (1, 0),
            Role::Server => (0, 0),
        };
        let table = Table { streams: HashMap::new(), latest, closing: false, peer_max };
        Self {
            role,
            out: Mutex::new(out),
            control: Mutex::default(),
            pending: AtomicBool::new(false),
            due: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            window: AtomicI64::new(DEFAULT_WINDOW.into()),
            max_frame: AtomicUsize::new(DEFAULT_MAX_FRAME as usize),
            peer_initial: AtomicU32::new(DEFAULT_WINDOW),
            own_initial: AtomicU32::new(DEFAULT_WINDOW),
            turns: Mutex::default(),
            waiting: AtomicUsize::new(0),
            last: AtomicU32::new(0),
            table: Mutex::new(table),
            grown: AtomicU64::new(0),
            most_grown,
            budget,
            round_trip: AtomicU64::new(u64::MAX),
            unanswered: AtomicUsize::new(0),
            pace: Pace::new(),
            ask: AtomicBool::new(false),
            doubt: Doubt::default(),
            hurry: AtomicU64::new(0),
            driver: AtomicWaker::new(),
            ended: OnceLock::new(),
            lost: OnceLock::new(),
            opened: Notify::new(),
            settled: AtomicBool::new(false),
        }
    }

    pub(in crate::lean) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// The round trip of the link.
    pub(in crate::lean) fn round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip.load(Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    /// Takes note of a ping's answer. The shortest counts, for others waited behind data; a longer one by and by, for
    /// routes change.
    pub(in crate::lean) fn set_round_trip(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.round_trip.load(Relaxed);
        self.round_trip.store(took.min(before.saturating_add(before / 4)), Relaxed);
    }

    /// Ends the connection, for the first reason given.
    pub(in crate::lean) fn end(&self, why: Ending) {
        let _ = self.ended.set(why);
        self.driver.wake();
    }

    /// Nothing can be sent any more. The connection ends once what was received has been taken.
    fn lose(&self, error: &io::Error) -> Ending {
        let ending = self.lost.get_or_init(|| Ending::from(error)).clone();
        self.driver.wake();
        ending
    }

    /// Why nothing can be sent any more, if so.
    pub(in crate::lean) fn lost(&self) -> Option<&Ending> {
        self.lost.get()
    }

    /// Why the connection has ended, if it has.
    pub(in crate::lean) fn ending(&self) -> Option<&Ending> {
        self.ended.get()
    }

    pub(in crate::lean) fn broken(&self, broken: Broken) -> io::Error {
        broken.error(self.ending())
    }

    pub(in crate::lean) fn set_max_frame(&self, size: u32) {
        self.max_frame.store(size as usize, Relaxed);
    }

    /// The peer takes more on the whole connection; none where that is more than may be.
    pub(in crate::lean) fn widen(&self, n: u32) -> Option<()> {
        let before = self.window.fetch_add(n.into(), SeqCst);
        if before + i64::from(n) > MOST_WINDOW {
            return None;
        }
        if before <= 0 {
            self.call();
        }
        Some(())
    }

    /// Follows the peer's initial window, and acknowledges it: before any data makes use of a larger one, after the
    /// last that makes use of the old one where it is smaller. None where a window becomes larger than may be.
    pub(in crate::lean) fn set_peer_initial(&self, size: u32, acknowledge: impl Fn()) -> Option<()> {
        // Nobody is between sealing control frames and sending data that a window allows: whatever is sent under the old
        // window goes out before the acknowledgement, whatever is sent under the new one after it.
        let out = lock(&self.out);
        // Only the driver changes it.
        let delta = i64::from(size) - i64::from(self.peer_initial.load(Relaxed));
        if delta >= 0 {
            acknowledge();
        }
        let mut wide = Some(());
        let mut opened = Vec::new();
        let table = self.table();
        self.peer_initial.store(size, Relaxed);
        if delta != 0 {
            for stream in table.streams.values() {
                let mut state = stream.lock();
                let before = state.window;
                state.window += delta;
                if state.window > MOST_WINDOW {
                    wide = None;
                }
                if before <= 0 && state.window > 0 {
                    opened.push(stream.clone());
                }
            }
        }
        drop(table);
        if delta < 0 {
            acknowledge();
        }
        drop(out);
        for stream in opened {
            stream.wake_writer();
        }
        wide
    }

    pub(in crate::lean) fn stream(&self, id: u32) -> Option<Arc<Stream>> {
        self.table().streams.get(&id).cloned()
    }

    /// Takes a stream off the table; whether it was there.
    pub(in crate::lean) fn forget(&self, id: u32) -> bool {
        let mut table = self.table();
        let found = table.streams.remove(&id);
        if table.streams.len() * 8 < table.streams.capacity() && table.streams.capacity() > 256 {
            table.streams.shrink_to_fit();
        }
        let (last, room) = (table.streams.is_empty() && table.closing, table.streams.len() < table.peer_max);
        drop(table);
        if let Some(stream) = &found {
            let extra = stream.lock().take_extra();
            self.shrink(extra);
            if last {
                self.driver.wake();
            }
            if self.role == Role::Client && room {
                self.opened.notify_one();
            }
        }
        found.is_some()
    }

    /// Whether a stream's window may become `more` larger.
    pub(in crate::lean) fn grow(&self, more: Growth) -> bool {
        if !self.budget.is_ample(more.dry) {
            return false;
        }
        let grown = self.grown.fetch_add(more.bytes.into(), Relaxed) + u64::from(more.bytes);
        if grown > self.most_grown {
            self.shrink(more.bytes);
            return false;
        }
        true
    }

    fn shrink(&self, less: u32) {
        self.grown.fetch_sub(less.into(), Relaxed);
    }

    /// Resets a stream: the peer hears of it, and its end too.
    pub(in crate::lean) fn reset(&self, stream: &Stream, code: Code) -> bool {
        let few =
            if stream.break_off(Broken::Fault(code)) { self.queue_reset(stream.id, code) } else { true };
        self.forget(stream.id);
        few
    }

    /// Breaks all streams off: the connection has ended.
    pub(in crate::lean) fn break_all(&self) {
        let mut table = self.table();
        table.closing = true;
        let streams: Vec<_> = std::mem::take(&mut table.streams).into_values().collect();
        drop(table);
        for stream in streams {
            stream.break_off(Broken::Connection);
        }
        self.opened.notify_waiters();
        self.opened.notify_one();
    }
}
