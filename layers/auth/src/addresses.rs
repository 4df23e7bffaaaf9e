//! Client networks, each with the account that pays for it.
//!
//! Invariant: the longest network that holds an address decides; an address in none of them gets nowhere.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::{Account, Accounts};
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::error::Refusal;

use crate::flights::Outcome;
use crate::password::usable;

/// Account names by network, longest prefixes first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    /// By prefix length and family (an IPv4 and an IPv6 network never hold the same address).
    lengths: Vec<(u8, HashMap<IpNet, Arc<str>>)>,
}

/// A network, or a single address. What is wrong with it, and what to write instead.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, (String, String)> {
    let example =
        "write a network such as \"192.168.1.0/24\", or an address such as \"192.168.1.7\"".to_owned();
    let net = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(ip), _) => IpNet::from(ip.to_canonical()),
        (_, Ok(net)) => net,
        _ => return Err(("it is neither a network nor an address".to_owned(), example)),
    };
    if net.trunc() != net {
        let remedy = format!("write \"{}\" or \"{}\"", net.trunc(), net.addr());
        return Err(("it has bits beyond its prefix".to_owned(), remedy));
    }
    match (net.addr().to_canonical(), net.prefix_len()) {
        (IpAddr::V4(ip), length) if net.addr().is_ipv6() => match length.checked_sub(96) {
            Some(length) => {
                IpNet::new(ip.into(), length).map_err(|_| ("its prefix is too long".to_owned(), example))
            }
            None => Err(("its prefix reaches beyond the IPv4-mapped addresses".to_owned(), example)),
        },
        _ => Ok(net),
    }
}

impl Networks {
    /// Adds a network; whether it is the first of its kind.
    pub(crate) fn add(&mut self, net: IpNet, account: &str) -> bool {
        let length = net.prefix_len();
        let at = match self.lengths.binary_search_by(|(known, _)| length.cmp(known)) {
            Ok(at) => at,
            Err(at) => {
                self.lengths.insert(at, (length, HashMap::new()));
                at
            }
        };
        self.lengths.get_mut(at).is_some_and(|(_, nets)| nets.insert(net, account.into()).is_none())
    }

    /// The name of whom that client is.
    pub(crate) fn account(&self, client: IpAddr) -> Option<&Arc<str>> {
        let client = client.to_canonical();
        self.lengths.iter().find_map(|(length, nets)| nets.get(&IpNet::new(client, *length).ok()?.trunc()))
    }

    /// Every account that is named.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.lengths.iter().flat_map(|(_, nets)| nets.values())
    }
}

/// Knows clients by their address.
pub(crate) struct Addresses {
    accounts: Arc<Accounts>,
    networks: Networks,
}

impl Addresses {
    pub(crate) fn new(accounts: Arc<Accounts>, networks: Networks) -> Self {
        Self { accounts, networks }
    }

    /// Names that are no account's, each once.
    pub(crate) fn unknown(&self) -> Vec<Arc<str>> {
        let names: BTreeMap<_, _> = self.networks.names().map(|name| (name.clone(), ())).collect();
        names.into_keys().filter(|name| self.accounts.get(name).is_none()).collect()
    }

    fn find(&self, client: SocketAddr) -> Outcome {
        let Some(name) = self.networks.account(client.ip()) else {
            tracing::debug!(%client, "no network in `addresses` holds this client");
            return Err(Refusal::Denied);
        };
        match self.accounts.get(name) {
            Some(account) => usable(account),
            None => {
                tracing::debug!(%client, account = %name, "`addresses` names an account that does not exist");
                Err(Refusal::AccountDisabled)
            }
        }
    }
}

impl Authenticator for Addresses {
    fn wants_password(&self, _: SocketAddr) -> bool {
        false
    }

    fn known(&self, client: SocketAddr, _: Option<&Credentials>) -> Option<Arc<Account>> {
        self.find(client).ok()
    }

    fn verify(&self, client: SocketAddr, _: Option<Credentials>) -> BoxFuture<Outcome> {
        Box::pin(std::future::ready(self.find(client)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{clear, disabled};

    fn networks(of: &[(&str, &str)]) -> Networks {
        let mut networks = Networks::default();
        for (net, name) in of {
            assert!(networks.add(parse_network(net).unwrap(), name));
        }
        networks
    }

    #[test]
    fn the_longest_network_decides() {
        let networks = networks(&[
            ("192.168.0.0/16", "all"),
            ("192.168.1.0/24", "floor"),
            ("192.168.1.7", "desk"),
            ("2001:db8::/32", "six"),
            ("0.0.0.0/0", "rest"),
        ]);
        for (client, name) in [
            ("192.168.1.7", Some("desk")),
            ("::ffff:192.168.1.7", Some("desk")),
            ("192.168.1.8", Some("floor")),
            ("192.168.2.8", Some("all")),
            ("10.0.0.1", Some("rest")),
            ("2001:db8::1", Some("six")),
            ("2001:db9::1", None),
        ] {
            assert_eq!(networks.account(client.parse().unwrap()).map(|name| &**name), name, "{client}");
        }
    }

    #[test]
    fn an_entry_says_what_to_write() {
        assert_eq!(parse_network("::ffff:10.0.0.0/104").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_network("::ffff:10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        let (_, remedy) = parse_network("192.168.1.5/24").unwrap_err();
        assert_eq!(remedy, "write \"192.168.1.0/24\" or \"192.168.1.5\"");
        for text in ["", "alice", "10.0.0.0/33", "10.0.0/8", "::ffff:0.0.0.0/90", "1.2.3.4 "] {
            assert!(parse_network(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_client_is_its_account_or_gets_nowhere() {
        let accounts = Arc::new(Accounts::default());
        accounts.set_file(vec![clear("alice", ""), disabled("bob", "")]);
        let networks = networks(&[("10.0.0.1", "alice"), ("10.0.0.2", "bob"), ("10.0.0.3", "carol")]);
        let addresses = Addresses::new(accounts, networks);
        assert_eq!(addresses.unknown(), ["carol".into()]);
        for (client, outcome) in [
            ("10.0.0.1:1", Ok("alice")),
            ("10.0.0.2:1", Err(Refusal::AccountDisabled)),
            ("10.0.0.3:1", Err(Refusal::AccountDisabled)),
            ("10.0.0.4:1", Err(Refusal::Denied)),
        ] {
            let client = client.parse().unwrap();
            let found = addresses.verify(client, None).await;
            assert_eq!(found.as_ref().map(|account| account.name()).map_err(|refusal| *refusal), outcome);
            assert_eq!(addresses.known(client, None).is_some(), outcome.is_ok());
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "[0-9a-f:./]{0,24}", ip: u32, length in 0u8..=32) {
            if let Ok(net) = parse_network(&text) {
                prop_assert_eq!(parse_network(&net.to_string()), Ok(net));
            }
            let net = IpNet::new(IpAddr::V4(ip.into()), length).unwrap().trunc();
            prop_assert_eq!(parse_network(&net.to_string()), Ok(net));
        }
    }
}
