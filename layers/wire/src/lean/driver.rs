//! The task of a connection: reads for all its streams, waits for the socket when it is full, and asks whether the
//! peer is still there.
//!
//! Invariant: a connection ends for one reason, which every stream of it hears; a peer that breaks a rule is told so
//! before.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, Sleep, sleep_until};

use super::frame::{self, Code, GOAWAY, PING};
use super::inward::{Fault, Inward};
use super::pace::hold_back;
use super::shared::{Ending, Role, Shared, lock};
use crate::record::{self, CLOSE_NOTIFY, Inbox, Next};

/// Batches that are read before others get their turn.
const BATCHES: u32 = 8;

/// How a connection notices that its peer has gone.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// One that is this quiet is asked whether it lives.
    pub quiet: Duration,
    /// The same while a request waits for its answer, or streams are open.
    pub busy: Duration,
    /// How long the answer may take before the connection is in doubt; whatever is heard meanwhile counts.
    pub doubt: Duration,
    /// The same before it is given up.
    pub patience: Duration,
}

/// Drives a connection until it ends.
#[must_use = "a connection moves only while it is polled"]
pub struct Driver {
    shared: Arc<Shared>,
    socket: OwnedReadHalf,
    inbox: Inbox,
    inward: Inward,
    early: Vec<u8>,
    watch: Watch,
    heard: Instant,
    asked: Option<Instant>,
    /// How long the answer to that may take.
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    over: bool,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        (socket, inbox, early): (OwnedReadHalf, Inbox, Vec<u8>),
        inward: Inward,
        watch: Watch,
    ) -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + watch.busy));
        let mut driver = Self {
            shared,
            socket,
            inbox,
            inward,
            early,
            watch,
            heard: now,
            asked: None,
            patience: watch.patience,
            timer,
            over: false,
        };
        driver.ask();
        driver
    }

    /// Asks, unless an answer is awaited already.
    fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let now = Instant::now();
        self.asked = Some(now);
        self.inward.pinged = Some(now);
        self.shared.control(|out| frame::put(out, PING, 0, 0, b"liveness"));
        self.shared.note_due();
    }

    /// Something was heard.
    fn hear(&mut self) {
        self.heard = Instant::now();
        if let Some(bytes) = self.shared.pace.pulse() {
            hold_back(self.socket.as_ref(), bytes);
        }
    }

    /// Others have reason to doubt that the peer is there.
    fn take_doubt(&mut self) {
        let patience = self.shared.hurry.swap(0, Relaxed);
        if patience > 0 {
            self.shared.doubt.raise();
            self.ask();
            self.patience = self.patience.min(Duration::from_millis(patience));
        }
    }

    /// Asks the peer now and then; ready when it does not answer.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if let Some(asked) = self.asked
                && self.heard > asked
            {
                self.asked = None;
                self.patience = self.watch.patience;
                self.shared.doubt.clear();
            }
            let busy = !self.shared.table().streams.is_empty();
            let due = match self.asked {
                Some(asked) if self.shared.doubt.is_silent() => asked + self.patience,
                Some(asked) => asked + self.patience.min(self.watch.doubt),
                None => self.heard + if busy { self.watch.busy } else { self.watch.quiet },
            };
            if due <= now {
                match self.asked {
                    Some(asked) => {
                        self.shared.doubt.fall_silent();
                        if asked + self.patience <= now {
                            return Poll::Ready(());
                        }
                    }
                    None => self.ask(),
                }
                continue;
            }
            // Seldom moved, and never ahead of time: what is heard puts it off when it fires.
            if self.timer.deadline() <= now || self.timer.deadline() > due {
                self.timer.as_mut().reset(due);
            }
            match self.timer.as_mut().poll(cx) {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes and reads; whether all that was received has been taken.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        while self.shared.is_stuck() && self.shared.lost().is_none() {
            let ready = {
                let out = lock(&self.shared.out);
                match out.socket() {
                    Some(socket) => socket.as_ref().poll_write_ready(cx),
                    None => return Ok(true),
                }
            };
            match ready {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(Ending::from(&error)),
                // Room in a send buffer that was full: the peer's system at least is there.
                Poll::Ready(Ok(())) if self.shared.resume() => self.hear(),
                Poll::Ready(Ok(())) => {}
            }
        }
        for _ in 0..BATCHES {
            match self.inbox.poll_fill(cx, &mut self.socket) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Err(error)) => return Err(Ending::from(&error)),
                Poll::Ready(Ok(0)) => return Err(self.closed(false)),
                Poll::Ready(Ok(_)) => {
                    self.hear();
                    self.take()?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Takes what was received.
    fn take(&mut self) -> Result<(), Ending> {
        let outcome = self.take_all();
        self.inward.rest();
        self.inward.fit(self.shared.budget.streams());
        self.shared.note_due();
        // Should somebody have been called who does not come.
        self.shared.call_if_free();
        if self.inbox.take_update_asked() {
            self.shared.ask_update();
        }
        outcome
    }

    fn take_all(&mut self) -> Result<(), Ending> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            self.inward.feed(&early).map_err(|fault| self.fault(fault))?;
        }
        loop {
            match self.inbox.next() {
                Ok(Next::Data(data)) => {
                    let fed = self.inward.feed(&self.inbox.bytes()[data]);
                    fed.map_err(|fault| self.fault(fault))?;
                }
                Ok(Next::Short) => return Ok(()),
                Ok(Next::Closed) => return Err(self.closed(true)),
                Err(fault) => {
                    let alert = match fault {
                        record::Fault::Peer { alert, .. } => Some(alert),
                        record::Fault::Told(_) => None,
                    };
                    self.shared.part(alert);
                    return Err(Ending::Io(io::ErrorKind::InvalidData, fault.to_string()));
                }
            }
        }
    }

    fn fault(&self, Fault(code, what): Fault) -> Ending {
        self.go_away(code);
        Ending::Fault(code, what)
    }

    fn go_away(&self, code: Code) {
        let last = match self.shared.role {
            Role::Client => 0,
            Role::Server => self.shared.table().latest,
        };
        let payload = [last.to_be_bytes(), code.0.to_be_bytes()].concat();
        self.shared.control(|out| frame::put(out, GOAWAY, 0, 0, &payload));
    }

    /// The peer has closed: in good order only where no stream is left.
    fn closed(&self, told: bool) -> Ending {
        if self.shared.table().streams.is_empty() {
            return Ending::Closed;
        }
        let what = if told { "the peer closed with streams open" } else { "the connection broke off" };
        Ending::Io(io::ErrorKind::UnexpectedEof, what.to_owned())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        self.shared.driver.register(cx.waker());
        if let Some(ending) = self.shared.ending() {
            return Err(ending.clone());
        }
        if !self.early.is_empty() {
            self.take()?;
        }
        self.shared.flush();
        let taken = self.poll_socket(cx)?;
        if taken && let Some(lost) = self.shared.lost() {
            return Err(lost.clone());
        }
        if self.shared.ask.swap(false, Relaxed) {
            self.ask();
        }
        self.take_doubt();
        if self.poll_watch(cx).is_ready() {
            return Err(Ending::Silent);
        }
        self.shared.flush();
        // Something of the above may have ended it without waking us.
        if let Some(ending) = self.shared.ending() {
            return Err(ending.clone());
        }
        let table = self.shared.table();
        let done = table.closing && table.streams.is_empty() && self.shared.unanswered.load(Relaxed) == 0;
        drop(table);
        // The last words go out first; a peer that does not take them is not waited for longer than any.
        if done && !self.shared.is_stuck() {
            if self.shared.is_sent() {
                return Err(Ending::Closed);
            }
            self.shared.note_due();
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn part(&mut self, ending: &Ending) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.shared.end(ending.clone());
        if matches!(ending, Ending::Closed | Ending::Cut | Ending::Unknown) {
            self.go_away(Code::NO_ERROR);
        }
        self.shared.part(match ending {
            Ending::Io(..) => None,
            _ => Some(CLOSE_NOTIFY),
        });
        self.shared.break_all();
        lock(&self.shared.out).close();
    }
}

impl Future for Driver {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        match self.poll_end(cx) {
            Ok(()) => Poll::Pending,
            Err(ending) => {
                self.part(&ending);
                Poll::Ready(self.shared.ending().cloned().unwrap_or(ending))
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.part(&Ending::Cut);
    }
}
