//! A link between two hosts, in user space: of so many bytes per second each way and so long a round trip, with a
//! queue of bounded length before it. A TCP relay cannot drop, so a full queue stops reading; the senders' kernel
//! then holds back, as a congestion window would.
//!
//! On threads, one that reads and one that writes per direction: they sleep to a tenth of a millisecond, which a
//! runtime's timers do not. Connecting takes no round trip.

use crate::options::Options;
use socket2::{SockRef, Socket};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are taken at once.
const CHUNK: usize = 8 << 10;
/// Chunks that may be under way, or wait for a receiver that does not read.
const UNDER_WAY: usize = 2048;
/// What the kernel may hold before the queue, as it is set; it takes twice that, and it counts as part of the queue.
const KERNEL_BUFFER: usize = 16 << 10;
/// As on Ethernet: with loopback's segments of 64 KiB so small a buffer would stall.
const SEGMENT: u32 = 1448;

/// One direction of the link, which all connections share.
struct Lane {
    rate: f64,
    queue: Duration,
    delay: Duration,
    free_at: Mutex<Instant>,
}

impl Lane {
    /// Takes the next place in the queue for `n` bytes: when there is room for more, and when they arrive.
    fn send(&self, n: usize) -> (Instant, Instant) {
        let mut free_at = self.free_at.lock().unwrap();
        *free_at = (*free_at).max(Instant::now()) + Duration::from_secs_f64(n as f64 / self.rate);
        (*free_at - self.queue, *free_at + self.delay)
    }
}

/// Relays what connects to `--target` on to `--proxy`.
pub fn run(options: &Options) -> io::Result<()> {
    let to = options.proxy.ok_or(io::Error::other("--proxy is missing"))?;
    let rate = options.limit as f64;
    let kernel = Duration::from_secs_f64(2.0 * KERNEL_BUFFER as f64 / rate);
    let lane = || {
        Arc::new(Lane {
            rate,
            queue: options.queue.saturating_sub(kernel),
            delay: options.rtt / 2,
            free_at: Mutex::new(Instant::now()),
        })
    };
    let (up, down) = (lane(), lane());
    let listener = TcpListener::bind(options.target)?;
    as_on_a_wire(&SockRef::from(&listener))?;
    for near in listener.incoming() {
        let near = near?;
        // The far end may not be up yet.
        let Ok(far) = connect(to) else { continue };
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
        }
        relay(near.try_clone()?, far.try_clone()?, up.clone());
        relay(far, near, down.clone());
    }
    Ok(())
}

fn connect(to: std::net::SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    as_on_a_wire(&SockRef::from(&socket))?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

fn as_on_a_wire(socket: &SockRef) -> io::Result<()> {
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    socket.set_tcp_mss(SEGMENT)
}

fn relay(from: TcpStream, to: TcpStream, lane: Arc<Lane>) {
    let (sender, receiver) = sync_channel(UNDER_WAY);
    thread::spawn(move || read(from, &lane, &sender));
    thread::spawn(move || write(to, &receiver));
}

/// An empty chunk is the end.
fn read(mut from: TcpStream, lane: &Lane, chunks: &SyncSender<(Instant, Vec<u8>)>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let n = from.read(&mut chunk).unwrap_or(0);
        chunk.truncate(n);
        let (room, arrives) = lane.send(n);
        if chunks.send((arrives, chunk)).is_err() || n == 0 {
            return;
        }
        thread::sleep(room.saturating_duration_since(Instant::now()));
    }
}

fn write(mut to: TcpStream, chunks: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((when, chunk)) = chunks.recv() {
        thread::sleep(when.saturating_duration_since(Instant::now()));
        if chunk.is_empty() || to.write_all(&chunk).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_sends_at_its_rate_and_queues_so_much() {
        let start = Instant::now();
        let queue = Duration::from_millis(20);
        let delay = Duration::from_millis(25);
        let lane = Lane { rate: 1e6, queue, delay, free_at: Mutex::new(start) };
        let mut last = start;
        for _ in 0..10 {
            let (room, arrives) = lane.send(10_000);
            assert!(arrives >= last);
            assert_eq!(arrives - room, queue + delay);
            last = arrives;
        }
        assert!(last - start >= Duration::from_millis(125), "{:?}", last - start);
    }
}
