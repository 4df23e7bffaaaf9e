//! What was counted, what of it is stored, and in which hour it belongs. Knows no SQL and no clock.
//!
//! Invariants: a user's hours add up to what its accounts counted; an hour that was left is never entered again,
//! whatever the clock says; an account that is gone is counted until nobody else holds it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use swiftproxy_core::account::{Account, Accounts};
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::meter::Direction;

use crate::usage::{Counts, UsageRow};

/// Hours that one user may have waiting for a store that is away; after that the last one takes the rest.
const WAITING_HOURS: usize = 7 * 24;

/// All users with a row.
#[derive(Default)]
pub(crate) struct Ledger {
    hour: i64,
    users: HashMap<i64, Entry>,
}

/// One user. A row that was renamed has been several accounts.
#[derive(Default)]
struct Entry {
    accounts: Vec<Arc<Account>>,
    /// Of accounts that nobody holds any more.
    gone: Counts,
    /// All that was counted, when last looked at.
    seen: Counts,
    hour: i64,
    /// What the hours before `hour` hold.
    earlier: Counts,
    /// What the store holds for `hour`.
    stored: Counts,
    /// Hours that were left before the store had them.
    waiting: Vec<(i64, Counts)>,
}

impl Ledger {
    /// Follows the account, if it has a row.
    pub(crate) fn track(&mut self, account: &Arc<Account>) {
        let Some(row) = account.row() else { return };
        let hour = self.hour;
        let entry = self.users.entry(row).or_insert_with(|| Entry { hour, ..Entry::default() });
        if !entry.accounts.iter().any(|known| Arc::ptr_eq(known, account)) {
            entry.accounts.push(account.clone());
        }
    }

    /// Looks at every counter. `hour` may lie before the last one: then the last one goes on.
    pub(crate) fn observe(&mut self, hour: i64) {
        self.hour = self.hour.max(hour);
        let hour = self.hour;
        self.users.retain(|_, entry| {
            entry.observe(hour);
            !entry.is_over()
        });
    }

    /// What the store does not have yet.
    pub(crate) fn due(&self) -> Vec<UsageRow> {
        let mut due = Vec::new();
        for (&user, entry) in &self.users {
            due.extend(entry.waiting.iter().map(|&(hour, counts)| UsageRow { user, hour, counts }));
            let counts = entry.current();
            if counts != entry.stored {
                due.push(UsageRow { user, hour: entry.hour, counts });
            }
        }
        due.sort_unstable_by_key(|row| (row.user, row.hour));
        due
    }

    /// The store has these now.
    pub(crate) fn wrote(&mut self, rows: &[UsageRow]) {
        for row in rows {
            let Some(entry) = self.users.get_mut(&row.user) else { continue };
            if row.hour == entry.hour {
                entry.stored = row.counts;
            } else {
                entry.waiting.retain(|&(hour, _)| hour != row.hour);
            }
        }
    }

    /// The store, as just opened, holds `rows` of this process: what it lacks of the hours before goes into the current one.
    pub(crate) fn rebase(&mut self, rows: &[UsageRow]) {
        for entry in self.users.values_mut() {
            entry.earlier =
                entry.waiting.iter().fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts));
            entry.stored = Counts::default();
        }
        for row in rows {
            let Some(entry) = self.users.get_mut(&row.user) else { continue };
            if row.hour == entry.hour {
                entry.stored = row.counts;
            } else if !entry.waiting.iter().any(|&(hour, _)| hour == row.hour) {
                entry.earlier = entry.earlier.plus(row.counts);
            }
        }
    }

    /// Another store lies there: an id of the old one means the same user only if the account lived on.
    pub(crate) fn keep_living(&mut self, accounts: &Accounts) {
        self.users.retain(|_, entry| {
            entry.accounts.iter().any(|account| {
                account.barred() != Some(Reason::Removed)
                    && accounts.get(account.name()).is_some_and(|lives| Arc::ptr_eq(&lives, account))
            })
        });
    }
}

impl Entry {
    fn observe(&mut self, hour: i64) {
        // What was counted since the last look goes into the hour that begins.
        if hour > self.hour {
            let counts = self.current();
            if counts == self.stored {
                self.leave(hour);
            } else if self.waiting.len() < WAITING_HOURS {
                self.waiting.push((self.hour, counts));
                self.leave(hour);
            }
        }
        let mut live = Counts::default();
        let gone = &mut self.gone;
        self.accounts.retain_mut(|account| {
            let ended = account.barred() == Some(Reason::Removed) && nobody_else_holds(account);
            let counts = counts_of(account);
            let sum = if ended { &mut *gone } else { &mut live };
            *sum = sum.plus(counts);
            !ended
        });
        self.seen = self.gone.plus(live);
    }

    fn leave(&mut self, hour: i64) {
        self.earlier = self.seen;
        self.stored = Counts::default();
        self.hour = hour;
    }

    fn current(&self) -> Counts {
        self.seen.minus(self.earlier)
    }

    /// Nothing can come any more, and nothing that was written can be written again: its hour was left.
    fn is_over(&self) -> bool {
        self.accounts.is_empty()
            && self.waiting.is_empty()
            && self.current() == Counts::default()
            && self.stored == Counts::default()
    }
}

fn counts_of(account: &Account) -> Counts {
    Counts {
        up: account.usage.total(Direction::Up),
        down: account.usage.total(Direction::Down),
        sessions: account.sessions.load(Relaxed),
    }
}

/// Whether no session can count for it any more; then all that it counted is visible here.
fn nobody_else_holds(account: &mut Arc<Account>) -> bool {
    Arc::get_mut(account).is_some_and(|account| Arc::get_mut(&mut account.usage).is_some())
}

#[cfg(test)]
#[path = "tests/ledger.rs"]
mod tests;
