//! A GUI's login.

use std::sync::Mutex;

use serde_json::json;
use swiftproxy_core::BoxFuture;
use swiftproxy_core::tunnel::{Login, Tunnel, TunnelError, TunnelState, TunnelStatus};

use super::*;

const SECRET: &str = "Authorization: Bearer s3cret";

/// A tunnel that answers what it was told to, and remembers who logged in.
struct Stub {
    error: Option<&'static str>,
    hangs: bool,
    seen: Mutex<Option<Login>>,
}

impl Tunnel for Stub {
    fn status(&self) -> TunnelStatus {
        let seen = self.seen.lock().unwrap();
        let state = if seen.is_some() { TunnelState::Connected } else { TunnelState::Disconnected };
        let username = seen.as_ref().map(|login| login.username.clone());
        TunnelStatus { state, username, ..TunnelStatus::disconnected() }
    }

    fn connect(&self, login: Login) -> BoxFuture<Result<TunnelStatus, TunnelError>> {
        if self.hangs {
            return Box::pin(pending());
        }
        let answer = match self.error {
            Some(label) => Err(TunnelError::new(label, format!("because of {label}"))),
            None => {
                *self.seen.lock().unwrap() = Some(login);
                Ok(self.status())
            }
        };
        Box::pin(async move { answer })
    }

    fn disconnect(&self) -> BoxFuture<()> {
        *self.seen.lock().unwrap() = None;
        Box::pin(async {})
    }
}

fn with_tunnel(error: Option<&'static str>, hangs: bool, bounds: Bounds) -> (Running, Arc<Stub>) {
    let running = start_with(&table(Some("s3cret")), bounds);
    let stub = Arc::new(Stub { error, hangs, seen: Mutex::new(None) });
    running.node.set_tunnels(vec![("tunnel".into(), stub.clone())]);
    (running, stub)
}

const BODY: &str = r#"{"server":"a.example:443","username":"alice","password":"hunter2"}"#;

#[tokio::test]
async fn in_and_out() {
    let (running, stub) = with_tunnel(None, false, quick());
    let status = ask(running.addr, "GET /v1/tunnel", &[SECRET], "").await.json();
    assert_eq!(status["state"], "disconnected");
    let answer = ask(running.addr, "POST /v1/tunnel/connect", &[SECRET], BODY).await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("connected")), "{answer:?}");
    assert!(!answer.body.contains("hunter2"));
    {
        let seen = stub.seen.lock().unwrap();
        let login = seen.as_ref().unwrap();
        assert_eq!((login.server.as_str(), login.username.as_str()), ("a.example:443", "alice"));
        assert_eq!((login.password.expose(), login.tls, login.insecure), ("hunter2", true, false));
        assert_eq!(login.pin, None);
    }
    let stats = ask(running.addr, "GET /v1/stats", &[SECRET], "").await.json();
    assert_eq!((&stats["role"], &stats["tunnel"]["username"]), (&json!("local"), &json!("alice")));
    let answer = ask(running.addr, "POST /v1/tunnel/disconnect", &[SECRET], "").await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("disconnected")));
    let full =
        r#"{"server":"a","username":"b","password":"c","pin":"sha256//x","tls":false,"insecure":true}"#;
    assert_eq!(ask(running.addr, "POST /v1/tunnel/connect", &[SECRET], full).await.status, 200);
    let seen = stub.seen.lock().unwrap().clone().unwrap();
    assert_eq!((seen.pin.as_deref(), seen.tls, seen.insecure), (Some("sha256//x"), false, true));
}

#[tokio::test]
async fn every_reason_has_its_status() {
    for (label, status) in [
        ("auth_failed", 401),
        ("account_disabled", 403),
        ("account_expired", 403),
        ("quota_exceeded", 403),
        ("unreachable", 502),
        ("certificate", 502),
        ("protocol", 502),
        ("timeout", 504),
        ("bad_request", 400),
    ] {
        let (running, _) = with_tunnel(Some(label), false, quick());
        let answer = ask(running.addr, "POST /v1/tunnel/connect", &[SECRET], BODY).await;
        assert_eq!(answer.status, status, "{label}");
        assert_eq!(answer.json(), json!({ "error": label, "message": format!("because of {label}") }));
    }
}

#[tokio::test]
async fn bodies_that_are_no_login() {
    let (running, stub) = with_tunnel(None, false, quick());
    let long = format!(r#"{{"server":"{}"}}"#, "x".repeat(70_000));
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        (r#"{"server":"a","username":"b"}"#, 400),
        (r#"{"server":"","username":"b","password":"c"}"#, 400),
        (r#"{"server":"a","username":" ","password":"c"}"#, 400),
        (r#"{"server":"a","username":"b","password":"c","pim":"d"}"#, 400),
        (r#"{"server":1,"username":"b","password":"c"}"#, 400),
        (&long, 413),
    ] {
        let answer = ask(running.addr, "POST /v1/tunnel/connect", &[SECRET], body).await;
        assert_eq!(answer.status, status, "{body:.60}: {answer:?}");
        assert!(!answer.label().is_empty());
    }
    assert!(stub.seen.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_remote_or_a_client_that_stalls() {
    let short = Duration::from_millis(50);
    let (running, _) = with_tunnel(None, true, Bounds { connect: short, body: short, ..quick() });
    let answer = ask(running.addr, "POST /v1/tunnel/connect", &[SECRET], BODY).await;
    assert_eq!((answer.status, answer.label().as_str()), (504, "timeout"));
    let head = format!(
        "POST /v1/tunnel/connect HTTP/1.1\r\nHost: localhost\r\n{SECRET}\r\nContent-Length: 9\r\n\r\n{{"
    );
    let answer = raw(running.addr, &head).await;
    assert_eq!((answer.status, answer.label().as_str()), (408, "timeout"));
}
