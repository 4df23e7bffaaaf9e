//! Who a client says it is, and the one who knows.
//!
//! Invariant: a login step of a protocol's own and credentials that come with a request end in the same code.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::BoxFuture;
use crate::account::Account;
use crate::error::Refusal;
use crate::secret::Secret;

/// A name and a password, as the client sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Case-sensitive.
    pub name: Box<str>,
    /// Never printed.
    pub password: Secret,
}

/// What `auth` publishes in the [`Build`](crate::registry::Build) for protocols that log in before a target is known.
pub trait Authenticator: Send + Sync {
    /// Whether a client from there must send a name and a password.
    fn wants_password(&self, client: SocketAddr) -> bool;

    /// The account at once, where these credentials were verified before and still hold.
    fn known(&self, client: SocketAddr, credentials: Option<&Credentials>) -> Option<Arc<Account>>;

    /// The account, or why there is none.
    fn verify(
        &self,
        client: SocketAddr,
        credentials: Option<Credentials>,
    ) -> BoxFuture<Result<Arc<Account>, Refusal>>;
}
