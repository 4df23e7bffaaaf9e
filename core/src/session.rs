//! One thing a client asked for, with everything that was learnt about it on the way through the stack.
//!
//! Invariant: whatever a session holds (its slots, its line among the live ones, what layers hung on it) is given
//! back when it is dropped.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::account::Account;
use crate::credentials::Credentials;
use crate::error::Refusal;
use crate::listener::{Listener, Slot};
use crate::live::Live;
use crate::meter::Meter;
use crate::node::Node;
use crate::target::Target;

/// Judges the address that is about to be dialled.
pub trait AddressRule: Send + Sync {
    /// Whether `target`, which resolved to `addr`, may be dialled there.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, target: &Target, addr: SocketAddr) -> Result<(), Refusal>;
}

/// A session on its way through the stack, and while it is piped.
pub struct Session {
    /// Limits and taps.
    pub meter: Meter,
    /// What the client sent along to say who it is, until `auth` has taken it.
    pub credentials: Option<Credentials>,
    account: Option<Arc<Account>>,
    rules: Vec<Arc<dyn AddressRule>>,
    guards: Vec<Box<dyn Any + Send>>,
    copy: Option<&'static str>,
    listed: Listed,
    _slots: (Slot, Slot),
}

impl Session {
    /// Admits a session to a listener.
    ///
    /// # Errors
    /// [`Refusal::TooManyConnections`] where the listener or the node is full, [`Refusal::Draining`].
    pub fn admit(
        listener: &Arc<Listener>,
        client: SocketAddr,
        protocol: &'static str,
        target: Target,
    ) -> Result<Self, Refusal> {
        let node = listener.node();
        let refused = |refusal| {
            node.count_refusal(refusal);
            refusal
        };
        if node.is_draining() {
            return Err(refused(Refusal::Draining));
        }
        let slots = (|| Some((listener.slots().take()?, node.slots().take()?)))()
            .ok_or_else(|| refused(Refusal::TooManyConnections))?;
        let live = Arc::new(Live::new(node.sessions.next_id(), client, listener.clone(), protocol, target));
        node.sessions.add(&live);
        let mut meter = Meter::default();
        meter.tap(live.bytes.clone());
        Ok(Self {
            meter,
            credentials: None,
            account: None,
            rules: Vec::new(),
            guards: Vec::new(),
            copy: None,
            listed: Listed { node: node.clone(), live },
            _slots: slots,
        })
    }

    /// What others see of it.
    pub fn live(&self) -> &Arc<Live> {
        &self.listed.live
    }

    /// What the client asked for.
    pub fn target(&self) -> &Target {
        &self.listed.live.target
    }

    /// Where the client is.
    pub fn client(&self) -> SocketAddr {
        self.listed.live.client
    }

    /// Who pays, once known.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Says who pays. Once; whoever asks for a turn at a shared limit asks in the account's name.
    pub fn set_account(&mut self, account: Arc<Account>) {
        self.meter.set_payer(account.payer());
        let _ = self.listed.live.account.set(account.clone());
        self.account = Some(account);
    }

    /// Has every address judged before it is dialled.
    pub fn judge_addresses(&mut self, rule: Arc<dyn AddressRule>) {
        self.rules.push(rule);
    }

    /// Whether that address may be dialled; who dials asks.
    ///
    /// # Errors
    /// The first rule's word against it; [`Refusal::Loop`] for a listener of our own.
    pub fn check_address(&self, addr: SocketAddr) -> Result<(), Refusal> {
        if self.listed.node.is_own(addr) {
            return Err(Refusal::Loop);
        }
        self.rules.iter().try_for_each(|rule| rule.check(self.target(), addr))
    }

    /// Keeps `guard` until the session ends.
    pub fn hold(&mut self, guard: impl Any + Send) {
        self.guards.push(Box::new(guard));
    }

    /// Says that bytes must pass through memory of ours, and why (logged).
    pub fn require_copy(&mut self, why: &'static str) {
        self.copy.get_or_insert(why);
    }

    /// Why bytes must pass through memory of ours, if they must.
    pub fn must_copy(&self) -> Option<&'static str> {
        self.copy
    }
}

/// A session's line among the live ones.
struct Listed {
    node: Arc<Node>,
    live: Arc<Live>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.node.sessions.remove(self.live.id);
    }
}
