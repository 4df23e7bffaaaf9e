//! What the peer sends: frames out of the bytes as they come, and what each of them does.
//!
//! Invariant: a frame that breaks a rule ends its stream or the connection as RFC 9113 says; one that costs us
//! something and gives nothing is paid for out of a budget that only data and time fill.

mod blocks;
mod control;
mod data;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::end::End;
use super::frame::{
    self, ACK, CONTINUATION, Code, DATA, DEFAULT_WINDOW, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS,
    Head, LEAN_VERSION, PADDED, PING, PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, Settings,
    WINDOW_UPDATE,
};
use super::head::{self, Malformed};
use super::server::{Arrival, Responder};
use super::shared::{Ending, Role, Shared};
use super::stream::{Broken, Stream};
use super::{CONNECTION_WINDOW, MAX_STREAMS};

/// Bytes of the payload of a frame that is no DATA.
const MAX_CONTROL: usize = frame::DEFAULT_MAX_FRAME as usize;

/// What a connection keeps for the payload of the next such frame: the commonest tell of windows and pings.
const SMALL_CONTROL: usize = 64;

/// Bytes of one header block, and frames that it may come in.
const MAX_BLOCK: usize = 2 * head::MAX_FIELDS;
const MAX_CONTINUATIONS: u32 = 8;

/// Frames that a peer may send for nothing at once, and how many more each second.
const MUCH: i64 = 2000;
const EACH_SECOND: i64 = 200;

/// A rule that was broken, for which the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lean) struct Fault(pub(in crate::lean) Code, pub(in crate::lean) &'static str);

/// A header block that is not complete.
struct Block {
    stream: u32,
    end_stream: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// Our initial window on its way to the peer.
struct Announced {
    window: u32,
}

/// The receiving side of a connection.
pub(in crate::lean) struct Inward {
    shared: Arc<Shared>,
    arrivals: Option<mpsc::UnboundedSender<Arrival>>,
    /// Whether a client goes on only where the server knows this engine.
    insist: bool,
    max_frame: usize,
    head: [u8; HEAD],
    have: usize,
    /// What is left of the frame, padding included, and of its padding.
    left: usize,
    padding: usize,
    padded: bool,
    payload: Vec<u8>,
    frame: Head,
    block: Option<Block>,
    /// The stream of the DATA frames at hand.
    current: Option<Arc<Stream>>,
    dirty: bool,
    settled: bool,
    /// What the peer may still send on the whole connection, and what it is to be given back.
    allowed: i64,
    due: u32,
    announced: Option<Announced>,
    /// Highest stream that the peer has answered or opened, for what it may speak of.
    budget: i64,
    filled: Instant,
    pub(in crate::lean) pinged: Option<Instant>,
}

impl Inward {
    pub(in crate::lean) fn new(
        shared: Arc<Shared>,
        arrivals: Option<mpsc::UnboundedSender<Arrival>>,
        (insist, max_frame, window): (bool, usize, u32),
    ) -> Self {
        Self {
            shared,
            arrivals,
            insist,
            max_frame,
            head: [0; HEAD],
            have: 0,
            left: 0,
            padding: 0,
            padded: false,
            payload: Vec::new(),
            frame: Head { length: 0, kind: 0, flags: 0, stream: 0 },
            block: None,
            current: None,
            dirty: false,
            settled: false,
            allowed: i64::from(CONNECTION_WINDOW),
            due: 0,
            announced: Some(Announced { window }),
            budget: MUCH,
            filled: Instant::now(),
            pinged: None,
        }
    }

    /// Takes what was received.
    pub(in crate::lean) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.have < HEAD {
                let n = bytes.len().min(HEAD - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < HEAD {
                    return Ok(());
                }
                self.begin()?;
            }
            if self.frame.kind == DATA {
                self.data(&mut bytes)?;
            } else {
                let n = bytes.len().min(self.left);
                self.payload.extend_from_slice(&bytes[..n]);
                self.left -= n;
                bytes = &bytes[n..];
            }
            if self.left == 0 {
                self.have = 0;
                self.finish()?;
            }
        }
        Ok(())
    }

