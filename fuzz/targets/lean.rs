//! The lean engine over loopback, in clear: what a peer may say to a server of ours and to a client of ours, as frames
//! whose lengths are right or as bytes. Whatever it says, all ends when it has ended, and little is said in answer.
#![no_main]

use std::time::Duration;

use http::{Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use swiftproxy_fuzz::frames::{echo, frames};
use swiftproxy_fuzz::loopback::{Loopback, quiet, talk};
use swiftproxy_wire::lean::{self, Watch};
use swiftproxy_wire::record::Channel;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

const WATCH: Watch = Watch { quiet: seconds(15), busy: seconds(3), doubt: seconds(3), patience: seconds(10) };

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Settings that offer and take the engine.
const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\xf5\xe1\0\0\0\x01";

async fn serve(stream: TcpStream) {
    let mut channel = Channel::clear(stream, Vec::new());
    if !lean::knows(&mut channel).await.unwrap_or(false) {
        return;
    }
    let (mut server, driver) = lean::serve(channel, WATCH, &lean::Budget::default());
    let driver = tokio::spawn(driver);
    while let Some((request, responder)) = server.accept().await {
        let connect = request.method() == Method::CONNECT;
        if let Ok(end) = responder.respond(&Response::new(()), !connect) {
            tokio::spawn(echo(end));
        }
    }
    driver.await.expect("no panic");
}

async fn ask(stream: TcpStream) {
    let Ok((client, driver)) = lean::connect(Channel::clear(stream, Vec::new()), WATCH, true).await else {
        return;
    };
    let driver = tokio::spawn(driver);
    let request = Request::connect("example.com:443").body(()).expect("a request");
    for _ in 0..3 {
        if client.ready().await.is_err() {
            break;
        }
        let Ok(opening) = client.open(&request, false) else { break };
        tokio::spawn(async move {
            let (_, end) = opening.await?;
            echo(end).await
        });
    }
    drop(client);
    driver.await.expect("no panic");
}

thread_local! {
    static WORLD: (Runtime, Loopback) = {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let loopback = Loopback::new(&runtime);
        (runtime, loopback)
    };
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, piece, rest @ ..] = bytes else { return };
    let (server, raw, offered) = (mode & 1 == 0, mode & 2 != 0, mode & 4 == 0);
    let mut says = if server { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { Vec::new() };
    if offered {
        says.extend_from_slice(SETTINGS);
    }
    match raw {
        true => says.extend_from_slice(rest),
        false => says.extend_from_slice(&frames(rest)),
    }
    let piece = usize::from(*piece).max(1);
    WORLD.with(|(runtime, loopback)| {
        runtime.block_on(async {
            let (near, far, _) = loopback.pair().await;
            let ours = async {
                match server {
                    true => serve(far).await,
                    false => ask(far).await,
                }
            };
            let both = async { tokio::join!(ours, talk(near, &says, piece)).1 };
            let told = tokio::time::timeout(Duration::from_secs(5), both).await;
            quiet().await;
            let told = told.expect("it ends when the peer has").len();
            assert!(told <= 4096 + 16 * says.len(), "{told} bytes said in answer to {}", says.len());
        });
    });
});
