//! What one connection's talk needs, whatever the protocol: whose it is, and how a session is opened for it.
//!
//! Invariant: a client keeps its [`Pass`] until it has shown that it may be here, so that those who have not
//! stay under the caps on handshakes, however long their connection lasts.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::Account;
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::error::Refusal;
use swiftproxy_core::listener::Listener;
use swiftproxy_core::live::Live;
use swiftproxy_core::opened::Opened;
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use swiftproxy_core::target::Target;
use swiftproxy_wire::basic;
use tower::Service;

use crate::config::Settings;
use crate::gate::Pass;

/// A session on its way down the stack.
type Dial = BoxFuture<Result<Opened, Refusal>>;

/// One client connection's surroundings.
pub(crate) struct Context {
    /// The layers below, as they are at the moment of each call.
    pub(crate) stack: Stack,
    /// Who accepted it.
    pub(crate) listener: Arc<Listener>,
    /// Where the client is.
    pub(crate) client: SocketAddr,
    /// Who knows the accounts, where somebody does.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// The layer's own.
    pub(crate) settings: Arc<Settings>,
    /// Given back once the client has shown that it may be here.
    pub(crate) pass: Mutex<Option<Pass>>,
}

impl Context {
    /// Opens a session: admits it, sends it down the stack, and answers when its target is connected. `account` is
    /// who pays, where the protocol logged in before; otherwise `credentials` say who asks.
    ///
    /// # Errors
    /// Why not; it is counted already.
    pub(crate) fn open(
        &self,
        protocol: &'static str,
        target: Target,
        credentials: Option<Credentials>,
        account: Option<Arc<Account>>,
    ) -> impl Future<Output = Result<Opened, Refusal>> + Send + '_ {
        // Begun here and not in the future, which would keep room for all of it.
        let begun = self.begin(protocol, target, credentials, account);
        async move {
            let (live, dial) = begun?;
            let opened = tokio::select! {
                biased;
                opened = dial => opened,
                reason = live.cancel.fired() => {
                    live.set_outcome(reason.label());
                    Err(self.count(refusal_of(reason)))
                }
            };
            if !matches!(opened, Err(Refusal::AuthRequired | Refusal::AuthFailed)) {
                self.prove();
            }
            opened
        }
    }

    /// Admits a session and starts it down the stack.
    fn begin(
        &self,
        protocol: &'static str,
        target: Target,
        credentials: Option<Credentials>,
        account: Option<Arc<Account>>,
    ) -> Result<(Arc<Live>, Dial), Refusal> {
        let mut session = Session::admit(&self.listener, self.client, protocol, target)?;
        let known = || self.authenticator.as_ref()?.known(self.client, credentials.as_ref());
        match account.or_else(known) {
            Some(account) => {
                self.prove();
                session.set_account(account);
            }
            None => session.credentials = credentials,
        }
        if self.authenticator.is_none() {
            self.prove();
        }
        Ok((session.live().clone(), self.stack.clone().call(session)))
    }

    /// Who the client of a request says it is; what cannot be read counts only where somebody asks for it.
    pub(crate) fn credentials(&self, headers: &HeaderMap) -> Result<Option<Credentials>, Refusal> {
        basic::from_headers(headers).or_else(|error| {
            let asked = self.authenticator.as_ref().is_some_and(|auth| auth.wants_password(self.client));
            if asked { Err(error.into()) } else { Ok(None) }
        })
    }

    /// Counts a refusal that no layer below has counted.
    pub(crate) fn count(&self, refusal: Refusal) -> Refusal {
        self.listener.node().count_refusal(refusal);
        refusal
    }

    /// Says that the client may be here; it leaves the handshakes in flight.
    pub(crate) fn prove(&self) {
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the client has shown that it may be here.
    pub(crate) fn is_proven(&self) -> bool {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// What a client hears whose session was ended while it waited.
pub(crate) fn refusal_of(reason: Reason) -> Refusal {
    match reason {
        Reason::Kicked | Reason::Denied => Refusal::Denied,
        Reason::Disabled => Refusal::AccountDisabled,
        Reason::Removed => Refusal::AuthFailed,
        Reason::Shutdown => Refusal::Draining,
        Reason::Idle => Refusal::Timeout,
    }
}