    /// After a batch: whoever got something hears of it.
    pub(in crate::lean) fn rest(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Some(stream) = &self.current
        {
            stream.wake_reader();
        }
        if self.payload.capacity() > SMALL_CONTROL && self.left == 0 {
            self.payload = Vec::new();
        }
    }

    /// A frame's head is complete.
    fn begin(&mut self) -> Result<(), Fault> {
        self.frame = Head::parse(&self.head);
        self.left = self.frame.length;
        self.padding = 0;
        self.padded = false;
        self.payload.clear();
        let Head { length, kind, stream, .. } = self.frame;
        if length > self.max_frame {
            return Err(Fault(Code::FRAME_SIZE_ERROR, "a frame that is too long"));
        }
        if !self.settled && (kind != SETTINGS || self.frame.has(ACK)) {
            return Err(Fault(Code::PROTOCOL_ERROR, "something before the first settings"));
        }
        if let Some(block) = &self.block
            && (kind != CONTINUATION || stream != block.stream)
        {
            return Err(Fault(Code::PROTOCOL_ERROR, "something inside a header block"));
        }
        match kind {
            DATA => self.begin_data(),
            _ if length > MAX_CONTROL => {
                Err(Fault(Code::FRAME_SIZE_ERROR, "a control frame that is too long"))
            }
            _ => Ok(()),
        }
    }

    /// Resets the stream at hand.
    fn stream_fault(&mut self, code: Code) -> Result<(), Fault> {
        if let Some(stream) = self.current.take() {
            self.dirty = false;
            self.reset(&stream, code)?;
        }
        Ok(())
    }

    fn reset(&mut self, stream: &Stream, code: Code) -> Result<(), Fault> {
        if !self.shared.reset(stream, code) {
            return Err(Fault(Code::ENHANCE_YOUR_CALM, "it does not read what it asks for"));
        }
        self.spend(1, "too many streams that break rules")
    }

    /// A frame is complete.
    fn finish(&mut self) -> Result<(), Fault> {
        let payload = std::mem::take(&mut self.payload);
        let Head { kind, stream, .. } = self.frame;
        let outcome = match kind {
            DATA => {
                if self.frame.has(END_STREAM)
                    && let Some(current) = self.current.clone()
                {
                    self.dirty = false;
                    self.end_stream(&current);
                }
                Ok(())
            }
            HEADERS => self.headers(&payload),
            PRIORITY => self.priority(&payload),
            RST_STREAM => self.reset_by_peer(&payload),
            SETTINGS => self.settings(&payload),
            PUSH_PROMISE => Err(Fault(Code::PROTOCOL_ERROR, "a push that was not allowed")),
            PING => self.ping(&payload),
            GOAWAY => self.go_away(&payload),
            WINDOW_UPDATE => self.window_update(&payload),
            CONTINUATION => self.continuation(&payload),
            // RFC 9113 §5.5.
            _ => self.spend(1, "too many frames of unknown types"),
        };
        let _ = stream;
        self.payload = payload;
        outcome
    }

    /// Takes from the budget of what is done for nothing.
    fn spend(&mut self, cost: i64, what: &'static str) -> Result<(), Fault> {
        self.budget -= cost;
        if self.budget >= 0 {
            return Ok(());
        }
        let now = Instant::now();
        let earned = (now - self.filled).as_millis() as i64 * EACH_SECOND / 1000;
        if earned > 0 {
            self.filled = now;
            self.budget = (self.budget + earned).min(MUCH);
        }
        if self.budget < 0 { Err(Fault(Code::ENHANCE_YOUR_CALM, what)) } else { Ok(()) }
    }

    /// A stream that is not open was so once, or speaking of it is an error (RFC 9113 §5.1).
    fn must_be_known(&self, stream: u32) -> Result<(), Fault> {
        let latest = self.shared.table().latest;
        let known = match self.shared.role {
            Role::Client => stream % 2 == 1 && stream < latest,
            Role::Server => stream % 2 == 1 && stream <= latest,
        };
        if known {
            Ok(())
        } else {
            Err(Fault(Code::PROTOCOL_ERROR, "a frame of a stream that was never opened"))
        }
    }
}

const _: () = assert!(CONNECTION_WINDOW > DEFAULT_WINDOW);
