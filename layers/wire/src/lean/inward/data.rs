//! DATA frames (RFC 9113 §6.1).

use std::time::Duration;

use super::*;

impl Inward {
    pub(super) fn begin_data(&mut self) -> Result<(), Fault> {
        let Head { length, stream, .. } = self.frame;
        if stream == 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "data of no stream"));
        }
        self.padded = self.frame.has(PADDED);
        if self.padded && length == 0 {
            return Err(Fault(Code::FRAME_SIZE_ERROR, "padding without its length"));
        }
        // The whole frame counts, and what was received goes back at once: a stream that nobody reads holds up no
        // other.
        let length = length as u32;
        self.allowed -= i64::from(length);
        if self.allowed < 0 {
            return Err(Fault(Code::FLOW_CONTROL_ERROR, "more than the connection's window"));
        }
        self.due += length;
        if self.due >= CONNECTION_WINDOW / 2 {
            self.allowed += i64::from(self.due);
            self.shared.credit(0, std::mem::take(&mut self.due));
        }
        if self.current.as_ref().is_none_or(|current| current.id != stream) {
            if std::mem::take(&mut self.dirty)
                && let Some(before) = &self.current
            {
                before.wake_reader();
            }
            self.current = self.shared.stream(stream);
            if self.current.is_none() {
                self.must_be_known(stream)?;
            }
        }
        self.shared.pace.moved(length as usize);
        if length == 0 && !self.frame.has(END_STREAM) {
            self.spend(1, "too many empty frames")?;
        } else if length >= 1024 {
            self.budget = (self.budget + 1).min(MUCH);
        }
        let Some(current) = &self.current else {
            return self.spend(1, "too many frames of streams that are closed");
        };
        let mut state = current.lock();
        if state.ended {
            drop(state);
            return self.stream_fault(Code::STREAM_CLOSED);
        }
        if self.shared.role == Role::Client && !state.answered && !state.is_closed() {
            drop(state);
            return self.stream_fault(Code::PROTOCOL_ERROR);
        }
        if state.receive(length).is_err() {
            drop(state);
            return self.stream_fault(Code::FLOW_CONTROL_ERROR);
        }
        current.counted.wait(state.unread());
        Ok(())
    }

    pub(super) fn data(&mut self, bytes: &mut &[u8]) -> Result<(), Fault> {
        if self.padded {
            let Some((&padding, rest)) = bytes.split_first() else { return Ok(()) };
            *bytes = rest;
            self.left -= 1;
            self.padding = padding.into();
            self.padded = false;
            if self.padding > self.left {
                return Err(Fault(Code::PROTOCOL_ERROR, "more padding than frame"));
            }
            self.pass(self.padding + 1);
        }
        let n = bytes.len().min(self.left - self.padding);
        let (data, rest) = bytes.split_at(n);
        if n > 0
            && let Some(current) = &self.current
        {
            let mut state = current.lock();
            if state.gone || state.broken.is_some() {
                drop(state);
                self.pass(n);
            } else {
                state.deliver(data);
                drop(state);
                self.dirty = true;
            }
        }
        self.left -= n;
        *bytes = rest;
        if self.left == self.padding {
            let n = bytes.len().min(self.padding);
            self.left -= n;
            self.padding -= n;
            *bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Bytes that nobody is going to read count as read.
    pub(super) fn pass(&self, n: usize) {
        if let Some(current) = &self.current {
            let credit = current.lock().consume(n as u32, Duration::ZERO, |_| false);
            if let Some(credit) = credit {
                self.shared.credit(current.id, credit);
            }
        }
    }

    pub(super) fn end_stream(&mut self, stream: &Arc<Stream>) {
        let mut state = stream.lock();
        state.ended = true;
        let closed = state.is_closed();
        drop(state);
        stream.wake_reader();
        if closed {
            self.shared.forget(stream.id);
            self.current = None;
        }
    }
}
