//! A thousand users who return at once after a restart, while somebody guesses.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::support::proxy::PASSWORD;
use crate::support::{Origin, Pair, Proxy};

const USERS: u32 = 1000;
const GUESSERS: usize = 100;

/// A connection from an address of this machine.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// Logs in by SOCKS5 (RFC 1929); whether that was right.
async fn log_in(stream: &mut TcpStream, name: &str, password: &str) -> std::io::Result<bool> {
    let lengths = [name, password].map(|text| u8::try_from(text.len()).unwrap());
    let login = [&[5, 1, 2, 1, lengths[0]], name.as_bytes(), &[lengths[1]], password.as_bytes()].concat();
    stream.write_all(&login).await?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await?;
    Ok(reply == [5, 2, 1, 0])
}

/// One user's return: logs in, by SOCKS5 or HTTP, and reaches a target. How long that took.
async fn come_back(n: u32, proxy: SocketAddr, target: SocketAddr) -> Duration {
    let start = Instant::now();
    let from = Ipv4Addr::from(Ipv4Addr::new(127, 1, 0, 0).to_bits() + n);
    let mut stream = connect(from, proxy).await.unwrap();
    if n.is_multiple_of(2) {
        assert!(log_in(&mut stream, &format!("u{n}"), PASSWORD).await.unwrap(), "u{n} is refused");
        let SocketAddr::V4(target) = target else { panic!("an IPv4 target") };
        let request = [&[5, 1, 0, 1][..], &target.ip().octets(), &target.port().to_be_bytes()].concat();
        stream.write_all(&request).await.unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply[..2], [5, 0]);
    } else {
        let login = base64(format!("u{n}:{PASSWORD}").as_bytes());
        let head = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200", "u{n}");
    }
    start.elapsed()
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = (number >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= three.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    text
}

#[test]
#[ignore = "slow: a thousand password hashes"]
fn a_thousand_users_are_in_within_seconds_of_a_restart_while_somebody_guesses() {
    // Each user is two descriptors here, and two in the node, which inherits the limit.
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, "--nofile=16384:"]).status().unwrap();
    assert!(raised.success(), "raise the limit of open files");
    let origin = Origin::start();
    let pair = Pair::start(&["alice"], super::PLAIN);
    // The same password, and so the same hash, which is verified for each name on its own all the same.
    super::super::faults::sql(
        &pair.database(),
        &format!(
            "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {}) \
             INSERT INTO users (name, password_hash) SELECT 'u' || n, password_hash FROM n, users WHERE name = 'alice'",
            USERS - 1
        ),
    );
    let Pair { remote, local, .. } = pair;
    local.kill();
    let (folder, file) = (remote.folder.clone(), remote.file().to_owned());
    remote.kill();
    let remote = Proxy::run(&folder, file, &[]);
    let (proxy, target) = (remote.addr("plain"), origin.addr);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // What a hash costs here and now, with whatever else this machine does.
        let alone = {
            let mut times = Vec::new();
            for n in 0..5 {
                let start = Instant::now();
                let mut stream = connect(Ipv4Addr::LOCALHOST, proxy).await.unwrap();
                log_in(&mut stream, &format!("nobody{n}"), "wrong").await.unwrap();
                times.push(start.elapsed());
            }
            // The first failures are answered at once.
            *times.iter().min().unwrap()
        };
        let (over, guesses) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let guessers: Vec<_> = (0..GUESSERS)
            .map(|at| {
                let (over, guesses) = (over.clone(), guesses.clone());
                tokio::spawn(async move {
                    while !over.load(Relaxed) {
                        let guess = guesses.fetch_add(1, Relaxed);
                        let from = Ipv4Addr::new(127, 66, 66, 66);
                        let Ok(mut stream) = connect(from, proxy).await else { continue };
                        let name = format!("u{}", (guess * 7 + at) % USERS as usize);
                        // Leaves before the answer, and guesses on.
                        let patience = Duration::from_millis(200);
                        let password = format!("guess {guess}");
                        let answer = timeout(patience, log_in(&mut stream, &name, &password));
                        assert!(!matches!(answer.await, Ok(Ok(true))));
                    }
                })
            })
            .collect();
        while guesses.load(Relaxed) < 2 * GUESSERS {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        let users: Vec<_> = (0..USERS).map(|n| tokio::spawn(come_back(n, proxy, target))).collect();
        for user in users {
            user.await.unwrap();
        }
        let took = start.elapsed();
        over.store(true, Relaxed);
        for guesser in guessers {
            guesser.await.unwrap();
        }
        let cores = std::thread::available_parallelism().unwrap().get() as u32;
        let bound = 3 * alone * USERS / cores + Duration::from_secs(5);
        let tried = guesses.load(Relaxed);
        eprintln!("a hash {alone:?}; all in after {took:?}, bound {bound:?}, {tried} guesses meanwhile");
        assert!(took < bound, "{took:?}, and a hash is {alone:?}");
    });
    let refusals = remote.stats()["refusals"].clone();
    assert!(refusals["handshake_timeout"].as_u64().unwrap_or(0) == 0, "{refusals}");
}
