//! Who may ask what.

use super::*;

const UPGRADE: [&str; 4] = [
    "Connection: upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[tokio::test]
async fn with_a_secret() {
    let running = start(Some("s3cret"));
    let right = "Authorization: Bearer s3cret";
    for (line, header, status, label) in [
        ("GET /v1/stats", right, 200, ""),
        ("HEAD /v1/stats", right, 200, ""),
        ("GET /v1/stats", "authorization: bearer  s3cret ", 200, ""),
        ("GET /v1/stats", "X: y", 401, "secret_required"),
        ("GET /v1/stats?token=s3cret", "X: y", 401, "secret_required"),
        ("GET /v1/stats", "Authorization: Bearer s3cre", 401, "secret_wrong"),
        ("GET /v1/stats", "Authorization: Bearer ", 401, "secret_wrong"),
        ("GET /v1/stats", "Authorization: Basic czNjcmV0", 401, "secret_wrong"),
        ("GET /v1/stats", "Authorization: s3cret", 401, "secret_wrong"),
        ("GET /v1/sessions", "X: y", 401, "secret_required"),
        ("GET /v1/nothing", right, 404, "not_found"),
        ("GET /v1/nothing", "X: y", 401, "secret_required"),
        ("GET /", right, 426, "upgrade_required"),
        ("DELETE /v1/sessions/7", "X: y", 401, "secret_required"),
        ("DELETE /v1/sessions/7", "Authorization: Bearer wrong", 401, "secret_wrong"),
        ("DELETE /v1/sessions/7", right, 404, "not_found"),
        ("POST /v1/users/bob/kick", right, 404, "not_found"),
        ("POST /v1/tunnel/disconnect", "X: y", 401, "secret_required"),
        ("POST /v1/tunnel/disconnect", right, 404, "no_tunnel"),
        ("GET /v1/tunnel", right, 404, "no_tunnel"),
        ("POST /v1/stats", right, 405, "method_not_allowed"),
        ("GET /v1/tunnel/connect", right, 405, "method_not_allowed"),
        ("PUT /v1/stats", right, 405, "method_not_allowed"),
        ("CONNECT 127.0.0.1:80", right, 405, "method_not_allowed"),
    ] {
        let answer = ask(running.addr, line, &[header], "").await;
        assert_eq!(answer.status, status, "{line} {header}: {answer:?}");
        if !label.is_empty() {
            assert_eq!(answer.label(), label, "{line} {header}");
            assert!(!answer.json()["message"].as_str().unwrap().is_empty());
        }
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn without_a_secret_everybody_reads_and_nobody_changes() {
    let running = start(None);
    for (line, status, label) in [
        ("GET /v1/stats", 200, ""),
        ("GET /v1/config", 200, ""),
        ("GET /v1/sessions", 200, ""),
        ("GET /v1/nothing", 404, "not_found"),
        ("DELETE /v1/sessions/7", 403, "no_secret"),
        ("POST /v1/users/bob/kick", 403, "no_secret"),
        ("POST /v1/tunnel/connect", 403, "no_secret"),
        ("POST /v1/tunnel/disconnect", 403, "no_secret"),
        ("POST /v1/nothing", 403, "no_secret"),
        ("OPTIONS /v1/stats", 405, "method_not_allowed"),
    ] {
        for header in ["X: y", "Authorization: Bearer ", "Authorization: Bearer secret"] {
            let answer = ask(running.addr, line, &[header], "").await;
            assert_eq!(answer.status, status, "{line}: {answer:?}");
            if !label.is_empty() {
                assert_eq!(answer.label(), label, "{line}");
            }
            if label == "no_secret" {
                assert!(answer.json()["message"].as_str().unwrap().contains("`secret` under [api]"));
            }
        }
    }
}

#[tokio::test]
async fn a_token_in_the_query_opens_websockets_only() {
    let running = start(Some("s3+%cret/"));
    for (path, header, outcome) in [
        ("/v1/stats?token=s3%2B%25cret%2F", None, Ok(())),
        ("/v1/stats?account=a&token=s3%2B%25cret%2F", None, Ok(())),
        ("/v1/stats", Some("Bearer s3+%cret/"), Ok(())),
        ("/v1/stats", None, Err(401)),
        ("/v1/stats?token=wrong", None, Err(401)),
        ("/v1/stats?token=", None, Err(401)),
        ("/v1/stats?token=s3%2B%25cret%2F", Some("Bearer wrong"), Err(401)),
    ] {
        let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
        let outcome_of = websocket(running.addr, path, &headers).await.map(drop);
        assert_eq!(outcome_of, outcome, "{path}");
    }
}

#[tokio::test]
async fn hosts_and_origins() {
    let running = start(None);
    let port = running.addr.port();
    for (host, origin, status, label) in [
        (format!("127.0.0.1:{port}"), "", 200, ""),
        (format!("localhost:{port}"), "", 200, ""),
        ("proxy.example.com".into(), "", 200, ""),
        ("[::1]".into(), "", 200, ""),
        ("evil.example".into(), "", 421, "host_denied"),
        (format!("evil.example:{port}"), "http://localhost", 421, "host_denied"),
        (String::new(), "", 421, "host_denied"),
        ("localhost".into(), "http://localhost:5173", 200, ""),
        ("localhost".into(), "https://panel.example.com", 200, ""),
        ("localhost".into(), "https://evil.example", 403, "origin_denied"),
        ("localhost".into(), "null", 403, "origin_denied"),
    ] {
        for socket in [false, true] {
            let mut headers = vec![format!("Host: {host}")];
            if !origin.is_empty() {
                headers.push(format!("Origin: {origin}"));
            }
            let mut headers: Vec<_> = headers.iter().map(String::as_str).collect();
            if socket {
                if status == 200 {
                    continue;
                }
                headers.extend(UPGRADE);
            }
            let answer = ask(running.addr, "GET /v1/stats", &headers, "").await;
            assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
            if label.is_empty() {
                let page = Some(origin).filter(|origin| !origin.is_empty());
                assert_eq!(answer.header("access-control-allow-origin"), page);
            } else {
                assert_eq!(answer.label(), label, "{headers:?}");
                assert_eq!(answer.header("access-control-allow-origin"), None);
            }
        }
    }
    // The old window's path is no way around.
    let mut headers = vec!["Host: localhost", "Origin: https://evil.example"];
    headers.extend(UPGRADE);
    assert_eq!(ask(running.addr, "GET /", &headers, "").await.status, 403);
    // What stands in the request line counts as much.
    let answer = ask(running.addr, "GET http://evil.example/v1/stats", &["Host: localhost"], "").await;
    assert_eq!(answer.status, 421);
    for twice in [["Host: localhost", "Host: evil.example"], ["Origin: http://localhost", "Origin: null"]] {
        assert_eq!(ask(running.addr, "GET /v1/stats", &twice, "").await.status, 400, "{twice:?}");
    }
    assert_eq!(raw(running.addr, "GET /v1/stats HTTP/1.1\r\nConnection: close\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn a_preflight_needs_no_secret_and_gets_nothing_done() {
    let running = start(Some("s3cret"));
    let line = "OPTIONS /v1/tunnel/connect";
    let headers = ["Origin: https://panel.example.com", "Access-Control-Request-Method: POST"];
    let answer = ask(running.addr, line, &headers, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://panel.example.com"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert!(answer.header("vary").is_some());
    let headers = ["Origin: https://evil.example", "Access-Control-Request-Method: POST"];
    assert_eq!(ask(running.addr, line, &headers, "").await.status, 403);
    assert_eq!(ask(running.addr, line, &headers[1..], "").await.status, 401);
    // An answer that says no is readable by a page that may ask, or it could not show why.
    let answer = ask(running.addr, "GET /v1/stats", &["Origin: https://panel.example.com"], "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin").is_some()), (401, true));
}

#[tokio::test]
async fn beyond_loopback_nothing_is_read_without_a_secret() {
    // A table like that is refused; this is the second lock behind the first.
    let via = crate::serve::Via { peer: "192.0.2.1:1".parse().unwrap(), loopback: false };
    let running = start(None);
    let router = crate::routes::router(running.api.shared.clone()).layer(axum::Extension(via));
    let request = axum::http::Request::get("/v1/stats").header("host", "192.0.2.2");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let service = hyper_util::service::TowerToHyperService::new(router);
    let answer = hyper::service::Service::call(&service, request).await.unwrap();
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn a_wrong_secret_is_answered_late_and_closes() {
    let bounds = Bounds { penalty: Duration::from_millis(300), ..Bounds::default() };
    let running = start_with(&table(Some("s3cret")), bounds);
    let begun = tokio::time::Instant::now();
    let request =
        format!("GET /v1/stats HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer x\r\n\r\n", running.addr);
    // `raw` reads to the end, which comes although the request did not ask for it.
    assert_eq!(raw(running.addr, &request).await.status, 401);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(ask(running.addr, "GET /v1/stats", &["Authorization: Bearer s3cret"], "").await.status, 200);
}

#[tokio::test]
async fn reading_on_loopback_is_open_where_it_is_not_guarded_and_changes_never_are() {
    let running = start_with(&ApiConfig { guard_reading: false, ..table(Some("s3cret")) }, quick());
    for (line, header, status) in [
        ("GET /v1/stats", "X: y", 200),
        ("POST /v1/users/alice/kick", "X: y", 401),
        ("GET /v1/stats", "Authorization: Bearer wrong", 401),
    ] {
        assert_eq!(ask(running.addr, line, &[header], "").await.status, status, "{line} {header}");
    }
}
