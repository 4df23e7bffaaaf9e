//! What is measured: rates and times. One test at a time, for they would disturb each other.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test says by a panic what it missed")]

#[path = "../support/mod.rs"]
mod support;

mod first_version;
mod limits;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever measures holds this.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
