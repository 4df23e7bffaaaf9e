//! `quickstart`: a remote and a local role in one process, on loopback, with a user and an origin to try them with.
//!
//! Invariant: only the demo origin's exact address is let through to the private addresses; all else that a remote
//! denies by default stays denied.

mod data;
mod origin;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use swiftproxy_core::config::Sources;
use swiftproxy_core::tunnel::TunnelState;
use tokio::time::{Duration, Instant};

use crate::args;
use crate::instance::{self, Instance};
use crate::signals::{Asked, Signals};
use data::Data;

/// How long the local role may take to log in.
const LOGIN: Duration = Duration::from_secs(15);

/// Runs until a signal says otherwise.
pub(crate) async fn quickstart(args: args::Quickstart) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let ports = [
        ("--port", args.port),
        ("--remote-port", args.remote_port),
        ("--stats-port", args.stats_port),
        ("--remote-stats-port", args.remote_stats_port),
        ("--origin-port", args.origin_port),
    ];
    free(&ports)?;
    let data = Data::open(&args).await?;
    let origin = origin::bind(args.origin_port).await.context("the demo origin cannot listen")?;
    let origin_addr = origin.local_addr()?;
    crate::sections::LogConfig::quiet().start();
    let workers = instance::workers()?;
    let remote = Instance::start(remote_sources(&args, &data, origin_addr), "remote", &workers).await?;
    let local = Instance::start(local_sources(&args, &data), "local", &workers).await?;
    let origin = tokio::spawn(origin::serve(origin));
    logged_in(&local).await?;
    print!("{}", welcome(&args, &data, origin_addr));
    crate::systemd::ready();
    while signals.next().await == Asked::Reload {
        remote.server().reload().await;
        local.server().reload().await;
    }
    println!("\nStopping (Ctrl-C again cuts open connections) …");
    let (cut, mut cut_remote) = tokio::sync::watch::channel(false);
    let mut cut_local = cut.subscribe();
    let stop = async {
        local.stop(async { drop(cut_local.changed().await) }).await;
        remote.stop(async { drop(cut_remote.changed().await) }).await;
    };
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => {}
        () = signals.stop() => {
            let _ = cut.send(true);
            stop.await;
        }
    }
    origin.abort();
    workers.stop(instance::LAST);
    println!("Stopped. Everything is kept in {}; run quickstart again to go on.", data.folder().display());
    Ok(())
}

/// Says which port is taken, and by what flag to change it.
fn free(ports: &[(&str, u16)]) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for (at, (flag, port)) in ports.iter().enumerate() {
        if *port == 0 {
            bail!("{flag} 0: give a port from 1 to 65535");
        }
        if ports.iter().take(at).any(|(_, other)| other == port) {
            bail!("{flag} {port}: that port was given twice");
        }
        if let Err(error) = std::net::TcpListener::bind(("127.0.0.1", *port)) {
            taken.push(format!("port {port} cannot be used ({error}); choose another with {flag} PORT"));
        }
    }
    if taken.is_empty() { Ok(()) } else { bail!(taken.join("\n")) }
}

fn sources(file: &Path, sets: Vec<String>) -> Sources {
    instance::sources(Sources { files: vec![file.to_owned()], sets, ..Sources::default() })
}

fn remote_sources(args: &args::Quickstart, data: &Data, origin: SocketAddr) -> Sources {
    let sets = vec![
        format!("listeners.tunnel.bind=127.0.0.1:{}", args.remote_port),
        format!("api.bind=127.0.0.1:{}", args.remote_stats_port),
    ];
    // Before the file, so that what a person writes there goes over it.
    let deny = if args.allow_private { "deny = []" } else { "" };
    let text = format!("[layers.acl]\nallow = [\"{origin}\"]\n{deny}\n");
    Sources { texts: vec![("quickstart".into(), text)], ..sources(&data.remote(), sets) }
}

fn local_sources(args: &args::Quickstart, data: &Data) -> Sources {
    let sets = vec![
        format!("listeners.local.bind=127.0.0.1:{}", args.port),
        format!("api.bind=127.0.0.1:{}", args.stats_port),
        format!("relays.tunnel.server=127.0.0.1:{}", args.remote_port),
    ];
    sources(&data.local(), sets)
}

async fn logged_in(local: &Instance) -> anyhow::Result<()> {
    let deadline = Instant::now() + LOGIN;
    loop {
        let tunnels = local.node().tunnels();
        let status =
            tunnels.first().map(|(_, tunnel)| tunnel.status()).context("the local role has no tunnel")?;
        if status.state == TunnelState::Connected {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = status.error.map_or_else(|| "no answer".to_owned(), |error| error.message);
            bail!(
                "the local role could not log in to the remote: {why} (--fresh makes a new user and certificate)"
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn welcome(args: &args::Quickstart, data: &Data, origin: SocketAddr) -> String {
    let args::Quickstart { port, remote_port, stats_port, remote_stats_port, .. } = args;
    let program = std::env::args().next().unwrap_or_else(|| "swiftproxy".into());
    let folder = data.folder().display();
    let store = if data.folder() == Path::new("swiftproxy-data") {
        String::new()
    } else {
        format!(" --store '{}'", swiftproxy_store::url_of(&data.folder().join("swiftproxy.db")))
    };
    let private = if args.allow_private {
        "Private addresses: open (--allow-private)"
    } else {
        "Private addresses: denied but for the demo origin (--allow-private opens them)"
    };
    format!(
        "
SwiftProxy runs: a local role and a remote, on this machine only.

  application ─▶ local 127.0.0.1:{port} ═TLS═▶ remote 127.0.0.1:{remote_port} ─▶ target
  User: demo, password {password}, logged in. {private}

Download through it, by SOCKS5 and by HTTP:
  curl -o /dev/null --proxy socks5h://127.0.0.1:{port} http://{origin}/bytes/30MB
  curl -o /dev/null --proxy http://127.0.0.1:{port} http://{origin}/bytes/30MB

Straight at the remote, without a local role:
  curl -o /dev/null --proxy https://127.0.0.1:{remote_port} --proxy-insecure --proxy-user demo:{password} http://{origin}/bytes/30MB

Watch the rates, of this side and, by account, of the remote:
  curl -N 'http://127.0.0.1:{stats_port}/v1/stats?stream=1'
  {program} top http://127.0.0.1:{remote_stats_port}

Change demo's rate while a download runs (within two seconds):
  {program} user set demo --down 5Mbit/s{store}
or edit {folder}/remote.toml (within one).

Stop with Ctrl-C. Everything is kept in {folder}/.
",
        password = data.password(),
    )
}
