//! Who pays: identity, live limits, live usage.
//!
//! Invariant: an account's object outlives every change of its rates, so what holds it follows at once; a name that
//! is removed and added again is a new account.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwapOption;

use crate::cancel::Reason;
use crate::meter::{Direction, Limit, Payer, Tap};
use crate::secret::Secret;

/// Whether `name` may be an account's name (RFC 7617 §2): 1 to 255 bytes, no colon, no control characters.
///
/// # Errors
/// A sentence that says why not.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("the name is empty"),
        _ if name.len() > 255 => Err("the name is longer than 255 bytes"),
        _ if name.contains(':') => Err("the name has a colon, which HTTP logins cannot carry"),
        _ if name.chars().any(char::is_control) => Err("the name has a control character"),
        _ => Ok(()),
    }
}

/// A rate as an account states it, in bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountRate {
    /// None of its own: the layer's default.
    #[default]
    Default,
    /// No limit.
    Unlimited,
    /// So many bytes per second, at least 1.
    Limited(u64),
}

impl AccountRate {
    fn encode(self) -> u64 {
        match self {
            Self::Default => 0,
            Self::Unlimited => u64::MAX,
            Self::Limited(rate) => rate.clamp(1, u64::MAX - 1),
        }
    }

    fn decode(value: u64) -> Self {
        match value {
            0 => Self::Default,
            u64::MAX => Self::Unlimited,
            rate => Self::Limited(rate),
        }
    }
}

/// What a password is checked against; never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// A PHC string (argon2id).
    Hash(Secret),
    /// The password itself, as a file may state it.
    Clear(Secret),
}

impl Password {
    /// A PHC string as it is.
    pub fn hash(phc: impl Into<String>) -> Self {
        Self::Hash(Secret::new(phc))
    }
}

/// What a file or a row says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSpec {
    /// The store's number, if the account has a row.
    pub row: Option<i64>,
    /// Unique, case-sensitive.
    pub name: String,
    /// None: nobody can log in with a password.
    pub password: Option<Password>,
    /// Whether it may be used.
    pub enabled: bool,
    /// Client to target.
    pub up: AccountRate,
    /// Target to client.
    pub down: AccountRate,
    /// Its share where accounts share a cap; at least 1.
    pub weight: u32,
}

const ENABLED: u8 = 0;
const DISABLED: u8 = 1;
const REMOVED: u8 = 2;

/// One account of this process.
pub struct Account {
    key: u64,
    row: Option<i64>,
    name: Box<str>,
    state: AtomicU8,
    rates: Arc<Rates>,
    weight: Arc<AtomicU32>,
    password: ArcSwapOption<Password>,
    /// Bytes since this process started.
    pub usage: Arc<Tap>,
    /// Sessions opened since this process started.
    pub sessions: AtomicU64,
    limit: OnceLock<Arc<dyn Limit>>,
}

/// An account's live rates, apart from it, so that its limit can follow them without holding the account.
#[derive(Debug)]
pub struct Rates {
    up: AtomicU64,
    down: AtomicU64,
    defaults: Arc<Defaults>,
}

impl Rates {
    /// The rate that binds, in bytes per second; none is unlimited.
    pub fn effective(&self, direction: Direction) -> Option<u64> {
        let own = self.own(direction);
        let rate = if own == 0 { self.defaults.get(direction) } else { own };
        (rate != u64::MAX).then_some(rate)
    }

    fn own(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Up => self.up.load(Relaxed),
            Direction::Down => self.down.load(Relaxed),
        }
    }
}

/// The rates of accounts that state none; changed in place by `ratelimit`.
#[derive(Debug)]
pub struct Defaults {
    up: AtomicU64,
    down: AtomicU64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { up: AtomicU64::new(u64::MAX), down: AtomicU64::new(u64::MAX) }
    }
}

impl Defaults {
    /// Changes them; bytes per second, none is unlimited.
    pub fn set(&self, up: Option<u64>, down: Option<u64>) {
        self.up.store(up.unwrap_or(u64::MAX), Relaxed);
        self.down.store(down.unwrap_or(u64::MAX), Relaxed);
    }

    fn get(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Up => self.up.load(Relaxed),
            Direction::Down => self.down.load(Relaxed),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("row", &self.row).finish_non_exhaustive()
    }
}

impl Account {
    fn new(key: u64, spec: &AccountSpec, defaults: &Arc<Defaults>) -> Arc<Self> {
        let account = Self {
            key,
            row: spec.row,
            name: spec.name.as_str().into(),
            state: AtomicU8::new(ENABLED),
            rates: Arc::new(Rates {
                up: AtomicU64::new(0),
                down: AtomicU64::new(0),
                defaults: defaults.clone(),
            }),
            weight: Arc::new(AtomicU32::new(1)),
            password: ArcSwapOption::empty(),
            usage: Arc::default(),
            sessions: AtomicU64::new(0),
            limit: OnceLock::new(),
        };
        account.follow(spec);
        Arc::new(account)
    }

