use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use proptest::prelude::*;
use swiftproxy_core::error::Refusal;
use swiftproxy_wire::socks5::ReplyCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::testing::{Passwords, Proxy, Seen, until};

const GREETING: &[u8] = &[5, 1, 0];
const LOGIN_GREETING: &[u8] = &[5, 2, 0, 2];

fn login(name: &[u8], password: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, u8::try_from(name.len()).unwrap()];
    bytes.extend_from_slice(name);
    bytes.push(u8::try_from(password.len()).unwrap());
    bytes.extend_from_slice(password);
    bytes
}

fn request(command: u8, host: &str) -> Vec<u8> {
    let mut bytes = vec![5, command, 0, 3, u8::try_from(host.len()).unwrap()];
    bytes.extend_from_slice(host.as_bytes());
    bytes.extend_from_slice(&[1, 187]);
    bytes
}

/// The reply to success: the stub's bound address, 192.0.2.77:4711.
const OPENED: &[u8] = &[5, 0, 0, 1, 192, 0, 2, 77, 0x12, 0x67];

fn refused(code: ReplyCode) -> [u8; 10] {
    [5, code.0, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[tokio::test]
async fn split_at_every_byte_and_all_in_one_segment() {
    let proxy = Proxy::start("{}", None).await;
    let all = [GREETING, &request(1, "example.org"), b"early data"].concat();
    let expected = [&[5, 0], OPENED, b"hello early data"].concat();
    for step in [1, 2, 3, 7, all.len()] {
        assert_eq!(proxy.talk(&all, step, true).await, expected, "{step} at a time");
    }
    for at in 0..all.len() {
        let (first, second) = all.split_at(at);
        let mut stream = proxy.connect().await;
        stream.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, expected, "split at {at}");
    }
    let seen = proxy.seen();
    let one = Seen { protocol: "socks5", target: "example.org:443".into(), account: None, credentials: None };
    assert!(seen.iter().all(|seen| *seen == one));
}

#[tokio::test]
async fn a_server_may_speak_first_and_the_client_end_last() {
    let proxy = Proxy::start("{}", None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(GREETING).await.unwrap();
    let mut two = [0; 2];
    stream.read_exact(&mut two).await.unwrap();
    stream.write_all(&[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]).await.unwrap();
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[..], [OPENED, b"hello "].concat());
    assert_eq!(proxy.seen()[0].target, "[::1]:0");
    assert_eq!(proxy.node.sessions.count(), 1);
    drop(stream);
    until(|| proxy.node.sessions.count() == 0 && proxy.served.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn every_refusal_in_its_code() {
    let proxy = Proxy::start("{}", None).await;
    for refusal in Refusal::all() {
        let host = format!("{}.refused", refusal.label());
        // The client has sent more than is read: that must not end in a reset, which can overtake the refusal.
        let all = [GREETING, &request(1, &host), &[7; 100_000]].concat();
        let mut stream = proxy.connect().await;
        stream.write_all(&all).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [&[5, 0][..], &refused(refusal.into())].concat(), "{refusal:?}");
    }
}

#[tokio::test]
async fn what_is_not_served_has_its_code() {
    let proxy = Proxy::start("{}", None).await;
    let cases: [(&[u8], ReplyCode); 6] = [
        (&request(2, "a"), ReplyCode::UNSUPPORTED_COMMAND),
        (&request(3, "a"), ReplyCode::UNSUPPORTED_COMMAND),
        (&request(9, "a"), ReplyCode::UNSUPPORTED_COMMAND),
        (&[5, 1, 0, 2, 0, 0, 0, 0, 0, 80], ReplyCode::UNSUPPORTED_ADDRESS),
        (&[5, 1, 0, 3, 0, 0, 80], ReplyCode::FAILURE),
        (&[4, 1, 0, 1], ReplyCode::FAILURE),
    ];
    for (sent, code) in cases {
        let all = [GREETING, sent].concat();
        let got = proxy.talk(&all, 1, false).await;
        assert_eq!(got, [&[5, 0][..], &refused(code)].concat(), "{sent:?}");
    }
    assert_eq!(proxy.refusals(Refusal::UnsupportedCommand), 3);
    assert_eq!(proxy.refusals(Refusal::UnsupportedAddress), 1);
    assert_eq!(proxy.refusals(Refusal::Malformed), 2);
    assert!(proxy.seen().is_empty());
}

#[tokio::test]
async fn methods_in_any_order() {
    let open = Proxy::start("{}", None).await;
    let closed = Proxy::start("{}", Some(Passwords::default())).await;
    // Offered, picked by an open listener, picked by one that asks for a password.
    let cases: [(&[u8], u8, u8); 7] = [
        (&[0], 0, 0xFF),
        (&[2], 2, 2),
        (&[0, 2], 0, 2),
        (&[2, 0], 0, 2),
        (&[1, 0x80, 2, 9, 0], 0, 2),
        (&[1, 3], 0xFF, 0xFF),
        (&[], 0xFF, 0xFF),
    ];
    for (offer, by_open, by_closed) in cases {
        let greeting = [&[5, u8::try_from(offer.len()).unwrap()], offer].concat();
        assert_eq!(open.talk(&greeting, 1, true).await, [5, by_open], "{offer:?}");
        assert_eq!(closed.talk(&greeting, 1, true).await, [5, by_closed], "{offer:?}");
    }
    assert_eq!(closed.refusals(Refusal::AuthRequired), 3);
    assert_eq!(open.refusals(Refusal::Malformed), 2);
}

#[tokio::test]
async fn the_right_password_and_others() {
    let proxy = Proxy::start("{}", Some(Passwords::default())).await;
    let talk = async |name: &[u8], password: &[u8], step| {
        let all = [LOGIN_GREETING, &login(name, password), &request(1, "a.example")].concat();
        proxy.talk(&all, step, true).await
    };
    // The first is verified, the second known.
    for step in [1, 1000] {
        let got = talk(b"alice", b"open sesame", step).await;
        assert_eq!(got, [&[5, 2, 1, 0], OPENED, b"hello "].concat());
    }
    for seen in proxy.seen() {
        assert_eq!((seen.account.as_deref(), seen.credentials), (Some("alice"), None));
    }
    let wrong: [(&[u8], &[u8]); 6] = [
        (b"alice", b"open sesam"),
        (b"Alice", b"open sesame"),
        (b"", b""),
        (&[b'x'; 255], &[0; 255]),
        (b"zo\xeb", b"x"),
        (b"alice\r\n", b":"),
    ];
    for (name, password) in wrong {
        assert_eq!(talk(name, password, 1000).await, [5, 2, 1, 1], "{name:?}");
    }
    assert_eq!(proxy.refusals(Refusal::AuthFailed), 6);
    assert_eq!(
        talk(b"dora", b"shut", 1000).await,
        [&[5, 2, 1, 0][..], &refused(ReplyCode::NOT_ALLOWED)].concat()
    );
    assert_eq!(proxy.refusals(Refusal::AccountDisabled), 1);
    assert_eq!(proxy.talk(&[5, 1, 2, 5, 1], 10, false).await, [5, 2, 1, 1], "another version of the login");
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test]
async fn who_insists_on_a_login_gets_one() {
    let proxy = Proxy::start("{}", None).await;
    let all = [&[5, 1, 2], &login(b"any", b"\xff")[..], &request(1, "a")].concat();
    assert_eq!(proxy.talk(&all, 1, true).await, [&[5, 2, 1, 0], OPENED, b"hello "].concat());
}

#[tokio::test]
async fn a_reset_ends_the_dial_and_an_end_does_not() {
    let proxy = Proxy::start("{}", None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(&[GREETING, &request(1, "hang")].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    until(|| proxy.seen().len() == 1).await;
    assert_eq!(proxy.given_up.load(SeqCst), 0);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    until(|| proxy.given_up.load(SeqCst) == 1 && proxy.served.load(SeqCst) == 1).await;
    assert_eq!(proxy.node.sessions.count(), 0);
}

#[tokio::test]
async fn a_kick_ends_the_dial() {
    let proxy = Proxy::start("{}", None).await;
    let mut stream = proxy.connect().await;
    stream.write_all(&[GREETING, &request(1, "hang")].concat()).await.unwrap();
    until(|| proxy.seen().len() == 1).await;
    proxy.node.sessions.each(|live| live.cancel.fire(swiftproxy_core::cancel::Reason::Kicked));
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [&[5, 0][..], &refused(ReplyCode::NOT_ALLOWED)].concat());
}

#[tokio::test(start_paused = true)]
async fn dribbling_ends_at_the_deadline() {
    let proxy = Proxy::start(r#"{"handshake_timeout": "3s"}"#, None).await;
    let mut stream = proxy.connect().await;
    let start = tokio::time::Instant::now();
    for byte in [GREETING, &request(1, "example.org")].concat() {
        tokio::time::sleep(Duration::from_millis(400)).await;
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert_eq!(got, [5, 0], "for a client that is too slow there is no reply");
    until(|| proxy.refusals(Refusal::HandshakeTimeout) == 1 && proxy.served.load(SeqCst) == 1).await;
    assert!(start.elapsed() < Duration::from_secs(12));
    assert!(proxy.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_time_we_take_is_not_the_clients() {
    let passwords = Passwords::slow(Duration::from_secs(30));
    let proxy = Proxy::start("{}", Some(passwords)).await;
    let mut stream = proxy.connect().await;
    stream.write_all(&[LOGIN_GREETING, &login(b"alice", b"open sesame")].concat()).await.unwrap();
    let mut said = [0; 4];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, [5, 2, 1, 0]);
    stream.write_all(&request(1, "a")).await.unwrap();
    let mut opened = [0; 16];
    stream.read_exact(&mut opened).await.unwrap();
    assert_eq!(opened[..], [OPENED, b"hello "].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_hurt(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), login: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let proxy = Proxy::start("{}", login.then(Passwords::default)).await;
            bytes.splice(0..0, [5]);
            proxy.talk(&bytes, bytes.len(), true).await;
            until(|| proxy.served.load(SeqCst) == 1 && proxy.node.sessions.count() == 0).await;
        });
    }
}
