//! Header blocks: requests and responses (RFC 9113 §6.2, §6.10, §8).

use super::*;

impl Inward {
    pub(super) fn headers(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Head { stream, flags, .. } = self.frame;
        if stream == 0 {
            return Err(Fault(Code::PROTOCOL_ERROR, "headers of no stream"));
        }
        let mut block = payload;
        let mut padding = 0;
        if flags & PADDED != 0 {
            let (&length, rest) =
                block.split_first().ok_or(Fault(Code::FRAME_SIZE_ERROR, "padding without its length"))?;
            (block, padding) = (rest, usize::from(length));
        }
        if flags & PRIORITIZED != 0 {
            block = block.get(5..).ok_or(Fault(Code::FRAME_SIZE_ERROR, "headers that are too short"))?;
        }
        let length =
            block.len().checked_sub(padding).ok_or(Fault(Code::PROTOCOL_ERROR, "more padding than frame"))?;
        let block = &block[..length];
        let end_stream = flags & END_STREAM != 0;
        if flags & END_HEADERS != 0 {
            return self.whole_block(stream, end_stream, block);
        }
        self.block = Some(Block { stream, end_stream, bytes: block.to_vec(), frames: 0 });
        Ok(())
    }

    pub(super) fn continuation(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some(block) = &mut self.block else {
            return Err(Fault(Code::PROTOCOL_ERROR, "a continuation of nothing"));
        };
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        if block.frames > MAX_CONTINUATIONS || block.bytes.len() > MAX_BLOCK {
            return Err(Fault(Code::ENHANCE_YOUR_CALM, "a header block without end"));
        }
        if self.frame.has(END_HEADERS)
            && let Some(block) = self.block.take()
        {
            return self.whole_block(block.stream, block.end_stream, &block.bytes);
        }
        Ok(())
    }

    pub(super) fn whole_block(&mut self, id: u32, end_stream: bool, block: &[u8]) -> Result<(), Fault> {
        match self.shared.role {
            Role::Client => self.response(id, end_stream, block),
            Role::Server => self.request(id, end_stream, block),
        }
    }

    pub(super) fn response(&mut self, id: u32, end_stream: bool, block: &[u8]) -> Result<(), Fault> {
        let response = head::response(block);
        let Some(stream) = self.shared.stream(id) else {
            self.must_be_known(id)?;
            return match response {
                Err(Malformed::Coding) => Err(Fault(Code::COMPRESSION_ERROR, "headers that do not decode")),
                _ => self.spend(1, "too many frames of streams that are closed"),
            };
        };
        let response = match response {
            Ok(response) => response,
            Err(Malformed::Coding) => {
                return Err(Fault(Code::COMPRESSION_ERROR, "headers that do not decode"));
            }
            Err(Malformed::Message) => return self.reset(&stream, Code::PROTOCOL_ERROR),
        };
        if response.status().is_informational() && !end_stream {
            return self.spend(1, "too many interim responses");
        }
        let mut state = stream.lock();
        if state.ended || state.answered || response.status().is_informational() {
            // Trailers too: a connected stream has none (RFC 9113 §8.5).
            drop(state);
            return self.reset(&stream, Code::PROTOCOL_ERROR);
        }
        state.answered = true;
        state.answer = Some(Box::new(response));
        drop(state);
        self.shared.unanswered.fetch_sub(1, Relaxed);
        if end_stream {
            self.end_stream(&stream)
        } else {
            stream.wake_reader()
        }
        Ok(())
    }

    pub(super) fn request(&mut self, id: u32, end_stream: bool, block: &[u8]) -> Result<(), Fault> {
        let request = match head::request(block) {
            Err(Malformed::Coding) => {
                return Err(Fault(Code::COMPRESSION_ERROR, "headers that do not decode"));
            }
            outcome => outcome.ok(),
        };
        if id.is_multiple_of(2) {
            return Err(Fault(Code::PROTOCOL_ERROR, "a stream with a server's number"));
        }
        let mut table = self.shared.table();
        if id <= table.latest {
            let stream = table.streams.get(&id).cloned();
            drop(table);
            return match stream {
                Some(stream) => {
                    let ended = stream.lock().ended;
                    self.reset(&stream, if ended { Code::STREAM_CLOSED } else { Code::PROTOCOL_ERROR })
                }
                None => Err(Fault(Code::STREAM_CLOSED, "headers of a stream that is closed")),
            };
        }
        table.latest = id;
        let full = table.streams.len() >= MAX_STREAMS as usize || table.closing;
        let Some(request) = request.filter(|_| !full) else {
            drop(table);
            let code = if full { Code::REFUSED_STREAM } else { Code::PROTOCOL_ERROR };
            if !self.shared.queue_reset(id, code) {
                return Err(Fault(Code::ENHANCE_YOUR_CALM, "it does not read what it asks for"));
            }
            return self.spend(1, "too many streams that are not taken");
        };
        let stream = Arc::new(Stream::new(
            id,
            self.shared.peer_initial.load(Relaxed),
            self.shared.own_initial.load(Relaxed),
            self.shared.budget.enter(),
        ));
        stream.lock().ended = end_stream;
        table.streams.insert(id, stream.clone());
        drop(table);
        let responder = Responder::new(End::new(self.shared.clone(), stream));
        if let Some(arrivals) = &self.arrivals {
            // Nobody takes them any more: dropped, it is reset.
            let _ = arrivals.send((request, responder));
        }
        Ok(())
    }
}
