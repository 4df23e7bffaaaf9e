//! The layer in a stack: a session goes on with its account, or not at all.
//!
//! Invariant: what is inside never sees a session without an account that may be used; credentials stop here.

use std::sync::Arc;
use std::task::{Context, Poll};

use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::Account;
use swiftproxy_core::credentials::Authenticator;
use swiftproxy_core::error::Refusal;
use swiftproxy_core::opened::Opened;
use swiftproxy_core::session::Session;
use swiftproxy_core::stack::Stack;
use tower::{Layer, Service};

use crate::password::usable;

/// Puts [`Auth`] over what is inside.
#[derive(Clone)]
pub struct AuthLayer {
    pub(crate) authenticator: Arc<dyn Authenticator>,
}

impl Layer<Stack> for AuthLayer {
    type Service = Auth;

    fn layer(&self, inner: Stack) -> Auth {
        Auth { authenticator: self.authenticator.clone(), inner }
    }
}

/// Asks who a session is, unless its protocol's own login has settled that.
#[derive(Clone)]
pub struct Auth {
    authenticator: Arc<dyn Authenticator>,
    inner: Stack,
}

impl Service<Session> for Auth {
    type Response = Opened;
    type Error = Refusal;
    type Future = BoxFuture<Result<Opened, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut session: Session) -> Self::Future {
        let credentials = session.credentials.take();
        if let Some(account) = session.account().cloned() {
            return admit(&mut self.inner, session, account);
        }
        if let Some(account) = self.authenticator.known(session.client(), credentials.as_ref()) {
            return admit(&mut self.inner, session, account);
        }
        let verdict = self.authenticator.verify(session.client(), credentials);
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let account = verdict.await?;
            admit(&mut inner, session, account).await
        })
    }
}

fn admit(
    inner: &mut Stack,
    mut session: Session,
    account: Arc<Account>,
) -> BoxFuture<Result<Opened, Refusal>> {
    if session.account().is_none() {
        session.set_account(account.clone());
    }
    // Looked at after the session carries it: from here on a change ends the session, before it this look sees it.
    match usable(account) {
        Ok(_) => inner.call(session),
        Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
    }
}
