//! Names and passwords, verified against the node's accounts.
//!
//! Invariant: what a wrong password costs and how long it takes says nothing of whether the name exists; a right one
//! waits for nothing but its hash and other attempts at its own name from its own address.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use swiftproxy_core::BoxFuture;
use swiftproxy_core::account::{Account, Accounts, Password};
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::credentials::{Authenticator, Credentials};
use swiftproxy_core::error::{BuildError, Refusal};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::failures::Failures;
use crate::flights::{Attempt, Flights, Outcome, Seat};
use crate::phc::Hash;
use crate::print::PrintKey;
use crate::queue::{Queue, Work};

/// What outlives reloads: who was verified, who failed, what is under way.
pub(crate) struct State {
    accounts: Arc<Accounts>,
    key: PrintKey,
    names: RandomState,
    cache: Cache,
    failures: Failures,
    flights: Flights,
    queue: Arc<Queue>,
}

/// Asks every client for a name and a password.
#[derive(Clone)]
pub(crate) struct Passwords(Arc<State>);

/// An account that was found, if it may be used.
pub(crate) fn usable(account: Arc<Account>) -> Outcome {
    match account.barred() {
        None => Ok(account),
        Some(Reason::Removed) => Err(Refusal::AuthFailed),
        Some(_) => Err(Refusal::AccountDisabled),
    }
}

impl State {
    /// # Errors
    /// The system has no randomness to give.
    pub(crate) fn new(accounts: Arc<Accounts>) -> Result<Self, BuildError> {
        Ok(Self {
            accounts,
            key: PrintKey::random()?,
            names: RandomState::new(),
            cache: Cache::default(),
            failures: Failures::default(),
            flights: Flights::default(),
            queue: Arc::default(),
        })
    }

    /// One attempt from start to end. It goes on when the client is gone, so that a wrong guess takes as long for
    /// who does not wait for the answer.
    async fn fly(self: Arc<Self>, attempt: Attempt, credentials: Credentials, seat: Seat) {
        let _turn = seat.gate.lock().await;
        if self.flights.abandon(&attempt, &seat) {
            return;
        }
        let outcome = match self.cache.get(&attempt.print) {
            Some(account) => usable(account),
            None => self.check(&attempt, credentials).await,
        };
        if outcome.as_ref().err() == Some(&Refusal::AuthFailed) {
            tokio::time::sleep(self.failures.count(attempt.origin, attempt.name, Instant::now())).await;
        }
        self.flights.land(&attempt, &seat, outcome);
    }

    async fn check(&self, attempt: &Attempt, credentials: Credentials) -> Outcome {
        let account = self.accounts.get(&credentials.name);
        let row = account.as_ref().and_then(|account| account.password());
        let hash = match row.as_deref() {
            Some(Password::Clear(password)) => {
                if self.key.matches(&attempt.print, &credentials.name, password) {
                    None
                } else {
                    Some(Hash::dummy())
                }
            }
            Some(Password::Hash(phc)) => Some(Hash::parse(phc.expose()).or_else(|error| {
                tracing::warn!(account = %credentials.name, "the account's password hash cannot be used: {error}");
                Hash::dummy()
            })),
            None => Some(Hash::dummy()),
        };
        if let Some(hash) = hash {
            let hash = hash.map_err(|_| Refusal::Internal)?;
            let work = Work { print: attempt.print, row: row.clone(), hash, password: credentials.password };
            match self.queue.verify(attempt.origin, work).await {
                Some(true) => {}
                Some(false) => return Err(Refusal::AuthFailed),
                None => return Err(Refusal::Internal),
            }
        }
        let (Some(account), Some(row)) = (account, row) else { return Err(Refusal::AuthFailed) };
        self.cache.insert(attempt.print, account.clone(), row);
        usable(account)
    }
}

impl Passwords {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self(state)
    }
}

impl Authenticator for Passwords {
    fn wants_password(&self, _: SocketAddr) -> bool {
        true
    }

    fn known(&self, _: SocketAddr, credentials: Option<&Credentials>) -> Option<Arc<Account>> {
        let Credentials { name, password } = credentials?;
        let account = self.0.cache.get(&self.0.key.print(name, password))?;
        account.barred().is_none().then_some(account)
    }

