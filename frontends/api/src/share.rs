//! How many of the connections one address may have, so that no client takes them all.
//!
//! Invariant: a [`Share`] that is dropped is given back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections that are open, by address.
#[derive(Debug)]
pub(crate) struct Shares {
    most: u32,
    open: Mutex<HashMap<u128, u32>>,
}

impl Shares {
    /// With so many for each address.
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// One more connection of `client`, if it has not too many.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let key = party(client);
        let mut open = self.lock();
        let count = open.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Share { shares: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that one party can have: this machine, an IPv4 address, or a /64 of IPv6.
fn party(client: IpAddr) -> u128 {
    match client.to_canonical() {
        ip if ip.is_loopback() => 1,
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// One connection's.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    key: u128,
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.shares.lock().entry(self.key) {
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

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let shares = Shares::new(2);
        let take = |client: &str| shares.take(client.parse().expect("an address"));
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && take("192.0.2.1").is_none());
        let _other = take("192.0.2.2").expect("another's");
        let networks = [take("2001:db8::1"), take("2001:db8::2"), take("2001:db8:0:1::1")];
        assert!(networks.iter().all(Option::is_some) && take("2001:db8::3").is_none());
        let here = [take("127.0.0.1"), take("::1")];
        assert!(here.iter().all(Option::is_some) && take("127.9.9.9").is_none());
        drop(held);
        assert!(take("192.0.2.1").is_some());
        drop((here, networks));
        assert_eq!(shares.lock().len(), 1, "only the other one's");
    }
}
