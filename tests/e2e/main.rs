//! The real program over real sockets, with real clients: one file a layer or subject.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test says by a panic what it missed")]

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod acl;
mod activation;
mod auth;
mod classic;
mod cli;
mod clients;
mod configs;
mod detect;
mod drain;
mod faults;
mod quickstart;
mod ratelimit;
mod relay;
mod reload;
mod stats;
mod store;
mod tunnel;