    fn verify(&self, client: SocketAddr, credentials: Option<Credentials>) -> BoxFuture<Outcome> {
        let Some(credentials) = credentials else {
            return Box::pin(std::future::ready(Err(Refusal::AuthRequired)));
        };
        let state = self.0.clone();
        let print = state.key.print(&credentials.name, &credentials.password);
        if let Some(account) = state.cache.get(&print) {
            return Box::pin(std::future::ready(usable(account)));
        }
        let name = state.names.hash_one(&credentials.name);
        let attempt = Attempt { origin: client.ip().into(), print, name };
        Box::pin(async move {
            let flight = state.clone();
            let start = move |seat| tokio::spawn(flight.fly(attempt, credentials, seat)).abort_handle();
            state.flights.join(attempt, start).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use swiftproxy_core::account::AccountSpec;

    use super::*;
    use crate::tests::{clear, credentials, disabled, hashed};

    fn passwords(specs: Vec<AccountSpec>) -> (Arc<Accounts>, Passwords) {
        let accounts = Arc::new(Accounts::default());
        accounts.set_file(specs);
        let state = State::new(accounts.clone()).unwrap();
        (accounts, Passwords::new(Arc::new(state)))
    }

    fn from(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 1))
    }

    async fn login(passwords: &Passwords, last: u8, name: &str, password: &str) -> Result<String, Refusal> {
        let outcome = passwords.verify(from(last), Some(credentials(name, password))).await;
        outcome.map(|account| account.name().to_owned())
    }

    #[tokio::test]
    async fn right_and_wrong() {
        let (_, passwords) = passwords(vec![clear("alice", "a"), hashed("bob", "b"), disabled("eve", "e")]);
        assert_eq!(login(&passwords, 1, "alice", "a").await.as_deref(), Ok("alice"));
        assert_eq!(login(&passwords, 2, "bob", "b").await.as_deref(), Ok("bob"));
        for (n, (name, password)) in
            [("alice", "b"), ("bob", "a"), ("Bob", "b"), ("carol", ""), ("eve", "x")].into_iter().enumerate()
        {
            assert_eq!(
                login(&passwords, 10 + n as u8, name, password).await,
                Err(Refusal::AuthFailed),
                "{name}"
            );
        }
        assert_eq!(login(&passwords, 3, "eve", "e").await, Err(Refusal::AccountDisabled));
        let none = passwords.verify(from(1), None).await;
        assert_eq!(none.err(), Some(Refusal::AuthRequired));
    }

    #[tokio::test]
    async fn a_known_credential_holds_until_its_row_changes() {
        let (accounts, passwords) = passwords(vec![hashed("alice", "a")]);
        let a = credentials("alice", "a");
        assert!(passwords.known(from(1), Some(&a)).is_none(), "not yet");
        login(&passwords, 1, "alice", "a").await.unwrap();
        assert!(passwords.known(from(2), Some(&a)).is_some());
        accounts.set_file(vec![disabled("alice", "a")]);
        assert!(passwords.known(from(2), Some(&a)).is_none());
        accounts.set_file(vec![hashed("alice", "b")]);
        assert!(passwords.known(from(2), Some(&a)).is_none());
        assert_eq!(login(&passwords, 1, "alice", "a").await, Err(Refusal::AuthFailed));
        accounts.set_file(Vec::new());
        assert_eq!(login(&passwords, 2, "alice", "b").await, Err(Refusal::AuthFailed));
    }

    #[tokio::test]
    async fn a_hash_nobody_can_use_lets_nobody_in() {
        let mut broken = clear("alice", "a");
        broken.password =
            Some(Password::hash("$argon2id$v=19$m=4194304,t=9,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAA"));
        let mut none = clear("bob", "");
        none.password = None;
        let (_, passwords) = passwords(vec![broken, none]);
        assert_eq!(login(&passwords, 1, "alice", "a").await, Err(Refusal::AuthFailed));
        assert_eq!(login(&passwords, 2, "bob", "").await, Err(Refusal::AuthFailed));
    }

    #[tokio::test]
    async fn a_guesser_waits_and_locks_nobody_out() {
        let (_, passwords) = passwords(vec![clear("alice", "a")]);
        tokio::time::pause();
        let start = Instant::now();
        let guesses: Vec<_> = (0..50)
            .map(|n| {
                let passwords = passwords.clone();
                tokio::spawn(async move {
                    let outcome = login(&passwords, 1, "alice", &format!("guess {n}")).await;
                    (outcome, Instant::now())
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(login(&passwords, 2, "alice", "a").await.as_deref(), Ok("alice"));
        assert!(start.elapsed() < Duration::from_secs(1), "alice got in at once");
        let mut last = start;
        for guess in guesses {
            let (outcome, when) = guess.await.unwrap();
            assert_eq!(outcome, Err(Refusal::AuthFailed));
            last = last.max(when);
        }
        let took = last.duration_since(start);
        assert!(
            took > Duration::from_secs(44 * 4),
            "fifty guesses at once are one after the other: {took:?}"
        );
    }

    #[tokio::test]
    async fn a_thousand_users_return_at_once() {
        // A cheap hash: this is about the way there. Ours take about 14 ms of a processor each.
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let specs = (0..1000)
            .map(|n| AccountSpec { password: Some(Password::hash(hash)), ..clear(&format!("u{n}"), "") })
            .collect();
        let (_, passwords) = passwords(specs);
        let start = Instant::now();
        let logins: Vec<_> = (0..1000)
            .map(|n| {
                let passwords = passwords.clone();
                tokio::spawn(
                    async move { login(&passwords, (n % 200) as u8, &format!("u{n}"), "password").await },
                )
            })
            .collect();
        for login in logins {
            assert!(login.await.unwrap().is_ok());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
