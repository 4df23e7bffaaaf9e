//! The atomics and locks of what flows share: the standard library's, or the model checker's, which tries all orders
//! in which threads can come (CONTRIBUTING.md).

#[cfg(swiftproxy_loom)]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
#[cfg(not(swiftproxy_loom))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
