//! The entries together: what they say of a target, and of the address it resolved to.
//!
//! Invariant: an address is judged as it is dialled, whatever it was called; no entry by name opens an address that an
//! entry by address denies.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Recheck;
use swiftproxy_core::live::Live;
use swiftproxy_core::session::AddressRule;
use swiftproxy_core::target::{Host, Target};

use crate::name;
use crate::ports::Ports;
use crate::private::{embedded, is_private};
use crate::rule::{Rule, Subject};

/// One list, sorted by what its entries are about.
#[derive(Debug, Default)]
struct List {
    names: HashMap<Box<str>, Vec<Ports>>,
    suffixes: HashMap<Box<str>, Vec<Ports>>,
    nets: Vec<(IpNet, Ports)>,
    private: Vec<Ports>,
    any: Vec<Ports>,
}

fn holds(ports: &[Ports], port: u16) -> bool {
    ports.iter().any(|ports| ports.contain(port))
}

impl List {
    fn new(rules: Vec<Rule>) -> Self {
        let mut list = Self::default();
        for Rule { subject, ports } in rules {
            match subject {
                Subject::Any => list.any.push(ports),
                Subject::Private => list.private.push(ports),
                Subject::Net(net) => list.nets.push((net, ports)),
                Subject::Name(name) => list.names.entry(name).or_default().push(ports),
                Subject::Suffix(name) => list.suffixes.entry(name).or_default().push(ports),
            }
        }
        list
    }

    /// By name; `name` is in its normal spelling.
    fn name(&self, name: &str, port: u16) -> bool {
        if self.names.get(name).is_some_and(|ports| holds(ports, port)) {
            return true;
        }
        let below = std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest));
        !self.suffixes.is_empty()
            && below.into_iter().any(|name| self.suffixes.get(name).is_some_and(|ports| holds(ports, port)))
    }

    /// By address, as it is written. `ip` is canonical.
    fn address(&self, ip: IpAddr, port: u16) -> bool {
        self.nets.iter().any(|(net, ports)| ports.contain(port) && net.contains(&ip))
            || (holds(&self.private, port) && is_private(ip))
    }

    /// By address, in whatever IPv4 address it may be turned into too.
    fn address_or_embedded(&self, ip: IpAddr, port: u16) -> bool {
        self.address(ip, port)
            || match ip {
                IpAddr::V6(ip) => embedded(ip).any(|ip| self.address(ip.into(), port)),
                IpAddr::V4(_) => false,
            }
    }

    fn has_address_for(&self, port: u16) -> bool {
        holds(&self.private, port) || self.nets.iter().any(|(_, ports)| ports.contain(port))
    }
}

/// What a target's own words settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    /// It may go on; its address is judged when it is dialled.
    Pass,
    /// Only an allowed address may save it: nothing but its dialling can tell.
    IfAddressAllowed,
}

/// Both lists and the default.
#[derive(Debug)]
pub(crate) struct Rules {
    allow: List,
    deny: List,
    default_allow: bool,
}

impl Rules {
    pub(crate) fn new(allow: Vec<Rule>, deny: Vec<Rule>, default_allow: bool) -> Self {
        Self { allow: List::new(allow), deny: List::new(deny), default_allow }
    }

    /// Judges what the client asked for.
    pub(crate) fn early(&self, target: &Target) -> Result<Early, Refusal> {
        let name = match literal(&target.host) {
            Ok(ip) => {
                let addr = SocketAddr::new(ip, target.port);
                return self.address(target, addr).map(|()| Early::Pass);
            }
            Err(name) => name,
        };
        let name = name::normal(name);
        if self.allow.name(&name, target.port) {
            return Ok(Early::Pass);
        }
        if self.deny.name(&name, target.port) {
            return Err(Refusal::Denied);
        }
        match self.any(target.port) {
            Ok(()) => Ok(Early::Pass),
            Err(_) if self.allow.has_address_for(target.port) => Ok(Early::IfAddressAllowed),
            Err(refusal) => Err(refusal),
        }
    }

    /// Judges the address that is dialled for `target`.
    pub(crate) fn address(&self, target: &Target, addr: SocketAddr) -> Result<(), Refusal> {
        let (ip, port) = (addr.ip().to_canonical(), addr.port());
        if self.allow.address(ip, port) {
            return Ok(());
        }
        if self.deny.address_or_embedded(ip, port) {
            return Err(Refusal::DeniedAddress);
        }
        if self.name_allowed(target) { Ok(()) } else { self.any(port) }
    }

    /// The `*` entries, then the default.
    fn any(&self, port: u16) -> Result<(), Refusal> {
        let allowed = holds(&self.allow.any, port) || (self.default_allow && !holds(&self.deny.any, port));
        if allowed { Ok(()) } else { Err(Refusal::Denied) }
    }

    fn name_allowed(&self, target: &Target) -> bool {
        match literal(&target.host) {
            Ok(_) => false,
            Err(name) => self.allow.name(&name::normal(name), target.port),
        }
    }
}

/// The address that a host is another spelling of, or else its name.
fn literal(host: &Host) -> Result<IpAddr, &str> {
    match host {
        Host::Ip(ip) => Ok(*ip),
        Host::Domain(name) => {
            // A literal with a dot at its end is a name to who parses targets, and an address to who resolves.
            let bare = name.trim_end_matches('.');
            bare.parse().ok().or_else(|| name::number(name).map(IpAddr::V4)).ok_or(name)
        }
    }
}

impl AddressRule for Rules {
    fn check(&self, target: &Target, addr: SocketAddr) -> Result<(), Refusal> {
        self.address(target, addr)
    }
}

impl Recheck for Rules {
    fn check(&self, live: &Live) -> Result<(), Refusal> {
        match (self.early(&live.target)?, live.dialled()) {
            (_, Some(addr)) => self.address(&live.target, addr),
            (Early::Pass, None) => Ok(()),
            // Still being dialled, or dialled by someone else: only an address could have saved it.
            (Early::IfAddressAllowed, None) => Err(Refusal::Denied),
        }
    }
}
