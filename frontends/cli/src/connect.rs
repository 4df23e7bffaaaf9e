//! `connect`: a local role without any file.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use swiftproxy_core::config::Sources;
use swiftproxy_core::meter::Direction;
use swiftproxy_core::node::Node;
use swiftproxy_core::tunnel::{Login, TunnelState};
use swiftproxy_core::units::Rate;
use tokio::time::{Duration, Instant, interval};

use crate::instance::{self, Instance};
use crate::signals::Signals;
use crate::{args, password};

/// Logs in, then shows the rates until a signal.
pub(crate) async fn connect(args: args::Connect) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let password = password::read(args.password_stdin, &format!("Password of {}", args.user), false)?;
    crate::sections::LogConfig::quiet().start();
    let workers = instance::workers()?;
    let local = Instance::start(sources(&args), "local", &workers).await?;
    let (_, tunnel) = local.node().tunnels().into_iter().next().context("the local role has no tunnel")?;
    let login = Login {
        server: args.server.clone(),
        username: args.user.clone(),
        password,
        pin: args.pin.clone(),
        tls: !args.no_tls,
        insecure: args.insecure,
    };
    let status = tokio::select! {
        status = tunnel.connect(login) => status?,
        () = signals.stop() => return Ok(()),
    };
    let verified = if status.verified {
        ""
    } else {
        " (not a SwiftProxy remote: the login is checked with the first connection)"
    };
    println!("Connected to {} as {}{verified}.", args.server, args.user);
    if let Some(account) = &status.account {
        println!("Your limits: up {}, down {}.", limit(account.rate_up), limit(account.rate_down));
        account.messages.iter().for_each(|message| println!("{message}"));
    }
    println!("Set your browser's SOCKS5 or HTTP proxy to {}. Ctrl-C disconnects.", args.bind);
    tokio::select! {
        () = live(local.node()) => {}
        () = signals.stop() => {}
    }
    println!();
    local.stop(signals.stop()).await;
    workers.stop(instance::LAST);
    Ok(())
}

fn sources(args: &args::Connect) -> Sources {
    let text = format!(
        "[node]\nname = \"local\"\nshutdown_timeout = \"1s\"\n\
         [api]\nbind = \"{}\"\n\
         [listeners.local]\nbind = \"{}\"\nstack = [\"detect\", \"stats\"]\nrelay = \"tunnel\"\n",
        args.stats, args.bind
    );
    instance::sources(Sources { texts: vec![("connect".into(), text)], ..Sources::default() })
}

fn limit(rate: Option<u64>) -> String {
    rate.map_or(Rate::UNLIMITED, Rate::bytes_per_second).to_string()
}

/// One line, written anew each second; on no terminal, a line only when the state changes.
async fn live(node: &Node) {
    let terminal = std::io::stdout().is_terminal();
    let mut tick = interval(Duration::from_secs(1));
    let total = || Direction::BOTH.map(|direction| node.bytes.total(direction));
    let (mut before, mut at, mut state) = (total(), Instant::now(), TunnelState::Connected);
    tick.tick().await;
    loop {
        tick.tick().await;
        let (now, bytes) = (Instant::now(), total());
        let secs = now.duration_since(at).as_secs_f64().max(0.001);
        let rate = |side: usize| (bytes[side] - before[side]) as f64 * 8.0 / secs / 1e6;
        let Some((_, tunnel)) = node.tunnels().into_iter().next() else { return };
        let status = tunnel.status();
        let word = match (status.state, status.error) {
            (TunnelState::Connected, _) => "connected".to_owned(),
            (_, Some(error)) => format!("reconnecting: {}", error.message),
            _ => "reconnecting".to_owned(),
        };
        if terminal {
            print!(
                "\r\x1b[K{word}  ▲ {:.2} Mbit/s  ▼ {:.2} Mbit/s  {} connections",
                rate(0),
                rate(1),
                node.sessions.count()
            );
            let _ = std::io::stdout().flush();
        } else if status.state != state {
            println!("{word}");
        }
        (before, at, state) = (bytes, now, status.state);
    }
}
