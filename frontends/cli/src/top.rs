//! `top`: a running node's rates, account by account.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde::Deserialize;
use swiftproxy_core::units::Rate;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_tungstenite::tungstenite::http::{Request, StatusCode, Uri};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::args;
use crate::signals::Signals;
use crate::user::short;

/// How long the node may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// What is shown of the stats socket's object.
#[derive(Debug, Deserialize)]
struct Stats {
    pid: u32,
    name: String,
    role: String,
    uptime: f64,
    sessions: Sessions,
    total: Pair,
    rate: Pair,
    accounts: Vec<Account>,
    tunnel: Option<Tunnel>,
}

#[derive(Debug, Deserialize)]
struct Sessions {
    open: u64,
}

#[derive(Debug, Deserialize)]
struct Pair {
    up: u64,
    down: u64,
}

#[derive(Debug, Deserialize)]
struct Account {
    name: String,
    up: u64,
    down: u64,
    rate_up: u64,
    rate_down: u64,
    limit_up: Option<u64>,
    limit_down: Option<u64>,
    sessions: u64,
    enabled: bool,
}

#[derive(Debug, Deserialize)]
struct Tunnel {
    state: String,
    server: Option<String>,
    username: Option<String>,
}

/// Shows a table a second until a signal, or one.
pub(crate) async fn top(args: args::Top) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut socket = open(&args).await?;
    let terminal = std::io::stdout().is_terminal();
    loop {
        let message = tokio::select! {
            message = timeout(SILENCE, socket.next()) => message.context("the node is silent; is it stopped?")?,
            () = signals.stop() => return Ok(()),
        };
        let text = match message.context("the node closed the connection")?? {
            Message::Text(text) => text,
            Message::Close(_) => bail!("the node closed the connection"),
            _ => continue,
        };
        let stats: Stats = serde_json::from_str(&text).context("this is not a SwiftProxy's stats socket")?;
        if terminal && !args.once {
            print!("\x1b[H\x1b[2J");
        }
        print!("{}", table(&stats));
        std::io::stdout().flush()?;
        if args.once {
            return Ok(());
        }
    }
}

async fn open(args: &args::Top) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let url: Uri =
        args.url.parse().with_context(|| format!("{} is no URL such as http://127.0.0.1:9001", args.url))?;
    let host = url.host().with_context(|| format!("{} is no URL such as http://127.0.0.1:9001", args.url))?;
    if url.scheme_str() == Some("https") {
        bail!(
            "a node speaks clear text; write http://{host}, and reach it from elsewhere through a tunnel of your own"
        );
    }
    let port = url.port_u16().unwrap_or(80);
    let mut request: Request<()> = format!("ws://{host}:{port}/v1/stats").into_client_request()?;
    if let Some(file) = &args.secret_file {
        let secret = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let value =
            format!("Bearer {}", secret.trim()).parse().context("the secret cannot be sent in a header")?;
        request.headers_mut().insert("authorization", value);
    }
    let stream = timeout(SILENCE, TcpStream::connect((host.trim_matches(['[', ']']), port)))
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .with_context(|| {
            format!("cannot reach {host}:{port}; is the node running, and is this its [api] bind?")
        })?;
    match timeout(SILENCE, client_async(request, stream)).await.context("the node does not answer")? {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) if answer.status() == StatusCode::UNAUTHORIZED => {
            bail!("the node wants its secret; give --secret-file FILE")
        }
        Err(error) => Err(error).context("this is not a SwiftProxy's stats socket"),
    }
}

fn table(stats: &Stats) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} ({}, pid {}), up {}, {} session{}\n▲ {:>12}   ▼ {:>12}   since the start ▲ {}  ▼ {}",
        stats.name,
        stats.role,
        stats.pid,
        age(stats.uptime),
        stats.sessions.open,
        if stats.sessions.open == 1 { "" } else { "s" },
        rate(stats.rate.up),
        rate(stats.rate.down),
        short(stats.total.up),
        short(stats.total.down),
    );
    if let Some(Tunnel { state, server, username }) = &stats.tunnel {
        let server = server.as_deref().unwrap_or("no remote");
        let user = username.as_deref().map(|name| format!(" as {name}")).unwrap_or_default();
        let _ = writeln!(out, "tunnel to {server}{user}: {state}");
    }
    if stats.accounts.is_empty() {
        return out;
    }
    let width = stats.accounts.iter().map(|account| account.name.chars().count()).max().unwrap_or(0).max(7);
    let _ = writeln!(
        out,
        "\n{:width$} {:>12} {:>12} {:>12} {:>12} {:>10} {:>10} {:>8}",
        "ACCOUNT", "▲ RATE", "LIMIT", "▼ RATE", "LIMIT", "▲ TOTAL", "▼ TOTAL", "SESSIONS"
    );
    let mut accounts: Vec<_> = stats.accounts.iter().collect();
    accounts.sort_by_key(|account| std::cmp::Reverse(account.rate_up + account.rate_down));
    for account in accounts {
        let _ = writeln!(
            out,
            "{:width$} {:>12} {:>12} {:>12} {:>12} {:>10} {:>10} {:>8}{}",
            account.name,
            rate(account.rate_up),
            limit(account.limit_up),
            rate(account.rate_down),
            limit(account.limit_down),
            short(account.up),
            short(account.down),
            account.sessions,
            if account.enabled { "" } else { "  disabled" },
        );
    }
    out
}

fn rate(bytes: u64) -> String {
    let bits = bytes as f64 * 8.0;
    match bits {
        b if b >= 1e9 => format!("{:.2} Gbit/s", b / 1e9),
        b if b >= 1e6 => format!("{:.2} Mbit/s", b / 1e6),
        b => format!("{:.1} kbit/s", b / 1e3),
    }
}

fn limit(rate: Option<u64>) -> String {
    rate.map_or(Rate::UNLIMITED, Rate::bytes_per_second).to_string()
}

fn age(secs: f64) -> String {
    let secs = secs as u64;
    match (secs / 86_400, secs / 3600 % 24, secs / 60 % 60) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, minutes) => format!("{minutes}min"),
        (0, hours, minutes) => format!("{hours}h{minutes:02}"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_each_account() {
        let stats: Stats = serde_json::from_str(
            r#"{"pid":7,"name":"n","role":"remote","uptime":3700.0,"sessions":{"open":3,"total":9},
                "total":{"up":1,"down":2000},"rate":{"up":0,"down":125000},"tunnel":null,"accounts":[
                {"name":"alice","up":1,"down":2000,"rate_up":0,"rate_down":125000,"limit_up":null,
                 "limit_down":1250000,"sessions":3,"enabled":true}]}"#,
        )
        .unwrap();
        let table = table(&stats);
        for words in
            ["n (remote, pid 7), up 1h01, 3 sessions", "alice", "1.00 Mbit/s", "10Mbit/s", "unlimited"]
        {
            assert!(table.contains(words), "{words} is missing in\n{table}");
        }
    }
}