    /// Changes everything in place that may change.
    fn follow(&self, spec: &AccountSpec) {
        self.rates.up.store(spec.up.encode(), Relaxed);
        self.rates.down.store(spec.down.encode(), Relaxed);
        self.weight.store(spec.weight.max(1), Relaxed);
        self.state.store(if spec.enabled { ENABLED } else { DISABLED }, Relaxed);
        if self.password.load().as_deref() != spec.password.as_ref() {
            self.password.store(spec.password.clone().map(Arc::new));
        }
    }

    /// Its number in this process; never used again, never 0.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Its number in the store.
    pub fn row(&self) -> Option<i64> {
        self.row
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rate it states for that direction.
    pub fn rate(&self, direction: Direction) -> AccountRate {
        AccountRate::decode(self.rates.own(direction))
    }

    /// The rate it is held to, in bytes per second; none is unlimited.
    pub fn effective_rate(&self, direction: Direction) -> Option<u64> {
        self.rates.effective(direction)
    }

    /// Its live rates.
    pub fn rates(&self) -> &Arc<Rates> {
        &self.rates
    }

    /// Its share where accounts share a cap.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// In whose name its sessions take turns; follows its weight.
    pub(crate) fn payer(&self) -> Payer {
        Payer { key: self.key, weight: self.weight.clone() }
    }

    /// What its password is checked against.
    pub fn password(&self) -> Option<Arc<Password>> {
        self.password.load_full()
    }

    /// Why it may not be used, if so.
    pub fn barred(&self) -> Option<Reason> {
        match self.state.load(Relaxed) {
            DISABLED => Some(Reason::Disabled),
            REMOVED => Some(Reason::Removed),
            _ => None,
        }
    }

    /// The one limit that all its sessions share, made at its first.
    pub fn limit(&self, make: impl FnOnce() -> Arc<dyn Limit>) -> Arc<dyn Limit> {
        self.limit.get_or_init(make).clone()
    }
}

/// Where an account was declared; a file's word goes over a row's of the same name.
#[derive(Debug, Default)]
struct Entry {
    live: Option<Arc<Account>>,
    file: Option<AccountSpec>,
    row: Option<AccountSpec>,
}

/// Every account this node knows.
#[derive(Debug, Default)]
pub struct Accounts {
    inner: RwLock<Inner>,
    /// Rates of those that state none.
    pub defaults: Arc<Defaults>,
}

#[derive(Debug, Default)]
struct Inner {
    last_key: u64,
    by_name: HashMap<String, Entry>,
    names_by_row: HashMap<i64, String>,
}

impl Accounts {
    /// The account of that name, disabled ones too.
    pub fn get(&self, name: &str) -> Option<Arc<Account>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name)?.live.clone()
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_name.values().filter_map(|entry| entry.live.clone()).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_name.is_empty()
    }

    /// Replaces what the files declare. Returns the accounts that may no longer be used.
    pub fn set_file(&self, specs: Vec<AccountSpec>) -> Vec<(Arc<Account>, Reason)> {
        self.change(|inner| {
            let mut touched: Vec<String> = Vec::new();
            for (name, entry) in &mut inner.by_name {
                if entry.file.take().is_some() {
                    touched.push(name.clone());
                }
            }
            for spec in specs {
                touched.push(spec.name.clone());
                let entry = inner.by_name.entry(spec.name.clone()).or_default();
                entry.file = Some(spec);
            }
            touched
        })
    }

    /// Follows rows that were inserted or changed (with all: they are all there are), and rows that are gone.
    pub fn set_rows(&self, specs: Vec<AccountSpec>, gone: &[i64], all: bool) -> Vec<(Arc<Account>, Reason)> {
        self.change(|inner| {
            let mut gone = gone.to_vec();
            if all {
                let kept: HashSet<_> = specs.iter().filter_map(|spec| spec.row).collect();
                gone.extend(inner.names_by_row.keys().filter(|row| !kept.contains(row)));
            }
            // A renamed row leaves its old name.
            for spec in &specs {
                let Some(row) = spec.row else { continue };
                if inner.names_by_row.get(&row).is_some_and(|name| *name != spec.name) {
                    gone.push(row);
                }
            }
            let mut touched = Vec::new();
            for row in gone {
                let Some(name) = inner.names_by_row.remove(&row) else { continue };
                if let Some(entry) = inner.by_name.get_mut(&name)
                    && entry.row.as_ref().is_some_and(|spec| spec.row == Some(row))
                {
                    entry.row = None;
                }
                touched.push(name);
            }
            for spec in specs {
                touched.push(spec.name.clone());
                if let Some(row) = spec.row {
                    inner.names_by_row.insert(row, spec.name.clone());
                }
                let entry = inner.by_name.entry(spec.name.clone()).or_default();
                entry.row = Some(spec);
            }
            touched
        })
    }

    fn change(&self, edit: impl FnOnce(&mut Inner) -> Vec<String>) -> Vec<(Arc<Account>, Reason)> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let mut barred = Vec::new();
        for name in edit(inner) {
            let Some(entry) = inner.by_name.get_mut(&name) else { continue };
            let spec = entry.effective();
            let same =
                entry.live.as_ref().zip(spec.as_ref()).is_some_and(|(live, spec)| live.row == spec.row);
            if !same && let Some(old) = entry.live.take() {
                old.state.store(REMOVED, Relaxed);
                barred.push((old, Reason::Removed));
            }
            match (&entry.live, spec) {
                (_, None) => drop(inner.by_name.remove(&name)),
                (Some(live), Some(spec)) => {
                    live.follow(&spec);
                    barred.extend(live.barred().map(|reason| (live.clone(), reason)));
                }
                (None, Some(spec)) => {
                    inner.last_key += 1;
                    entry.live = Some(Account::new(inner.last_key, &spec, &self.defaults));
                }
            }
        }
        barred
    }
}

