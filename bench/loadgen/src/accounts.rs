//! Cases of several accounts: each held to its rate, a cap that they share, and a rate that changes.

use crate::cases::{go_on, in_parallel, phase};
use crate::options::Options;
use crate::proxy;
use crate::stats::Json;
use crate::target;
use socket2::SockRef;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// How far an account may be off to count as held.
const HELD: f64 = 0.02;
/// How often a rate that should change is looked at, and the window and number of windows that must agree.
const LOOK: Duration = Duration::from_millis(10);
const WINDOW: Duration = Duration::from_millis(100);
const WINDOWS: u32 = 5;
/// How close each of them must be.
const CLOSE: f64 = 0.15;
/// When to give up waiting for a change.
const PATIENCE: Duration = Duration::from_secs(8);
/// Bytes per read, where there are thousands of readers.
const SMALL_CHUNK: usize = 16 << 10;

/// A download that runs until it is dropped.
struct Flow {
    account: usize,
    received: Arc<AtomicU64>,
    ended: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Flow {
    /// One of thousands: from a small send buffer, of `pace` bytes a second or as much as it can where that is 0.
    async fn small(options: &'static Options, account: usize, pace: u32) -> io::Result<Flow> {
        let mut stream = proxy::connect_as(options, account).await?;
        let mut command = vec![target::PACED];
        command.extend_from_slice(&pace.to_le_bytes());
        stream.write_all(&command).await?;
        Ok(Self::start(stream, account, SMALL_CHUNK))
    }

    /// One of few.
    async fn large(options: &'static Options, account: usize) -> io::Result<Flow> {
        let mut stream = proxy::connect_as(options, account).await?;
        stream.write_all(&[target::DOWN]).await?;
        Ok(Self::start(stream, account, target::CHUNK))
    }

    fn start(mut stream: TcpStream, account: usize, chunk: usize) -> Flow {
        let (received, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, done) = (received.clone(), ended.clone());
        let task = tokio::spawn(async move {
            let _ = target::drain(&mut stream, &[&counter], chunk).await;
            done.fetch_add(1, Relaxed);
        });
        Flow { account, received, ended, task: task.abort_handle() }
    }

    fn got(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn total(flows: &[Flow]) -> u64 {
    flows.iter().map(Flow::got).sum()
}

fn ended(flows: &[Flow]) -> usize {
    flows.iter().map(|flow| flow.ended.load(Relaxed)).sum()
}

/// Jain's index: 1 where all have the same, 1/n where one has all.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&n| n as f64).sum();
    let squares: f64 = shares.iter().map(|&n| (n as f64).powi(2)).sum();
    if squares == 0.0 { 0.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

pub async fn accounts(options: &'static Options) -> io::Result<()> {
    let errors = Arc::new(AtomicUsize::new(0));
    let slots: Vec<_> = (0..options.accounts * options.streams).collect();
    let flows =
        in_parallel(slots, &errors, |slot| Flow::small(options, slot % options.accounts, options.pace)).await;
    sleep(options.warmup).await;
    let before: Vec<u64> = flows.iter().map(Flow::got).collect();
    Json::event("begin").print();
    let begin = Instant::now();
    sleep(options.secs).await;
    let now: Vec<u64> = flows.iter().map(Flow::got).collect();
    let secs = begin.elapsed().as_secs_f64();
    Json::event("end").print();
    let mut shares = vec![Vec::new(); options.accounts];
    for ((flow, now), before) in flows.iter().zip(&now).zip(&before) {
        shares[flow.account].push(now - before);
    }
    let sums: Vec<u64> = shares.iter().map(|flows| flows.iter().sum()).collect();
    let within: Vec<f64> = shares.iter().map(|flows| jain(flows)).collect();
    let off: Vec<f64> = sums.iter().map(|&sum| sum as f64 / secs / options.limit as f64 - 1.0).collect();
    let held = off.iter().filter(|off| off.abs() <= HELD).count();
    Json::event("result")
        .raw("secs", secs)
        .raw("bytes", sums.iter().sum::<u64>())
        .raw("flows", flows.len())
        .raw("least", off.iter().copied().fold(f64::MAX, f64::min))
        .raw("most", off.iter().copied().fold(f64::MIN, f64::max))
        .raw("held", held as f64 / options.accounts as f64)
        .raw("jain_between", jain(&sums))
        .raw("jain_within", within.iter().copied().fold(f64::MAX, f64::min))
        .raw("jain_within_mean", within.iter().sum::<f64>() / within.len() as f64)
        .raw("errors", errors.load(Relaxed) + ended(&flows))
        .print();
    Ok(())
}

/// An upload of each account at once. Before, each is used once, so that what belongs to it is there.
pub async fn uploads(options: &'static Options) -> io::Result<()> {
    let errors = Arc::new(AtomicUsize::new(0));
    let each = || (0..options.accounts).collect::<Vec<_>>();
    let used = in_parallel(each(), &errors, move |account| async move {
        let mut stream = proxy::connect_as(options, account).await?;
        stream.write_all(&[target::ECHO, 1]).await?;
        stream.read_u8().await
    })
    .await;
    sleep(options.warmup).await;
    phase("ready", used.len(), &errors).await?;
    let ended = Arc::new(AtomicUsize::new(0));
    let (started, done) = (Instant::now(), ended.clone());
    let flows = in_parallel(each(), &errors, move |account| async move {
        let mut stream = proxy::connect_as(options, account).await?;
        SockRef::from(&stream).set_send_buffer_size(SMALL_CHUNK)?;
        let mut command = vec![target::UP];
        command.extend_from_slice(&(account as u32).to_le_bytes());
        stream.write_all(&command).await.map(|()| stream)
    })
    .await;
    let open = flows.len();
    for mut stream in flows {
        let done = done.clone();
        tokio::spawn(async move {
            let _ = target::pour(&mut stream).await;
            done.fetch_add(1, Relaxed);
        });
    }
    let opened = started.elapsed().as_secs_f64();
    sleep(options.secs).await;
    let shares = target::shares(options.target, options.accounts).await?;
    phase("loaded", open, &errors).await?;
    Json::event("result")
        .raw("open_secs", opened)
        .raw("bytes", shares.iter().sum::<u64>())
        .raw("secs", started.elapsed().as_secs_f64())
        .raw("least_bytes", shares.iter().min().unwrap_or(&0))
        .raw("lost", ended.load(Relaxed) + options.accounts - open)
        .raw("errors", errors.load(Relaxed))
        .print();
    Ok(())
}

pub async fn cap(options: &'static Options) -> io::Result<()> {
    let cap = options.limit as f64;
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..options.streams {
        many.push(Flow::large(options, 0).await?);
    }
    one.push(Flow::large(options, 1).await?);
    sleep(options.warmup).await;
    let before = (total(&many), total(&one));
    Json::event("begin").print();
    let begin = Instant::now();
    sleep(options.secs).await;
    let (many_got, one_got) = (total(&many) - before.0, total(&one) - before.1);
    let secs = begin.elapsed().as_secs_f64();
    Json::event("end").print();
    let mut errors = ended(&many) + ended(&one);
    // The many leave, and the one takes it all; then the many come again, and the one leaves.
    many.clear();
    let one_takes = until_rate(&one, cap, Instant::now()).await;
    for _ in 0..options.streams {
        many.push(Flow::large(options, 0).await?);
    }
    sleep(options.warmup).await;
    errors += ended(&one);
    one.clear();
    let many_take = until_rate(&many, cap, Instant::now()).await;
    errors += ended(&many);
    Json::event("result")
        .raw("secs", secs)
        .raw("bytes", many_got + one_got)
        .raw("shares", format!("[{many_got}, {one_got}]"))
        .raw("one_takes", json(one_takes))
        .raw("many_take", json(many_take))
        .raw("errors", errors)
        .print();
    Ok(())
}

pub async fn live(options: &'static Options) -> io::Result<()> {
    let mut flows = Vec::new();
    for _ in 0..options.streams {
        let mut stream = proxy::connect(options).await?;
        stream.write_all(&[target::DOWN]).await?;
        flows.push(Flow::start(stream, 0, target::CHUNK));
    }
    sleep(options.warmup).await;
    let mut times = Vec::new();
    for &rate in &options.rates {
        Json::event("change").raw("rate", rate).print();
        go_on().await?;
        times.push(json(until_rate(&flows, rate as f64, Instant::now()).await));
    }
    Json::event("result")
        .raw("times", format!("[{}]", times.join(", ")))
        .raw("errors", ended(&flows))
        .print();
    Ok(())
}

/// How long from `start` until the flows run at that rate, and go on so for `WINDOWS` windows.
async fn until_rate(flows: &[Flow], rate: f64, start: Instant) -> Option<Duration> {
    let mut seen: Vec<(Instant, u64)> = Vec::new();
    let per_window = (WINDOW.as_nanos() / LOOK.as_nanos()) as usize;
    let need = per_window * WINDOWS as usize;
    let mut next = Instant::now();
    while start.elapsed() < PATIENCE {
        seen.push((Instant::now(), total(flows)));
        if let Some(first) = seen.len().checked_sub(need + 1) {
            let marks: Vec<_> = seen[first..].iter().step_by(per_window).collect();
            let agrees = marks.windows(2).all(|pair| {
                let secs = (pair[1].0 - pair[0].0).as_secs_f64();
                ((pair[1].1 - pair[0].1) as f64 / secs / rate - 1.0).abs() <= CLOSE
            });
            if agrees {
                return Some(seen[first].0 - start);
            }
        }
        next += LOOK;
        sleep_until(next).await;
    }
    None
}

fn json(time: Option<Duration>) -> String {
    time.map_or("null".into(), |time| format!("{:.3}", time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_says_who_has_how_much() {
        assert_eq!(jain(&[5, 5, 5, 5]), 1.0);
        assert_eq!(jain(&[8, 0, 0, 0]), 0.25);
        assert_eq!(jain(&[0, 0]), 0.0);
    }
}
