//! The client that everybody has.

use std::process::{Command, Stdio};

use super::*;

/// Runs curl, if there is one, through the proxy.
async fn curl(proxy: &Proxy, args: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "--noproxy", "", "-x", &format!("http://{}", proxy.addr)]);
    command.args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").ok()?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// An origin that says the request's head and body back.
async fn echo() -> SocketAddr {
    let origin = Origin::new().await;
    let addr = origin.addr;
    tokio::spawn(async move {
        while let Ok((stream, _)) = origin.socket.accept().await {
            tokio::spawn(async move {
                let mut peer = Peer(stream);
                let head = peer.head().await;
                if head.contains("100-continue") {
                    peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
                }
                let length = field(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
                let body = peer.body(length).await;
                let text = format!("{head}{body}");
                peer.say(&format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                ))
                .await;
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_in_its_modes() {
    let (proxy, origin) = (Proxy::with_passwords().await, format!("http://{}/x", echo().await));
    let user = ["-U", "alice:open sesame"];
    let Some(answer) = curl(&proxy, &[&user[..], &[&origin]].concat()).await else { return };
    assert!(answer.starts_with("get /x http/1.1\r\n") && !answer.contains("proxy-"), "{answer}");
    let answer = curl(&proxy, &[&user[..], &["-p", &origin]].concat()).await.expect("curl");
    assert!(answer.starts_with("get /x http/1.1\r\n"), "through CONNECT: {answer}");
    let answer = curl(&proxy, &[&user[..], &["--proxy-anyauth", "-d", "hello", &origin]].concat()).await;
    assert!(answer.is_some_and(|answer| answer.ends_with("hello")), "asked, challenged, asked again");
    let big = "x".repeat(100_000);
    let answer =
        curl(&proxy, &[&user[..], &["-H", "Expect: 100-continue", "-d", &big, &origin]].concat()).await;
    assert!(answer.is_some_and(|answer| answer.ends_with(&big)), "a body that was held back");
    let answer = curl(&proxy, &["-o", "/dev/null", "-w", "%{http_code}", "-U", "alice:wrong", &origin]).await;
    assert_eq!(answer.as_deref(), Some("407"));
}
