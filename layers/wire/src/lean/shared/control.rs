//! Sending control frames: ahead of data, by whoever is there.

use super::*;

/// Sealed bytes that are worth a call of their own. What is held back beside a batch fits into the buffer.
const MUCH: usize = 16 * 1024;

/// How often the driver sends what came while it sent.
const ROUNDS: u32 = 2;

impl Shared {
    /// Queues control frames; [`kick`](Self::kick) sends them.
    pub(in crate::lean) fn control(&self, put: impl FnOnce(&mut Vec<u8>)) {
        put(&mut lock(&self.control).frames);
        self.pending.store(true, SeqCst);
    }

    /// The same while the queue is locked: for frames that must come in the order of something else.
    pub(in crate::lean) fn with_control<T>(&self, put: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let value = put(&mut lock(&self.control).frames);
        self.pending.store(true, SeqCst);
        value
    }

    /// Queues an answer to the peer; whether it reads what it asked for.
    pub(in crate::lean) fn reply(&self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut control = lock(&self.control);
        let before = control.frames.len();
        put(&mut control.frames);
        control.replies += control.frames.len() - before;
        let few = control.replies <= MAX_REPLIES;
        drop(control);
        self.pending.store(true, SeqCst);
        few
    }

    /// Queues a reset.
    pub(in crate::lean) fn queue_reset(&self, stream: u32, code: Code) -> bool {
        self.reply(|out| frame::put(out, RST_STREAM, 0, stream, &code.0.to_be_bytes()))
    }

    /// Gives the peer credit.
    pub(in crate::lean) fn credit(&self, stream: u32, n: u32) {
        self.control(|out| frame::put(out, WINDOW_UPDATE, 0, stream, &n.to_be_bytes()));
    }

    /// Seals what control frames there are. Whether that was all of them.
    pub(in crate::lean) fn seal_control(&self, out: &mut Out) -> io::Result<bool> {
        if !self.pending.swap(false, SeqCst) {
            return Ok(true);
        }
        let mut control = lock(&self.control);
        let all = out.control(&mut control.frames)?;
        if all {
            control.replies = 0;
            if control.frames.capacity() > 4096 {
                control.frames = Vec::new();
            }
        } else {
            self.pending.store(true, SeqCst);
        }
        Ok(all)
    }

    /// Has the driver send what is queued and sealed, once whoever else is about to has added to it: many streams'
    /// frames cost one call.
    pub(in crate::lean) fn kick(&self) {
        if !self.due.swap(true, SeqCst) {
            self.driver.wake();
        }
    }

    /// Of the driver, in its own turn, at whose end it sends what is queued.
    pub(in crate::lean) fn note_due(&self) {
        self.due.store(true, SeqCst);
    }

    /// Of the driver: whether nothing is left to send.
    pub(in crate::lean) fn is_sent(&self) -> bool {
        let out = lock(&self.out);
        out.sealed() == 0 && !self.pending.load(SeqCst)
    }

    /// Of the driver: sends what is queued and sealed; what others add meanwhile, in its next turn at last.
    pub(in crate::lean) fn flush(&self) {
        for _ in 0..ROUNDS {
            if !self.due.swap(false, SeqCst) {
                return;
            }
            let mut out = lock(&self.out);
            // Once there is room, all of it goes.
            if self.stuck.load(SeqCst) || self.lost().is_some() {
                return;
            }
            let sent = self.seal_control(&mut out).and_then(|all| Ok((all, out.flush()?)));
            match sent {
                Ok((all, sent)) => {
                    self.note_sent(sent);
                    self.due.fetch_or(!all && sent, SeqCst);
                }
                Err(error) => {
                    drop(out);
                    self.lose(&error);
                    return;
                }
            }
        }
        if self.due.load(SeqCst) {
            self.driver.wake();
        }
    }

    /// Under the lock of `out`: takes note whether the socket took all.
    pub(in crate::lean) fn note_sent(&self, all: bool) {
        if !all {
            self.slow.store(true, Relaxed);
            self.pace.held_up();
            if !self.stuck.swap(true, SeqCst) {
                // It waits for the socket from now on.
                self.driver.wake();
            }
        }
    }

    /// Lets go of `out` after something was sealed: much is sent at once, little by the driver with what comes next.
    pub(in crate::lean) fn send(&self, mut out: MutexGuard<'_, Out>) -> Result<(), Ending> {
        if out.sealed() < MUCH.min(self.pace.batch(true)) {
            drop(out);
            self.kick();
            return Ok(());
        }
        let sent = out.flush();
        if let Ok(all) = &sent {
            self.note_sent(*all);
        }
        drop(out);
        sent.map(drop).map_err(|error| self.lose(&error))
    }

    /// Of the driver: whether the socket's readiness is to be waited for.
    pub(in crate::lean) fn is_stuck(&self) -> bool {
        self.stuck.load(SeqCst)
    }

    /// Of the driver: the socket takes more; whether it took all.
    pub(in crate::lean) fn resume(&self) -> bool {
        let mut out = lock(&self.out);
        let sent = out.flush().and_then(|all| {
            if !all {
                return Ok(false);
            }
            self.seal_control(&mut out)?;
            out.flush()
        });
        let all = matches!(sent, Ok(true));
        self.stuck.store(!all, SeqCst);
        drop(out);
        match sent {
            Ok(true) => {
                self.kick();
                self.call();
            }
            Ok(false) => {}
            Err(error) => {
                self.lose(&error);
            }
        }
        all
    }

    /// Of the driver: the peer has asked for a new key.
    pub(in crate::lean) fn ask_update(&self) {
        lock(&self.out).ask_update();
    }

    /// Of the driver, at the end: sends what control frames there are and an alert, as far as the socket takes them.
    pub(in crate::lean) fn part(&self, alert: Option<u8>) {
        let mut out = lock(&self.out);
        while let Ok(true) = out.flush()
            && self.pending.load(SeqCst)
            && self.seal_control(&mut out).is_ok()
        {}
        if let Some(alert) = alert {
            out.alert(alert);
        }
    }
}
