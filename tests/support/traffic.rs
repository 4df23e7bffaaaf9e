//! Bulk traffic through a proxy, counted where it arrives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::wait::pause;

/// A target that sends without end to whoever connects and sends nothing, and counts what it is sent.
pub struct Bulk {
    /// Where it sends.
    pub source: SocketAddr,
    /// Where it takes.
    pub sink: SocketAddr,
    /// Bytes taken, by connection in order of arrival.
    taken: Arc<std::sync::Mutex<Vec<Arc<AtomicU64>>>>,
}

impl Bulk {
    /// Starts both.
    pub fn start() -> Self {
        let source = TcpListener::bind("127.0.0.1:0").expect("a port");
        let sink = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken: Arc<std::sync::Mutex<Vec<Arc<AtomicU64>>>> = Arc::default();
        let bulk = Self {
            source: source.local_addr().expect("bound"),
            sink: sink.local_addr().expect("bound"),
            taken: taken.clone(),
        };
        std::thread::spawn(move || {
            for mut stream in source.incoming().map_while(Result::ok) {
                std::thread::spawn(move || while stream.write_all(&[7; 64 << 10]).is_ok() {});
            }
        });
        std::thread::spawn(move || {
            for stream in sink.incoming().map_while(Result::ok) {
                let count = Arc::new(AtomicU64::new(0));
                taken.lock().expect("no panic holds it").push(count.clone());
                std::thread::spawn(move || drain(stream, &count));
            }
        });
        bulk
    }

    /// What the sink's connections have taken.
    pub fn taken(&self) -> Vec<Arc<AtomicU64>> {
        self.taken.lock().expect("no panic holds it").clone()
    }
}

fn drain(mut stream: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        count.fetch_add(n as u64, Relaxed);
    }
}

/// A flow through a proxy; ends when dropped.
pub struct Flow {
    stream: TcpStream,
    /// Bytes that came back.
    pub received: Arc<AtomicU64>,
    /// Whether the other end is through.
    pub ended: Arc<AtomicBool>,
}

impl Flow {
    /// Downloads from a source by SOCKS5.
    pub fn down(proxy: SocketAddr, source: SocketAddr) -> Self {
        Self::read(socks5(proxy, source))
    }

    /// Uploads to a sink by SOCKS5, without end.
    pub fn up(proxy: SocketAddr, sink: SocketAddr) -> Self {
        let flow = Self::read(socks5(proxy, sink));
        let mut stream = flow.stream.try_clone().expect("cloned");
        std::thread::spawn(move || while stream.write_all(&[7; 64 << 10]).is_ok() {});
        flow
    }

    fn read(stream: TcpStream) -> Self {
        let (received, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        std::thread::spawn({
            let (stream, received, ended) =
                (stream.try_clone().expect("cloned"), received.clone(), ended.clone());
            move || {
                drain(stream, &received);
                ended.store(true, Relaxed);
            }
        });
        Self { stream, received, ended }
    }

    /// Whether its connection is over.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // A reset: what lies in buffers is not delivered behind the test's back.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Opens a connection by SOCKS5 without a login (RFC 1928).
pub fn socks5(proxy: SocketAddr, target: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).expect("the proxy accepts");
    let SocketAddr::V4(target) = target else { panic!("an IPv4 target") };
    let mut hello = vec![5, 1, 0, 5, 1, 0, 1];
    hello.extend(target.ip().octets());
    hello.extend(target.port().to_be_bytes());
    stream.write_all(&hello).expect("sent");
    let mut reply = [0; 6];
    stream.read_exact(&mut reply).expect("answered");
    let [5, 0, 5, 0, 0, kind] = reply else { panic!("refused: {reply:?}") };
    // An address and a port (RFC 1928 §6).
    let mut bound = vec![0; if kind == 4 { 18 } else { 6 }];
    stream.read_exact(&mut bound).expect("answered");
    stream
}

/// Bytes per second of each counter over a while.
pub fn rates(counters: &[Arc<AtomicU64>], time: Duration) -> Vec<f64> {
    let read = || counters.iter().map(|counter| counter.load(Relaxed)).collect::<Vec<_>>();
    let (start, before) = (Instant::now(), read());
    pause(time);
    let (after, secs) = (read(), start.elapsed().as_secs_f64());
    before.iter().zip(after).map(|(before, after)| (after - before) as f64 / secs).collect()
}

/// How long it takes until the counter's rate over 150 ms is within a fifth of `rate`.
pub fn time_until(counter: &Arc<AtomicU64>, rate: f64, most: Duration) -> Duration {
    let start = Instant::now();
    loop {
        let now = rates(std::slice::from_ref(counter), Duration::from_millis(150))[0];
        if (now / rate - 1.0).abs() < 0.2 {
            // The window that shows it began this much earlier.
            return start.elapsed() - Duration::from_millis(150);
        }
        assert!(start.elapsed() < most, "after {most:?} the rate is {now:.0} B/s, not {rate:.0} B/s");
    }
}
