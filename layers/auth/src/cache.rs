//! Credentials that were verified, so that a connection costs a fingerprint and a look.
//!
//! Invariant: an entry holds for exactly the account and the password row it was verified against; a row that was
//! changed, removed or replaced makes it void at once, without anyone having to tell the cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swiftproxy_core::account::{Account, Password};
use swiftproxy_core::cancel::Reason;

use crate::print::Print;

const SHARDS: usize = 64;
/// In all, 65,536.
const SHARD_MOST: usize = 1024;

struct Entry {
    account: Arc<Account>,
    row: Arc<Password>,
}

impl Entry {
    fn holds(&self) -> bool {
        self.account.barred() != Some(Reason::Removed)
            && self.account.password().is_some_and(|row| Arc::ptr_eq(&row, &self.row))
    }
}

/// Verified credentials by fingerprint.
pub(crate) struct Cache {
    shards: Box<[Mutex<HashMap<Print, Entry>>]>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Cache {
    /// The account, where these credentials still hold; it may be disabled.
    pub(crate) fn get(&self, print: &Print) -> Option<Arc<Account>> {
        let mut shard = self.shard(print)?;
        let entry = shard.get(print)?;
        if entry.holds() {
            return Some(entry.account.clone());
        }
        shard.remove(print);
        None
    }

    /// Remembers what was verified against `row`.
    pub(crate) fn insert(&self, print: Print, account: Arc<Account>, row: Arc<Password>) {
        let Some(mut shard) = self.shard(&print) else { return };
        if shard.len() >= SHARD_MOST && !shard.contains_key(&print) {
            shard.retain(|_, entry| entry.holds());
            // Whoever is forgotten is hashed once more; whom it hits nobody can choose.
            let full = shard.len() >= SHARD_MOST;
            if full && let Some(any) = shard.keys().next().copied() {
                shard.remove(&any);
            }
        }
        shard.insert(print, Entry { account, row });
    }

    fn shard(&self, print: &Print) -> Option<MutexGuard<'_, HashMap<Print, Entry>>> {
        let [first, ..] = print.0;
        let shard = self.shards.get(usize::from(first) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use swiftproxy_core::account::Accounts;

    use super::*;
    use crate::tests::clear;

    #[test]
    fn a_changed_or_removed_row_makes_an_entry_void() {
        let accounts = Accounts::default();
        let cache = Cache::default();
        accounts.set_file(vec![clear("alice", "a")]);
        let alice = accounts.get("alice").unwrap();
        let print = Print([7; 32]);
        cache.insert(print, alice.clone(), alice.password().unwrap());
        accounts.set_file(vec![clear("alice", "a")]);
        assert!(cache.get(&print).is_some(), "nothing changed");
        accounts.set_file(vec![clear("alice", "b")]);
        assert!(cache.get(&print).is_none(), "another password");
        cache.insert(print, alice.clone(), alice.password().unwrap());
        accounts.set_file(Vec::new());
        assert!(cache.get(&print).is_none(), "removed");
    }

    #[test]
    fn it_is_bounded() {
        let accounts = Accounts::default();
        accounts.set_file(vec![clear("alice", "a")]);
        let alice = accounts.get("alice").unwrap();
        let cache = Cache::default();
        for n in 0..SHARD_MOST as u64 + 100 {
            let mut print = [0; 32];
            print[8..16].copy_from_slice(&n.to_le_bytes());
            cache.insert(Print(print), alice.clone(), alice.password().unwrap());
        }
        assert_eq!(cache.shards[0].lock().unwrap().len(), SHARD_MOST);
    }
}
