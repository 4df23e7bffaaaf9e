//! What follows a 101: bytes both ways, under the session's meter.
//!
//! Invariant: a side that waits owns no buffer; what one read gave is written before the next read. One way may
//! end before the other.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use swiftproxy_core::opened::TargetStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are read at a time.
const CHUNK: usize = 16 << 10;

/// Pipes between the client, of whom `early` was read already, and the origin that changed the protocol.
pub(super) async fn pipe<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: S,
    early: Vec<u8>,
    switched: OnUpgrade,
) {
    let Ok(Ok(parts)) = switched.await.map(|upgraded| upgraded.downcast::<TokioIo<TargetStream>>()) else {
        return;
    };
    let mut target = parts.io.into_inner();
    let live = target.session().live().clone();
    let mut up = Flow { held: early, at: 0, state: State::Open };
    let mut down = Flow { held: parts.read_buf.to_vec(), at: 0, state: State::Open };
    let result = poll_fn(|cx| {
        // Looked at here as well, for the target is asked nothing while the client does not read.
        if let Poll::Ready(reason) = live.cancel.poll(cx) {
            live.set_outcome(reason.label());
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let up = up.poll(cx, &mut client, &mut target)?;
        let down = down.poll(cx, &mut target, &mut client)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
    })
    .await;
    live.set_outcome(if result.is_ok() { "done" } else { "failed" });
}

/// One way.
struct Flow {
    /// Read, and not written from `at` on.
    held: Vec<u8>,
    at: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source ended; the sink is being told.
    Ending,
    Ended,
}

impl Flow {
    /// Moves what can be moved; ready once the sink was told of the end.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self.held.get(self.at..).filter(|rest| !rest.is_empty()) {
                match ready!(Pin::new(&mut *sink).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.at += n,
                }
            }
            if !self.held.is_empty() {
                (self.held, self.at) = (Vec::new(), 0);
            }
            match self.state {
                State::Open => {
                    let mut scratch = [const { MaybeUninit::uninit() }; CHUNK];
                    let mut chunk = ReadBuf::uninit(&mut scratch);
                    if Pin::new(&mut *source).poll_read(cx, &mut chunk)?.is_pending() {
                        ready!(Pin::new(&mut *sink).poll_flush(cx))?;
                        return Poll::Pending;
                    }
                    let bytes = chunk.filled();
                    if bytes.is_empty() {
                        self.state = State::Ending;
                        continue;
                    }
                    let n = match Pin::new(&mut *sink).poll_write(cx, bytes)? {
                        Poll::Ready(n) => n,
                        Poll::Pending => 0,
                    };
                    self.held = bytes.get(n..).unwrap_or_default().to_vec();
                }
                State::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}
