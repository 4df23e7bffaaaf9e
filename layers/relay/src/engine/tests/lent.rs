//! Sources that have their bytes in memory already, as a tunnel's streams do.

use std::io;
use std::sync::Mutex;
use std::task::{Context, Poll};

use swiftproxy_core::endpoint::Endpoint;

use super::*;

/// Lends `left` bytes, as much as `chunk` holds at a time; what it is sent goes nowhere.
struct Lender {
    chunk: Vec<u8>,
    left: usize,
}

impl Endpoint for Lender {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn lent(&self) -> &[u8] {
        &self.chunk[..self.chunk.len().min(self.left)]
    }
    fn consume(&mut self, n: usize) {
        self.left -= n;
    }
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn reset(&mut self) {}
}

/// Takes at most `most` bytes at a time, and notes how many it was offered.
struct Taker {
    most: usize,
    offered: Arc<Mutex<Vec<usize>>>,
}

impl Endpoint for Taker {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.offered.lock().unwrap().push(bytes.len());
        Poll::Ready(Ok(bytes.len().min(self.most)))
    }
    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn reset(&mut self) {}
}

/// What a sink is offered that takes `most` at a time, of a source that lends plenty.
async fn offered(most: usize) -> Vec<usize> {
    const LENT: usize = 8 << 20;
    let offered = Arc::default();
    let lender = Lender { chunk: vec![7; 1 << 20], left: LENT };
    let taker = Taker { most, offered: Arc::clone(&offered) };
    let session = session();
    let live = session.live().clone();
    Engine::new(None).run(session, Box::new(taker), Box::new(lender)).await;
    assert_eq!(live.bytes.total(Down), LENT as u64);
    let offered = offered.lock().unwrap();
    offered.clone()
}

#[tokio::test]
async fn bulk_goes_out_in_large_pieces() {
    let offered = offered(usize::MAX).await;
    let large = offered.iter().filter(|n| **n == 256 << 10).count();
    assert!(large >= 8 * 4 - 4, "{offered:?}");
}

#[tokio::test]
async fn a_sink_that_takes_little_is_offered_little() {
    let offered = offered(20_000).await;
    assert!(offered[1..].iter().all(|n| *n <= 2 * 20_000), "{offered:?}");
}
