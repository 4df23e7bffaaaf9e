//! What happened: counters to the byte, the stats socket, and its doors.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;

use tokio_tungstenite::tungstenite::{self, Message};

use crate::support::proxy::{get_json, request};
use crate::support::traffic::{Bulk, Flow, socks5};
use crate::support::{Pair, curl, until};

#[test]
fn counted_to_the_byte_on_both_nodes() {
    let pair = Pair::start(&["alice"], "");
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = socks5(pair.addr(), target.local_addr().unwrap());
    let (mut server, _) = target.accept().unwrap();
    client.write_all(&[1; 1_234_567]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).unwrap();
    // Beside the reading: what the sockets on the way hold is not for us to know.
    let sends = std::thread::spawn(move || server.write_all(&[2; 7_654_321]).unwrap());
    heard.clear();
    client.read_to_end(&mut heard).unwrap();
    sends.join().unwrap();
    assert_eq!(heard.len(), 7_654_321);
    for node in [&pair.remote, &pair.local] {
        let total = until("the session has ended", || {
            let stats = node.stats();
            (stats["sessions"]["open"] == 0).then(|| stats["total"].clone())
        });
        assert_eq!(total, serde_json::json!({ "up": 1_234_567, "down": 7_654_321 }));
    }
    let alice = &pair.remote.stats()["accounts"][0];
    assert_eq!(
        (&alice["name"], &alice["up"], &alice["down"]),
        (&"alice".into(), &1_234_567.into(), &7_654_321.into())
    );
}

#[test]
fn counters_and_rates_move_while_a_transfer_runs() {
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let flow = Flow::down(pair.addr(), bulk.source);
    until("the rate is shown", || {
        let stats = pair.remote.stats();
        let rate = stats["accounts"][0]["rate_down"].as_f64().unwrap();
        let local = pair.local.stats()["rate"]["down"].as_f64().unwrap();
        ((0.9e6..1.1e6).contains(&rate) && (0.9e6..1.1e6).contains(&local)).then_some(())
    });
    let counted = pair.remote.stats()["total"]["down"].as_u64().unwrap();
    assert!(counted >= flow.received.load(Relaxed).saturating_sub(1_000_000));
}

/// curl alone is enough to read it.
#[test]
fn curl_reads_one_and_a_stream() {
    let pair = Pair::start(&["alice", "bob"], "");
    let url = format!("http://{}/v1/stats", pair.local.api());
    let one: serde_json::Value = serde_json::from_slice(&curl(&[&url]).ok()).unwrap();
    assert_eq!(one["role"], "local");
    assert_eq!(one["pid"], pair.local.pid());
    assert_eq!(one["tunnel"]["username"], "alice");
    let stream = curl(&["-N", "--max-time", "3", &format!("{url}?stream=1")]);
    let lines = String::from_utf8(stream.body).unwrap();
    let parsed: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((2..=4).contains(&parsed.len()), "{lines}");
    let only = get_json(pair.remote.api(), "/v1/stats?account=bob");
    assert_eq!(only["accounts"].as_array().unwrap().len(), 1);
}

/// The first version's window: a secret as the first message, then two numbers each second.
#[test]
fn the_first_window_reads_its_two_numbers() {
    let bulk = Bulk::start();
    let pair = Pair::start(&["alice --down 8Mbit/s"], "");
    let open = |secret: &'static str| {
        let stream = std::net::TcpStream::connect(pair.local.api()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{}/", pair.local.api()), stream).unwrap();
        socket.send(Message::text(secret)).unwrap();
        socket
    };
    let answer = open("guess").read();
    assert!(matches!(answer, Ok(Message::Close(_))), "{answer:?}");
    // Reading needs none here, and then the word will do; so does the node's own.
    let _flow = Flow::down(pair.addr(), bulk.source);
    open("s3cret").read().unwrap().into_text().unwrap().split_once(' ').expect("two numbers");
    let mut window = open("secret");
    until("the rate is shown", || {
        let Message::Text(text) = window.read().unwrap() else { panic!("a text") };
        let (up, down) = text.split_once(' ').expect("two numbers");
        assert_eq!(up.parse::<u64>(), Ok(0));
        // Seconds of a busy machine are not all of one length.
        (500_000..1_500_000).contains(&down.parse::<u64>().unwrap()).then_some(())
    });
}

#[test]
fn changes_need_the_secret_and_foreign_pages_get_nothing() {
    let pair = Pair::start(&["alice"], "");
    let api = pair.local.api();
    let post = |headers: &[(&str, &str)]| request(api, "POST", "/v1/tunnel/disconnect", headers, "").0;
    assert!([401, 403].contains(&post(&[])));
    assert!([401, 403].contains(&post(&[("Authorization", "Bearer wrong")])));
    let get = |headers: &[(&str, &str)]| request(api, "GET", "/v1/stats", headers, "").0;
    assert!([401, 403, 421].contains(&get(&[("Origin", "https://evil.example")])));
    let evil = curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        "Host: evil.example",
        &format!("http://{api}/v1/stats"),
    ]);
    assert!(["400", "403", "421"].contains(&String::from_utf8(evil.ok()).unwrap().as_str()));
}
