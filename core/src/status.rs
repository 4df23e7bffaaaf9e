//! What an admin should know of a node's own health.
//!
//! Invariant: it is told whole, and told again only when it changed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Something changed and runs.
    Reloaded,
    /// The files say what already runs.
    Unchanged,
    /// Nothing changed; the errors say why.
    Rejected(Vec<String>),
}

/// The store's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    /// None is configured.
    None,
    /// Reads and writes go through.
    Ok,
    /// It cannot be used since then, and why.
    Down(SystemTime, String),
}

/// A node's health.
#[derive(Debug, Default)]
pub struct Health {
    reload: RwLock<Option<(SystemTime, Reload)>>,
    store: RwLock<Option<Arc<StoreHealth>>>,
}

impl Health {
    /// The last reload and when it was.
    pub fn reload(&self) -> Option<(SystemTime, Reload)> {
        self.reload.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how a reload went.
    pub fn set_reload(&self, outcome: Reload) {
        *self.reload.write().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), outcome));
    }

    /// The store's state.
    pub fn store(&self) -> StoreHealth {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_deref().cloned().unwrap_or(StoreHealth::None)
    }

    /// Says how the store is.
    pub fn set_store(&self, health: StoreHealth) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(health));
    }
}
