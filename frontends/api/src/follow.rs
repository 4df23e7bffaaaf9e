//! `[api]` under a reload.
//!
//! Invariant: an address that did not change is never closed; one that cannot be bound rejects the reload.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use swiftproxy_core::config::{Config, ConfigErrors};
use swiftproxy_core::error::BuildError;
use swiftproxy_core::server::{Change, Follower};
use tokio::net::TcpListener;

use crate::config::{ApiConfig, Settings};
use crate::serve::{Api, Bound};

/// Finds what is wrong with `[api]`, and binds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Check;

impl Follower for Check {
    fn prepare(&self, config: &Config) -> Result<Change, ConfigErrors> {
        let mut errors = Vec::new();
        read(config)?.check().into_iter().for_each(|error| errors.push(place(config, error)));
        if errors.is_empty() { Ok(Box::new(|| {})) } else { Err(ConfigErrors(errors)) }
    }
}

/// An API as a server's follower.
pub(crate) struct ApiFollower(pub(crate) Arc<Api>);

impl Follower for ApiFollower {
    fn prepare(&self, config: &Config) -> Result<Change, ConfigErrors> {
        let mut errors = Vec::new();
        let table = read(config)?;
        let change = self.0.prepare(&table, &mut |error| errors.push(place(config, error)));
        change.ok_or(ConfigErrors(errors))
    }
}

fn read(config: &Config) -> Result<ApiConfig, ConfigErrors> {
    Ok(config.section("api").map_err(|error| ConfigErrors(vec![error]))?.unwrap_or_default())
}

fn place(config: &Config, error: BuildError) -> swiftproxy_core::config::ConfigError {
    config.error(&error.key, error.problem, error.remedy)
}

impl Api {
    /// It as what follows a server's configuration.
    pub fn follower(self: &Arc<Self>) -> Arc<dyn Follower> {
        Arc::new(ApiFollower(self.clone()))
    }

    /// Binds what is not bound yet, and answers how to go over to that configuration; none where something is wrong.
    pub(crate) fn prepare(
        self: &Arc<Self>,
        config: &ApiConfig,
        wrong: &mut dyn FnMut(BuildError),
    ) -> Option<Change> {
        let errors = config.check();
        if !errors.is_empty() {
            errors.into_iter().for_each(wrong);
            return None;
        }
        let settings = Arc::new(Settings::new(config));
        let asked = self.bound.load().as_deref().map(|bound| bound.asked);
        let next = match config.bind {
            Some(bind) if asked != Some(bind) => match listen(bind) {
                Ok(socket) => Some(Some((bind, socket))),
                Err(error) => {
                    wrong(error);
                    return None;
                }
            },
            None if asked.is_some() => Some(None),
            _ => None,
        };
        let api = self.clone();
        Some(Box::new(move || {
            api.shared.settings.send_if_modified(|running| {
                let changed = *running != settings;
                *running = settings;
                changed
            });
            match next {
                None => {}
                Some(None) => {
                    api.bound.store(None);
                    api.sockets.send_replace(None);
                    tracing::info!("the API is off");
                }
                Some(Some((asked, (socket, addr)))) => {
                    api.bound.store(Some(Arc::new(Bound { asked, addr })));
                    api.sockets.send_replace(Some(Arc::new(socket)));
                    tracing::info!("API on http://{addr}");
                    api.told(addr);
                }
            }
        }))
    }
}

fn listen(bind: SocketAddr) -> Result<(TcpListener, SocketAddr), BuildError> {
    let bound = || {
        let socket = StdListener::bind(bind)?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        Ok((TcpListener::from_std(socket)?, addr))
    };
    bound().map_err(|error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "choose another port, or stop the program that has it",
            std::io::ErrorKind::PermissionDenied => "choose a port from 1024, or grant the right to bind it",
            std::io::ErrorKind::AddrNotAvailable => "write an address that this machine has",
            _ => "choose another address",
        };
        BuildError::new("api.bind", format!("cannot listen on {bind}: {error}"), remedy)
    })
}
