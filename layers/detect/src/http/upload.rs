//! A request's body, from the client's connection to the origin's.
//!
//! Invariant: the origin hears that a body is over only if it was; a body that broke off ends in an error, and so
//! does the request. At most one piece waits between the two.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use swiftproxy_wire::http1::{BodyLength, ChunkedDecoder, Step, strip_hop_by_hop};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::client::Reader;
use super::forward::BoxError;

/// A chunk up to this long is copied beside others rather than handed on alone.
const SMALL: usize = 1 << 10;

/// Why a body is not over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UploadFault {
    /// The client left.
    Gone,
    /// It is not framed as its head says.
    Malformed,
}

/// What a body comes in.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End(HeaderMap),
}

/// The client's side: how much of a body is still to be read.
pub(super) struct Upload(State);

enum State {
    Left(u64),
    Chunked(Box<ChunkedDecoder>),
    /// Read whole, but for telling of it.
    Over(HeaderMap),
    Done,
}

impl Upload {
    /// A body of which nothing was read.
    pub(super) fn new(length: BodyLength) -> Self {
        Self(match length {
            BodyLength::Length(n) if n > 0 => State::Left(n),
            BodyLength::Chunked => State::Chunked(Box::default()),
            // No request's body lasts until the connection's end (RFC 9112 §6.3).
            _ => State::Done,
        })
    }

    /// Whether all of it was read.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// The origin's side of it, and where to put the pieces.
    pub(super) fn body(&self) -> (mpsc::Sender<Piece>, UploadBody) {
        let (sender, pieces) = mpsc::channel(1);
        let left = match self.0 {
            State::Left(n) => Some(n),
            State::Chunked(_) => None,
            State::Over(_) | State::Done => Some(0),
        };
        (sender, UploadBody { pieces, left, over: self.is_done() })
    }

    /// Reads all of it and hands it on; stops early where nobody takes it any more.
    pub(super) async fn run<S: AsyncRead + AsyncWrite>(
        &mut self,
        reader: &mut Reader<S>,
        out: mpsc::Sender<Piece>,
    ) -> Result<(), UploadFault> {
        while !self.is_done() {
            let Ok(room) = out.reserve().await else { return Ok(()) };
            room.send(self.next(reader).await?);
            if let State::Left(0) = self.0 {
                self.0 = State::Done;
            }
        }
        Ok(())
    }

    /// Reads and forgets at most `most` bytes; whether that was all.
    pub(super) async fn discard<S: AsyncRead + AsyncWrite>(
        &mut self,
        reader: &mut Reader<S>,
        most: usize,
    ) -> bool {
        let mut left = most;
        while !self.is_done() {
            match self.next(reader).await {
                Ok(Piece::Data(data)) if data.len() <= left => left -= data.len(),
                Ok(Piece::End(_)) => {}
                _ => return false,
            }
            if let State::Left(0) = self.0 {
                self.0 = State::Done;
            }
        }
        true
    }

    /// The next piece. May be dropped at its await; nothing is lost.
    async fn next<S: AsyncRead + AsyncWrite>(
        &mut self,
        reader: &mut Reader<S>,
    ) -> Result<Piece, UploadFault> {
        loop {
            if let Some(piece) = self.take(reader)? {
                return Ok(piece);
            }
            match reader.more().await {
                Ok(n) if n > 0 => {}
                _ => return Err(UploadFault::Gone),
            }
        }
    }

    /// A piece of what was read; of small chunks as many as there are.
    fn take<S>(&mut self, reader: &mut Reader<S>) -> Result<Option<Piece>, UploadFault> {
        let bytes = &mut reader.bytes;
        let mut gathered = BytesMut::new();
        loop {
            match &mut self.0 {
                State::Done => return Ok(Some(Piece::End(HeaderMap::new()))),
                State::Over(_) if !gathered.is_empty() => break,
                State::Over(trailers) => {
                    let trailers = std::mem::take(trailers);
                    self.0 = State::Done;
                    return Ok(Some(Piece::End(trailers)));
                }
                _ if bytes.is_empty() => break,
                State::Left(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= n as u64;
                    return Ok(Some(Piece::Data(bytes.split_to(n).freeze())));
                }
                State::Chunked(decoder) => {
                    let (step, n) = decoder.step(bytes).map_err(|_| UploadFault::Malformed)?;
                    let n = n.min(bytes.len());
                    match step {
                        Step::More => bytes.advance(n),
                        Step::Data(data) if data.len() > SMALL && gathered.is_empty() => {
                            // The data is what lies last in the bytes it took.
                            let before = n.saturating_sub(data.len());
                            bytes.advance(before);
                            return Ok(Some(Piece::Data(bytes.split_to(n - before).freeze())));
                        }
                        Step::Data(data) => {
                            gathered.extend_from_slice(data);
                            bytes.advance(n);
                        }
                        Step::End(mut trailers) => {
                            strip_hop_by_hop(&mut trailers);
                            bytes.advance(n);
                            self.0 = State::Over(trailers);
                        }
                    }
                }
            }
        }
        Ok((!gathered.is_empty()).then(|| Piece::Data(gathered.freeze())))
    }
}

/// The origin's side.
pub(super) struct UploadBody {
    pieces: mpsc::Receiver<Piece>,
    left: Option<u64>,
    over: bool,
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(data)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                    self.over = self.left == Some(0);
                }
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::End(trailers)) => {
                self.over = true;
                (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
            }
            None => {
                self.over = true;
                Some(Err("the client's body broke off".into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_broke_off_ends_in_an_error() {
        for length in [BodyLength::Length(5), BodyLength::Chunked] {
            let (sender, mut body) = Upload::new(length).body();
            sender.send(Piece::Data(Bytes::from_static(b"1234"))).await.expect("taken");
            drop(sender);
            assert!(body.frame().await.expect("a piece").is_ok());
            assert!(body.frame().await.expect("an error").is_err());
        }
        let (sender, mut body) = Upload::new(BodyLength::Length(5)).body();
        sender.send(Piece::Data(Bytes::from_static(b"12345"))).await.expect("taken");
        drop(sender);
        assert!(body.frame().await.expect("a piece").is_ok());
        assert!(body.frame().await.is_none());
    }

    /// However a body in chunks is cut, it comes out the same.
    #[tokio::test]
    async fn at_every_split() {
        let words = "3\r\nabc\r\n1;x=y\r\nd\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\nnext";
        for at in 0..=words.len() {
            let (client, mut peer) = tokio::io::duplex(256);
            let (mut reader, _writer) = crate::http::client::split(client, words.as_bytes()[..at].to_vec());
            tokio::io::AsyncWriteExt::write_all(&mut peer, &words.as_bytes()[at..]).await.expect("room");
            let mut upload = Upload::new(BodyLength::Chunked);
            let (mut all, mut trailers) = (Vec::new(), HeaderMap::new());
            while !upload.is_done() {
                match upload.next(&mut reader).await.expect("well framed") {
                    Piece::Data(data) => all.extend_from_slice(&data),
                    Piece::End(last) => trailers = last,
                }
            }
            assert_eq!((all.as_slice(), trailers.len()), (&b"abcd0123456789"[..], 1), "{at}");
            if reader.bytes.len() < 4 {
                reader.more().await.expect("more");
            }
            assert_eq!(&reader.bytes[..], b"next", "{at}");
        }
    }
}
