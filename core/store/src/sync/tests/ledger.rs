//! Whatever clock, store and admin do: nothing is counted twice, and nothing is lost in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use swiftproxy_core::account::{Account, AccountRate, AccountSpec, Accounts};
use swiftproxy_core::meter::Direction;

use super::Ledger;
use crate::usage::{Counts, UsageRow};

#[derive(Debug, Clone)]
enum Event {
    Count(u8, u64),
    Hour(i64),
    /// Whether the store took it, and whether it said so.
    Write(bool, bool),
    Rename(u8),
    Remove(u8),
    Backup,
    Restore,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_u8, 1..1000_u64).prop_map(|(user, n)| Event::Count(user, n)),
        3 => (-2..5_i64).prop_map(Event::Hour),
        6 => any::<(bool, bool)>().prop_map(|(takes, says)| Event::Write(takes, says)),
        1 => (0..3_u8).prop_map(Event::Rename),
        1 => (0..3_u8).prop_map(Event::Remove),
        1 => Just(Event::Backup),
        1 => Just(Event::Restore),
    ]
}

struct World {
    accounts: Accounts,
    ledger: Ledger,
    names: [u32; 3],
    /// What was held before a removal still counts.
    held: Vec<Arc<Account>>,
    counted: [u64; 3],
    /// Whose entry was let go once: an older store put in its place does not get those counts again.
    let_go: [bool; 3],
    may_lack: [bool; 3],
    store: BTreeMap<(i64, i64), Counts>,
    backup: BTreeMap<(i64, i64), Counts>,
}

impl World {
    fn account(&mut self, user: u8) -> Arc<Account> {
        let name = format!("{user}-{}", self.names[usize::from(user)]);
        if self.accounts.get(&name).is_none() {
            let spec = AccountSpec {
                row: Some(user.into()),
                name: name.clone(),
                password: None,
                enabled: true,
                up: AccountRate::Default,
                down: AccountRate::Default,
                weight: 1,
            };
            self.accounts.set_rows(vec![spec], &[], false);
        }
        let account = self.accounts.get(&name).unwrap();
        self.ledger.track(&account);
        account
    }

    fn write(&mut self, takes: bool, says: bool) {
        let due = self.ledger.due();
        if takes {
            self.store.extend(due.iter().map(|row| ((row.user, row.hour), row.counts)));
        }
        if takes && says {
            self.ledger.wrote(&due);
        }
    }

    fn rebase(&mut self) {
        let rows: Vec<_> =
            self.store.iter().map(|(&(user, hour), &counts)| UsageRow { user, hour, counts }).collect();
        self.ledger.rebase(&rows);
    }

    fn count(&mut self, account: &Account, n: u64) {
        account.usage.count(Direction::Up, n);
        self.counted[usize::try_from(account.row().unwrap()).unwrap()] += n;
    }

    fn observe(&mut self, hour: i64) {
        self.ledger.observe(hour);
        for user in 0..3 {
            let known = self.ledger.users.contains_key(&i64::try_from(user).unwrap());
            self.let_go[user] |= self.counted[user] > 0 && !known;
        }
    }

    fn stored(&self, user: usize) -> u64 {
        let user = i64::try_from(user).unwrap();
        self.store.range((user, i64::MIN)..=(user, i64::MAX)).map(|(_, counts)| counts.up).sum()
    }
}

proptest! {
    #[test]
    fn stored_is_never_more_than_counted_and_equal_in_the_end(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World {
            accounts: Accounts::default(), ledger: Ledger::default(), names: [0; 3], held: Vec::new(), counted: [0; 3],
            let_go: [false; 3], may_lack: [false; 3],
            store: BTreeMap::new(), backup: BTreeMap::new(),
        };
        let mut hour = 100 * 3600;
        for event in events {
            match event {
                Event::Count(user, n) => {
                    let account = world.account(user);
                    world.count(&account, n);
                    if let Some(account) = world.held.pop() {
                        world.count(&account, n);
                    }
                }
                Event::Hour(by) => hour += by * 3600,
                Event::Write(takes, says) => {
                    world.observe(hour);
                    world.write(takes, says);
                }
                Event::Rename(user) => {
                    let account = world.account(user);
                    world.names[usize::from(user)] += 1;
                    world.account(user);
                    world.held.push(account);
                }
                Event::Remove(user) => {
                    let account = world.account(user);
                    world.accounts.set_rows(Vec::new(), &[user.into()], false);
                    world.held.push(account);
                }
                Event::Backup => world.backup = world.store.clone(),
                // As after every connection that was lost.
                Event::Restore => {
                    world.store = world.backup.clone();
                    world.may_lack = world.let_go;
                    world.rebase();
                }
            }
            for user in 0..3 {
                prop_assert!(world.stored(user) <= world.counted[user]);
            }
        }
        world.observe(hour);
        world.write(true, true);
        prop_assert!(world.ledger.due().is_empty());
        for user in 0..3 {
            let equal = world.stored(user) == world.counted[user];
            prop_assert!(equal || world.may_lack[user], "{} {}", world.stored(user), world.counted[user]);
        }
        // Nobody is remembered for ever.
        world.held.clear();
        let all: Vec<i64> = vec![0, 1, 2];
        world.accounts.set_rows(Vec::new(), &all, false);
        for later in 1..4 {
            world.ledger.observe(hour + (10 + later) * 3600 * 1000);
            world.write(true, true);
        }
        world.ledger.observe(hour + 20 * 3600 * 1000);
        prop_assert!(world.ledger.users.is_empty());
    }
}
