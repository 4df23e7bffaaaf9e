//! `run` and `check`.

use swiftproxy_core::config::Sources;

use crate::args;
use crate::instance::{self, Instance};
use crate::signals::{Asked, Signals};

/// Where a command's configuration comes from.
pub(crate) fn sources(config: args::Config) -> Sources {
    instance::sources(Sources { sets: config.sets, ..Sources::files(config.config) })
}

/// Runs until a signal says otherwise.
pub(crate) async fn run(config: args::Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let sockets = crate::systemd::sockets()?;
    let workers = instance::workers()?;
    let instance = Instance::start_with(sources(config), "swiftproxy", &workers, true, sockets).await?;
    crate::systemd::ready();
    while signals.next().await == Asked::Reload {
        instance.server().reload().await;
    }
    tracing::info!(
        sessions = instance.node().sessions.count(),
        "stopping: no new sessions; a second signal cuts the open ones"
    );
    crate::systemd::stopping();
    instance.stop(signals.stop()).await;
    workers.stop(instance::LAST);
    Ok(())
}

/// Prints what would run, or fails with everything that is wrong.
pub(crate) fn check(config: args::Config) -> anyhow::Result<()> {
    let checked = instance::checker(sources(config)).check()?;
    for (listener, names) in checked {
        println!("{listener}: {}", names.join(" → "));
    }
    Ok(())
}
