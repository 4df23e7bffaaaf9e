//! Stats socket and HTTP API of one node, on one address.
//!
//! Invariants: nothing is changed without the secret; a request meant for another host, or sent by another site's
//! page, is refused; every answer, wait and buffer has a bound.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/stats` | a [`Snapshot`](swiftproxy_stats::Snapshot) |
//! | `GET /v1/stats?stream=1` | one a second, a line each (`application/x-ndjson`) |
//! | WebSocket `/v1/stats` | one a second, a text message each |
//! | WebSocket `/` | the secret as first message, then `UP DOWN` each second: what the first SwiftProxy's window reads |
//! | `GET /v1/config` | what each listener runs, and how the last reload went |
//! | `GET /v1/sessions` | the newest open sessions |
//! | `DELETE /v1/sessions/{id}` | ends one |
//! | `POST /v1/users/{name}/kick` | ends an account's sessions |
//! | `GET /v1/tunnel` | the tunnel's status |
//! | `POST /v1/tunnel/connect` | logs in: `{server, username, password, pin, tls, insecure}` |
//! | `POST /v1/tunnel/disconnect` | logs out |
//!
//! `?account=NAME` leaves one account in the figures.

mod access;
mod admin;
mod classic;
mod config;
mod error;
mod feed;
mod follow;
mod io;
mod origin;
mod routes;
mod serve;
mod share;
mod socket;
mod stats;
mod tunnel;

pub use config::ApiConfig;
pub use follow::Check;
pub use serve::Api;

#[cfg(test)]
mod tests;
