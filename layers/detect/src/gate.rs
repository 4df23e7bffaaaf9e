//! How many clients at a time may be about to say what they want: in total, and from one address.
//!
//! Invariant: a [`Pass`] that is dropped, at whatever await, is given back to both counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swiftproxy_core::listener::{Slot, Slots};

/// How many may come from one address where nothing else is said.
pub(crate) const PER_ADDRESS: usize = 256;

const SHARDS: usize = 16;

/// Both counts of one listener; they outlive its reloads.
pub(crate) struct Gate {
    total: Arc<Slots>,
    per_address: AtomicUsize,
    loopback: AtomicBool,
    addresses: [Mutex<HashMap<u128, usize>>; SHARDS],
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            total: Arc::default(),
            per_address: AtomicUsize::new(PER_ADDRESS),
            loopback: AtomicBool::new(false),
            addresses: Default::default(),
        }
    }
}

impl Gate {
    /// Changes both caps; `loopback` says whether clients on this machine are counted by address too.
    pub(crate) fn set(&self, total: usize, per_address: usize, loopback: bool) {
        self.total.set_most(Some(total));
        self.per_address.store(per_address, Relaxed);
        self.loopback.store(loopback, Relaxed);
    }

    /// Lets a client in, if there is room.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Pass> {
        let slot = self.total.take()?;
        if client.is_loopback() && !self.loopback.load(Relaxed) {
            return Some(Pass { _total: slot, address: None });
        }
        let key = key(client);
        let mut addresses = self.shard(key);
        let count = addresses.entry(key).or_default();
        if *count >= self.per_address.load(Relaxed) {
            return None;
        }
        *count += 1;
        drop(addresses);
        Some(Pass { _total: slot, address: Some((self.clone(), key)) })
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, HashMap<u128, usize>> {
        // The low bits of an IPv4 address, or of an IPv6 network.
        let at = (key ^ (key >> 64)) as usize % SHARDS;
        self.addresses[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One count's key for all that one party can have: an IPv4 address, or a /64 of IPv6.
fn key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// A client's leave to say what it wants.
pub(crate) struct Pass {
    _total: Slot,
    address: Option<(Arc<Gate>, u128)>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some((gate, key)) = &self.address else { return };
        if let Entry::Occupied(mut count) = gate.shard(*key).entry(*key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(total: usize, per_address: usize, loopback: bool) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.set(total, per_address, loopback);
        gate
    }

    fn enter(gate: &Arc<Gate>, client: &str) -> Option<Pass> {
        gate.enter(client.parse().expect("address"))
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let gate = gate(10, 2, false);
        let passes = [enter(&gate, "192.0.2.1"), enter(&gate, "::ffff:192.0.2.1")];
        assert!(passes.iter().all(Option::is_some));
        assert!(enter(&gate, "192.0.2.1").is_none());
        assert!(enter(&gate, "192.0.2.2").is_some());
        drop(passes);
        assert!(enter(&gate, "192.0.2.1").is_some());
        assert!(gate.addresses.iter().all(|shard| shard.lock().expect("lock").is_empty()));
        assert_eq!(gate.total.taken(), 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_party() {
        let gate = gate(10, 1, false);
        let _pass = enter(&gate, "2001:db8::1").expect("room");
        assert!(enter(&gate, "2001:db8::ffff:2").is_none());
        assert!(enter(&gate, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn the_total_holds_for_all() {
        let gate = gate(1, 5, false);
        let pass = enter(&gate, "192.0.2.1");
        assert!(pass.is_some() && enter(&gate, "127.0.0.1").is_none());
        drop(pass);
        assert!(enter(&gate, "127.0.0.1").is_some());
    }

    #[test]
    fn programs_on_this_machine_count_where_a_number_was_written() {
        let free = gate(10, 1, false);
        let passes = [enter(&free, "127.0.0.1"), enter(&free, "127.0.0.1")];
        assert!(passes.iter().all(Option::is_some));
        let counted = gate(10, 1, true);
        let _pass = enter(&counted, "127.0.0.1").expect("room");
        assert!(enter(&counted, "127.0.0.1").is_none());
    }
}