impl Entry {
    /// The file's word, with the row's number so that usage finds its row.
    fn effective(&self) -> Option<AccountSpec> {
        let row = self.row.as_ref().and_then(|spec| spec.row);
        match &self.file {
            Some(file) => Some(AccountSpec { row, ..file.clone() }),
            None => self.row.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(row: Option<i64>, name: &str, down: u64) -> AccountSpec {
        AccountSpec {
            row,
            name: name.into(),
            password: None,
            enabled: true,
            up: AccountRate::Default,
            down: AccountRate::Limited(down),
            weight: 1,
        }
    }

    #[test]
    fn rates_change_in_place() {
        let accounts = Accounts::default();
        accounts.set_rows(vec![spec(Some(1), "alice", 10)], &[], true);
        let alice = accounts.get("alice").unwrap();
        assert!(accounts.set_rows(vec![spec(Some(1), "alice", 20)], &[], false).is_empty());
        assert_eq!(alice.rate(Direction::Down), AccountRate::Limited(20));
        assert!(Arc::ptr_eq(&alice, &accounts.get("alice").unwrap()));
    }

    #[test]
    fn a_removed_name_that_returns_is_another_account() {
        let accounts = Accounts::default();
        accounts.set_rows(vec![spec(Some(1), "alice", 10)], &[], true);
        let old = accounts.get("alice").unwrap();
        let barred = accounts.set_rows(vec![spec(Some(2), "alice", 10)], &[1], false);
        assert_eq!(barred.len(), 1);
        assert_eq!(old.barred(), Some(Reason::Removed));
        assert_ne!(accounts.get("alice").unwrap().key(), old.key());
    }

    #[test]
    fn the_file_goes_over_the_row_of_the_same_name() {
        let accounts = Accounts::default();
        accounts.set_rows(vec![spec(Some(1), "alice", 10)], &[], true);
        let alice = accounts.get("alice").unwrap();
        accounts.set_file(vec![spec(None, "alice", 99)]);
        assert_eq!(alice.rate(Direction::Down), AccountRate::Limited(99));
        accounts.set_file(Vec::new());
        assert_eq!(alice.rate(Direction::Down), AccountRate::Limited(10));
        assert_eq!(alice.barred(), None);
    }

    #[test]
    fn a_renamed_row_ends_the_old_name() {
        let accounts = Accounts::default();
        accounts.set_rows(vec![spec(Some(1), "alice", 10)], &[], true);
        let barred = accounts.set_rows(vec![spec(Some(1), "bob", 10)], &[], false);
        assert_eq!(barred.first().map(|(_, reason)| *reason), Some(Reason::Removed));
        assert!(accounts.get("alice").is_none() && accounts.get("bob").is_some());
    }

    #[test]
    fn disabling_bars_and_enabling_lets_in_again() {
        let accounts = Accounts::default();
        accounts.set_rows(vec![spec(Some(1), "alice", 10)], &[], true);
        let disabled = AccountSpec { enabled: false, ..spec(Some(1), "alice", 10) };
        assert_eq!(accounts.set_rows(vec![disabled], &[], false).len(), 1);
        accounts.set_rows(vec![spec(Some(1), "alice", 10)], &[], false);
        assert_eq!(accounts.get("alice").unwrap().barred(), None);
    }
}
