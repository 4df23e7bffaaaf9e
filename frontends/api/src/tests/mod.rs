//! The API over real sockets.

mod access;
mod admin;
mod bounds;
mod reload;
mod stream;
mod tunnel;
mod window;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use swiftproxy_core::account::{Account, AccountRate, AccountSpec};
use swiftproxy_core::listener::Listener;
use swiftproxy_core::node::Node;
use swiftproxy_core::secret::Secret;
use swiftproxy_core::session::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::config::ApiConfig;
use crate::serve::{Api, Bounds};

/// An API that runs until it is dropped.
struct Running {
    node: Arc<Node>,
    api: Arc<Api>,
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bounds that a test does not wait for.
fn quick() -> Bounds {
    Bounds { penalty: Duration::from_millis(20), ..Bounds::default() }
}

fn table(secret: Option<&str>) -> ApiConfig {
    ApiConfig {
        bind: Some("127.0.0.1:0".parse().unwrap()),
        secret: secret.map(Secret::new),
        guard_reading: secret.is_some(),
        allow_origins: vec!["https://panel.example.com".into()],
        hosts: vec!["proxy.example.com".into()],
    }
}

fn start_with(config: &ApiConfig, bounds: Bounds) -> Running {
    let node = Node::new("test");
    let api = Api::with_bounds(node.clone(), bounds);
    api.prepare(config, &mut |error| panic!("{error}")).unwrap()();
    let addr = api.local_addr().unwrap();
    let task = tokio::spawn({
        let api = api.clone();
        async move { api.run(pending()).await }
    });
    Running { node, api, addr, task }
}

fn start(secret: Option<&str>) -> Running {
    start_with(&table(secret), quick())
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn label(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends bytes, and reads until the end.
async fn raw(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A peer that refuses early may reset what it did not read.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.into(), body: body.into() }
}

/// `GET /v1/stats` and the like, with a `Host` unless `headers` have one.
async fn ask(addr: SocketAddr, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        request += &format!("Host: {addr}\r\n");
    }
    for header in headers {
        request += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    raw(addr, &format!("{request}\r\n{body}")).await
}

type Client = WebSocketStream<TcpStream>;

async fn websocket(addr: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
    let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(addr).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((client, _)) => Ok(client),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

fn add_account(node: &Node, name: &str) -> Arc<Account> {
    let mut specs: Vec<_> = node.accounts.all().iter().map(|known| spec(known.name())).collect();
    specs.push(spec(name));
    node.accounts.set_file(specs);
    node.accounts.get(name).unwrap()
}

fn spec(name: &str) -> AccountSpec {
    AccountSpec {
        row: None,
        name: name.into(),
        password: None,
        enabled: true,
        up: AccountRate::Default,
        down: AccountRate::Limited(1000),
        weight: 1,
    }
}

fn admit(listener: &Arc<Listener>, account: Option<&Arc<Account>>) -> Session {
    let client = "127.0.0.1:4000".parse().unwrap();
    let mut session = Session::admit(listener, client, "socks5", "example.com:80".parse().unwrap()).unwrap();
    if let Some(account) = account {
        session.set_account(account.clone());
    }
    session
}
