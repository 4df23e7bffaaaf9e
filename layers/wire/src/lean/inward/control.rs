//! Everything that is neither data nor headers (RFC 9113 §6.3 to §6.9).

use std::time::Duration;

use super::*;

impl Inward {
    /// Announces another initial window where it does not fit so many streams.
    pub(in crate::lean) fn fit(&mut self, streams: usize) {
        let now = self.shared.own_initial.load(Relaxed);
        let right = crate::lean::initial_window(streams);
        if self.announced.is_some() || (right >= now && right / 4 < now) {
            return;
        }
        self.announced = Some(Announced { window: right });
        let settings = Settings { window: Some(right), ..Settings::default() };
        self.shared.control(|out| settings.put(out, false));
    }

    pub(super) fn priority(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if self.frame.stream == 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "a priority of no stream"));
        }
        self.spend(1, "too many priorities")?;
        if payload.len() != 5 {
            return match self.shared.stream(self.frame.stream) {
                Some(stream) => self.reset(&stream, Code::FRAME_SIZE_ERROR),
                None => Ok(()),
            };
        }
        Ok(())
    }

    pub(super) fn reset_by_peer(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let id = self.frame.stream;
        if id == 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "a reset of no stream"));
        }
        let code =
            Code(frame::number(payload).ok_or(Fault(Code::FRAME_SIZE_ERROR, "a reset of the wrong length"))?);
        let Some(stream) = self.shared.stream(id) else {
            self.must_be_known(id)?;
            return self.spend(1, "too many frames of streams that are closed");
        };
        // Cheap for a peer, dear for us: what was opened and is reset before it was answered (CVE-2023-44487).
        let unanswered = self.shared.role == Role::Server && !stream.lock().answered;
        stream.break_off(Broken::Reset(code));
        self.shared.forget(id);
        if self.current.as_ref().is_some_and(|current| current.id == id) {
            self.current = None;
            self.dirty = false;
        }
        if unanswered { self.spend(2, "too many streams that are opened and reset") } else { Ok(()) }
    }

    pub(super) fn settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if self.frame.stream != 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "settings of a stream"));
        }
        self.spend(1, "too many settings")?;
        if self.frame.has(ACK) {
            if !payload.is_empty() {
                return Err(Fault(Code::FRAME_SIZE_ERROR, "an acknowledgement with a payload"));
            }
            let announced = self.announced.take();
            let Announced { window } =
                announced.ok_or(Fault(Code::PROTOCOL_ERROR, "an acknowledgement of nothing"))?;
            self.apply_window(window);
            return Ok(());
        }
        let settings = Settings::parse(payload).map_err(|code| Fault(code, "settings that are wrong"))?;
        let first = !std::mem::replace(&mut self.settled, true);
        if first && self.insist && settings.lean != Some(LEAN_VERSION) {
            self.shared.end(Ending::Unknown);
            return Ok(());
        }
        if let Some(size) = settings.max_frame {
            self.shared.set_max_frame(size);
        }
        if let Some(most) = settings.max_streams {
            self.shared.table().peer_max = most as usize;
        } else if first {
            self.shared.table().peer_max = MAX_STREAMS as usize;
        }
        let few = std::cell::Cell::new(true);
        let acknowledge = || few.set(self.shared.reply(|out| frame::put(out, SETTINGS, ACK, 0, &[])));
        match settings.window {
            Some(size) => self
                .shared
                .set_peer_initial(size, acknowledge)
                .ok_or(Fault(Code::FLOW_CONTROL_ERROR, "a window that is too large"))?,
            None => acknowledge(),
        }
        if !few.get() {
            return Err(Fault(Code::ENHANCE_YOUR_CALM, "it does not read what it asks for"));
        }
        if first {
            self.shared.settled.store(true, Relaxed);
        }
        self.shared.opened.notify_one();
        Ok(())
    }

    /// The peer knows of our initial window now.
    pub(super) fn apply_window(&mut self, window: u32) {
        let table = self.shared.table();
        let before = self.shared.own_initial.swap(window, Relaxed);
        let delta = i64::from(window) - i64::from(before);
        let mut credits = Vec::new();
        if delta != 0 {
            for stream in table.streams.values() {
                let mut state = stream.lock();
                state.shift_allowed(delta);
                // What was too little to be credited may be more than the whole window now, with nothing left to come.
                if let Some(credit) = state.consume(0, Duration::ZERO, |_| false) {
                    credits.push((stream.id, credit));
                }
            }
        }
        drop(table);
        for (stream, credit) in credits {
            self.shared.credit(stream, credit);
        }
    }

    pub(super) fn ping(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if self.frame.stream != 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "a ping of a stream"));
        }
        if payload.len() != 8 {
            return Err(Fault(Code::FRAME_SIZE_ERROR, "a ping of the wrong length"));
        }
        if self.frame.has(ACK) {
            if let Some(sent) = self.pinged.take() {
                self.shared.set_round_trip(sent.elapsed());
            }
            return self.spend(1, "too many answers to pings");
        }
        self.spend(1, "too many pings")?;
        if self.shared.reply(|out| frame::put(out, PING, ACK, 0, payload)) {
            Ok(())
        } else {
            Err(Fault(Code::ENHANCE_YOUR_CALM, "it does not read what it asks for"))
        }
    }

    pub(super) fn go_away(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if self.frame.stream != 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "a goaway of a stream"));
        }
        self.spend(1, "too many goaways")?;
        let (Some(last), Some(code)) =
            (payload.get(..4).and_then(frame::number), payload.get(4..8).and_then(frame::number))
        else {
            return Err(Fault(Code::FRAME_SIZE_ERROR, "a goaway that is too short"));
        };
        if code != Code::NO_ERROR.0 {
            self.shared.end(Ending::Peer(Code(code)));
            return Ok(());
        }
        let mut table = self.shared.table();
        table.closing = true;
        let last = last & 0x7fff_ffff;
        let unseen: Vec<_> = match self.shared.role {
            Role::Client => table.streams.values().filter(|stream| stream.id > last).cloned().collect(),
            Role::Server => Vec::new(),
        };
        drop(table);
        for stream in unseen {
            // Nobody looked at it: it can be sent again.
            stream.break_off(Broken::Reset(Code::REFUSED_STREAM));
            self.shared.forget(stream.id);
        }
        self.shared.opened.notify_waiters();
        self.shared.driver.wake();
        Ok(())
    }

    pub(super) fn window_update(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let id = self.frame.stream;
        let n = frame::number(payload)
            .ok_or(Fault(Code::FRAME_SIZE_ERROR, "a window update of the wrong length"))?
            & 0x7fff_ffff;
        // Those that open a window for something are no burden.
        if n < 1024 {
            self.spend(1, "too many window updates")?;
        }
        if id == 0 {
            if n == 0 {
                return Err(Fault(Code::PROTOCOL_ERROR, "a window update of nothing"));
            }
            return self.shared.widen(n).ok_or(Fault(Code::FLOW_CONTROL_ERROR, "a window that is too large"));
        }
        let Some(stream) = self.shared.stream(id) else {
            self.must_be_known(id)?;
            return self.spend(1, "too many frames of streams that are closed");
        };
        if n == 0 {
            return self.reset(&stream, Code::PROTOCOL_ERROR);
        }
        let mut state = stream.lock();
        let before = state.window;
        state.window += i64::from(n);
        let wide = state.window > frame::MOST_WINDOW;
        let opened = before <= 0 && state.window > 0;
        drop(state);
        if wide {
            return self.reset(&stream, Code::FLOW_CONTROL_ERROR);
        }
        if opened {
            stream.wake_writer();
        }
        Ok(())
    }
}
