//! The sync, step by step, against edits through a second connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use swiftproxy_core::account::{Account, AccountRate};
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::meter::Direction::{Down, Up};
use swiftproxy_core::node::Node;
use swiftproxy_core::status::StoreHealth;

use super::StoreSync;
use crate::{NewUser, Store, StoreError, UserChange};

const T0: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(T0 + seconds)
}

struct Bed {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}/s.db", dir.path().display())).await.unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn with(users: &[&str]) -> Self {
        let bed = Self::new().await;
        for user in users {
            bed.store.add_user(&NewUser::new(*user, None)).await.unwrap();
        }
        bed
    }

    async fn raw(&self) -> SqliteConnection {
        self.raw_at("s.db").await
    }

    async fn raw_at(&self, name: &str) -> SqliteConnection {
        sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.path(name))
            .busy_timeout(Duration::ZERO)
            .connect()
            .await
            .unwrap()
    }

    async fn sql(&self, sql: &str) {
        let mut conn = self.raw().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }

    /// up and down summed over everything that is stored, and the number of rows.
    async fn usage(&self) -> (i64, i64, i64) {
        self.usage_at("s.db").await
    }

    async fn usage_at(&self, name: &str) -> (i64, i64, i64) {
        let mut conn = self.raw_at(name).await;
        let sql = "SELECT coalesce(sum(up), 0), coalesce(sum(down), 0), count(*) FROM usage";
        let sums = sqlx::query_as(sql).fetch_one(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        sums
    }

    async fn node(&self, name: &str, boot: &str) -> On {
        let node = Node::new(name);
        let mut sync = StoreSync::new(&self.store, node.clone(), boot);
        sync.db = sync.db.with_patience(Duration::ZERO);
        sync.load(at(0)).await.unwrap();
        On { node, sync }
    }
}

/// A node and its sync.
struct On {
    node: Arc<Node>,
    sync: StoreSync,
}

impl On {
    fn account(&self, name: &str) -> Arc<Account> {
        self.node.accounts.get(name).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.node.accounts.get(name).is_some()
    }

    async fn step(&mut self, seconds: u64) {
        self.sync.step(at(seconds)).await;
    }

    fn is_ok(&self) -> bool {
        self.node.health.store() == StoreHealth::Ok
    }

    fn why_down(&self) -> String {
        match self.node.health.store() {
            StoreHealth::Down(_, why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Steps until the backoff is over, at most.
    async fn recover(&mut self, from: u64) {
        for second in from..from + 6 {
            self.step(second).await;
        }
        assert!(self.is_ok(), "{:?}", self.node.health.store());
    }
}

#[tokio::test]
async fn rows_edited_by_hand_bind_on_the_same_account() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    bed.sql("UPDATE users SET rate_down = 300000, rate_up = 0, weight = 3 WHERE name = 'alice'").await;
    on.step(1).await;
    assert_eq!((alice.rate(Down), alice.rate(Up)), (AccountRate::Limited(300_000), AccountRate::Unlimited));
    assert_eq!(alice.weight(), 3);
    assert!(Arc::ptr_eq(&alice, &on.account("alice")));

    bed.sql("UPDATE users SET enabled = 0 WHERE name = 'alice'; DELETE FROM users WHERE name = 'bob'").await;
    bed.sql("INSERT INTO users (name) VALUES ('carol')").await;
    on.step(2).await;
    assert_eq!(alice.barred(), Some(Reason::Disabled));
    assert!(!on.has("bob") && on.has("carol"));
    bed.sql("UPDATE users SET enabled = 1, rate_down = NULL").await;
    on.step(3).await;
    assert_eq!((alice.barred(), alice.rate(Down)), (None, AccountRate::Default));
}

#[tokio::test]
async fn a_name_that_returns_is_another_account_and_the_old_one_is_still_counted() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let old = on.account("alice");
    old.usage.count(Up, 10);
    bed.store.remove_user("alice").await.unwrap();
    bed.store.add_user(&NewUser::new("alice", None)).await.unwrap();
    on.step(1).await;
    assert_eq!(old.barred(), Some(Reason::Removed));
    let new = on.account("alice");
    assert_ne!(old.row(), new.row());
    // Its sessions still run for a moment, and tell only the tap.
    let tap = old.usage.clone();
    drop(old);
    on.step(2).await;
    tap.count(Up, 5);
    new.usage.count(Up, 100);
    drop(tap);
    on.step(3).await;
    assert_eq!(bed.usage().await.0, 115);
    let totals = bed.store.usage_totals().await.unwrap();
    assert_eq!(totals.len(), 2);
    assert_eq!(totals.iter().find(|total| total.name.is_none()).unwrap().counts.up, 15);
    assert_eq!(totals.iter().find(|total| total.name.is_some()).unwrap().counts.up, 100);
}

#[tokio::test]
async fn a_renamed_row_sums_its_accounts() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let old = on.account("alice");
    old.usage.count(Down, 10);
    on.step(1).await;
    let rename = UserChange { name: Some("alicia".into()), ..UserChange::default() };
    bed.store.update_user("alice", &rename).await.unwrap();
    on.step(2).await;
    assert_eq!(old.barred(), Some(Reason::Removed));
    old.usage.count(Down, 1);
    drop(old);
    on.account("alicia").usage.count(Down, 100);
    on.step(3).await;
    on.account("alicia").usage.count(Down, 1000);
    on.step(4).await;
    assert_eq!(bed.usage().await, (0, 1111, 1));
}

#[tokio::test]
async fn swapped_names_and_replaced_rows() {
    let bed = Bed::with(&["alice", "bob", "carol"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("UPDATE users SET name = 'x' WHERE id = 1; UPDATE users SET name = 'alice' WHERE id = 2; UPDATE users SET name = 'bob' WHERE id = 1")
        .await;
    bed.sql("INSERT OR REPLACE INTO users (name) VALUES ('carol')").await;
    on.step(1).await;
    assert_eq!(on.account("alice").row(), Some(2));
    assert_eq!(on.account("bob").row(), Some(1));
    assert_eq!(on.account("carol").row(), Some(4));
    bed.sql("UPDATE users SET id = 50 WHERE name = 'bob'").await;
    on.step(2).await;
    assert_eq!(on.account("bob").row(), Some(50));
    assert_eq!(on.node.accounts.all().len(), 3);
}

#[tokio::test]
async fn repeated_writes_restarts_and_nodes_never_add() {
    let bed = Bed::with(&["alice"]).await;
    let mut one = bed.node("n", "b1").await;
    let mut two = bed.node("n", "b2").await;
    let mut three = bed.node("m", "b3").await;
    for second in 1..5 {
        for on in [&mut one, &mut two, &mut three] {
            on.account("alice").usage.count(Up, 10);
            on.account("alice").sessions.fetch_add(1, Relaxed);
            on.step(second).await;
            on.sync.ledger.rebase(&[]); // as if nothing had been said of what is stored
            on.step(second).await;
        }
    }
    assert_eq!(bed.usage().await, (120, 0, 3));
    drop(one);
    let mut again = bed.node("n", "b4").await;
    again.account("alice").usage.count(Up, 1);
    again.sync.flush(at(9)).await.unwrap();
    assert_eq!(bed.usage().await, (121, 0, 4));
    let totals = bed.store.usage_totals().await.unwrap();
    assert_eq!((totals[0].counts.up, totals[0].counts.sessions), (121, 12));
}

#[tokio::test]
async fn hours_go_forward_whatever_the_clock_says() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    for (seconds, bytes) in [(10, 1), (3600, 10), (20, 100), (7200, 1000)] {
        alice.usage.count(Up, bytes);
        on.step(seconds).await;
    }
    let mut conn = bed.raw().await;
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT hour, up FROM usage ORDER BY hour").fetch_all(&mut conn).await.unwrap();
    let hour = i64::try_from(T0 / 3600 * 3600).unwrap();
    assert_eq!(rows, [(hour, 1), (hour + 3600, 110), (hour + 7200, 1000)]);
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_locked_store_stops_nothing_and_is_caught_up() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    let mut locker = bed.raw().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut locker).await.unwrap();
    let (said, _guard) = said::listen();
    for hour in 0..4 {
        alice.usage.count(Up, 10);
        for second in 1..8 {
            on.step(hour * 3600 + second).await;
        }
        assert!(on.why_down().contains("locked by another program"), "{}", on.why_down());
    }
    sqlx::raw_sql("UPDATE users SET rate_down = 77; COMMIT").execute(&mut locker).await.unwrap();
    locker.close().await.unwrap();
    on.step(3 * 3600 + 8).await;
    assert_eq!(
        alice.rate(Down),
        AccountRate::Limited(77),
        "reading does not wait for the writing half's turn"
    );
    on.recover(3 * 3600 + 9).await;
    assert_eq!(bed.usage().await, (40, 0, 4));
    assert_eq!(said.warnings(), 1);
    assert_eq!(said.infos(), 1);
}

#[tokio::test]
async fn an_exclusively_held_store_is_caught_up_too() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    // Nobody may hold the shared memory for an exclusive lock to be had.
    on.sync.unlink().await;
    let mut locker = bed.raw().await;
    sqlx::raw_sql("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE users SET rate_up = 5; COMMIT")
        .execute(&mut locker)
        .await
        .unwrap();
    on.account("alice").usage.count(Up, 10);
    on.step(1).await;
    assert!(on.why_down().contains("locked"), "{}", on.why_down());
    locker.close().await.unwrap();
    on.recover(2).await;
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(5));
    assert_eq!(bed.usage().await.0, 10);
}

#[tokio::test]
async fn a_file_put_in_its_place_is_noticed_and_gets_every_count() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("VACUUM INTO 's.backup'".replace("s.backup", bed.path("backup.db").to_str().unwrap()).as_str())
        .await;
    let (alice, bob) = (on.account("alice"), on.account("bob"));
    alice.usage.count(Up, 10);
    bob.usage.count(Up, 1);
    on.step(1).await;
    bed.sql("UPDATE users SET rate_up = 9 WHERE name = 'alice'; DELETE FROM users WHERE name = 'bob'").await;
    on.step(3601).await;
    assert_eq!(alice.rate(Up), AccountRate::Limited(9));
    alice.usage.count(Up, 100);

    std::fs::rename(bed.path("s.db"), bed.path("old.db")).unwrap();
    std::fs::rename(bed.path("backup.db"), bed.path("s.db")).unwrap();
    on.step(3602).await;
    assert!(on.is_ok());
    assert_eq!(alice.rate(Up), AccountRate::Default, "the backup's word");
    assert!(on.has("bob") && !Arc::ptr_eq(&bob, &on.account("bob")));
    assert_eq!(bed.usage().await, (110, 0, 1), "all of alice's; bob of the backup is another");
    alice.usage.count(Up, 1000);
    on.step(3603).await;
    assert_eq!(bed.usage().await, (1110, 0, 1));
    // The old file was left whole, with what had been written to it.
    assert_eq!(bed.usage_at("old.db").await, (11, 0, 2));
    std::fs::rename(bed.path("old.db"), bed.path("s.db")).unwrap();
    // And back in its place it gets what it lacks.
    on.step(3604).await;
    assert_eq!(bed.usage().await, (1111, 0, 3));
}

#[tokio::test]
async fn a_missing_store_is_not_made_anew_and_keeps_everybody() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    std::fs::rename(bed.path("s.db"), bed.path("away.db")).unwrap();
    let alice = on.account("alice");
    alice.usage.count(Down, 10);
    let (said, _guard) = said::listen();
    for second in 1..20 {
        on.step(second).await;
    }
    assert!(on.why_down().contains("there is no"), "{}", on.why_down());
    assert!(!bed.path("s.db").exists() && alice.barred().is_none());
    // Neither an empty file nor somebody else's is taken for a store without users.
    for contents in
        ["", "nonsense, long enough to be taken for a header of a database file, or is it not quite"]
    {
        std::fs::write(bed.path("s.db"), contents).unwrap();
        for second in 20..40 {
            on.step(second).await;
        }
        assert!(alice.barred().is_none() && on.has("alice"));
        assert!(!on.is_ok());
    }
    std::fs::rename(bed.path("away.db"), bed.path("s.db")).unwrap();
    on.recover(40).await;
    assert!(Arc::ptr_eq(&alice, &on.account("alice")));
    assert_eq!(bed.usage().await.1, 10);
    assert_eq!((said.warnings(), said.infos()), (1, 1));
}

#[tokio::test]
async fn a_backup_restored_into_the_same_file_is_noticed() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    alice.usage.count(Up, 10);
    on.step(1).await;
    // What `.restore` does, seen by a reader: rows, log and usage of another history, with a log as long.
    bed.sql(
        "DELETE FROM usage; DROP TRIGGER users_after_update; UPDATE users SET rate_up = 5 WHERE name = 'alice';
         DELETE FROM changes WHERE seq = 2; INSERT INTO changes (seq, user_id) VALUES (2, 2)",
    )
    .await;
    on.step(2).await;
    assert_eq!(alice.rate(Up), AccountRate::Limited(5));
    assert_eq!(bed.usage().await, (10, 0, 1));
}

#[tokio::test]
async fn a_log_that_was_pruned_or_emptied_or_is_too_long_is_read_as_everything() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("DELETE FROM users WHERE name = 'bob'; UPDATE users SET rate_up = 5; DELETE FROM changes WHERE seq < 4").await;
    on.step(1).await;
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(5));
    assert!(!on.has("bob"));
    bed.sql("UPDATE users SET rate_up = 6; DELETE FROM changes").await;
    on.step(2).await;
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(6));
    let many = "INSERT INTO users (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
                SELECT 'user' || i FROM n";
    bed.sql(many).await;
    on.step(3).await;
    assert_eq!(on.node.accounts.all().len(), 12_001);
    let mut conn = bed.raw().await;
    let log: i64 = sqlx::query_scalar("SELECT count(*) FROM changes").fetch_one(&mut conn).await.unwrap();
    assert_eq!(log, 10_000);
    conn.close().await.unwrap();
}

#[tokio::test]
async fn rows_of_nonsense_harm_nobody_else() {
    let bed = Bed::with(&["alice", "bob", "carol", "dave", "erin"]).await;
    let mut on = bed.node("n", "b1").await;
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| on.account(name));
    bed.sql("UPDATE users SET rate_up = 9").await;
    on.step(1).await;
    let (said, _guard) = said::listen();
    bed.sql(
        "PRAGMA ignore_check_constraints = ON;
         UPDATE users SET rate_up = '10Mbit/s' WHERE name = 'alice';
         UPDATE users SET rate_up = -5, weight = x'00' WHERE name = 'bob';
         UPDATE users SET enabled = 'yes' WHERE name = 'carol';
         UPDATE users SET name = '' WHERE name = 'dave';
         UPDATE users SET rate_up = 7, password_hash = 'secret' WHERE name = 'erin';
         INSERT INTO users (name, rate_down) VALUES ('frank', 1.5);
         INSERT INTO users (name) VALUES (CAST(x'ff' AS TEXT)), (x'6162'), ('grace')",
    )
    .await;
    on.step(2).await;
    on.step(3).await;
    assert!(on.is_ok());
    assert_eq!((alice.rate(Up), alice.barred()), (AccountRate::Limited(9), None), "as before");
    assert_eq!((bob.rate(Up), bob.weight(), bob.barred()), (AccountRate::Limited(9), 1, None), "as before");
    assert_eq!(carol.barred(), Some(Reason::Disabled));
    assert_eq!(dave.barred(), Some(Reason::Removed));
    assert_eq!(on.account("erin").rate(Up), AccountRate::Limited(7));
    assert!(on.account("erin").password().is_none());
    assert_eq!(on.account("frank").barred(), Some(Reason::Disabled), "never unlimited for want of sense");
    assert!(on.account("grace").barred().is_none());
    assert_eq!(said.warnings(), 8, "once each");
    bed.sql("PRAGMA ignore_check_constraints = ON; UPDATE users SET rate_down = 5 WHERE name = 'alice'")
        .await;
    on.step(4).await;
    assert_eq!((alice.rate(Down), said.warnings()), (AccountRate::Limited(5), 8), "not said again");
    bed.sql("UPDATE users SET rate_up = 1 WHERE name = 'alice'").await;
    on.step(5).await;
    assert_eq!((alice.rate(Up), said.infos()), (AccountRate::Limited(1), 1));
    assert_eq!(bed.store.users().await.unwrap().iter().filter(|user| !user.problems.is_empty()).count(), 7);
}

#[tokio::test]
async fn a_write_that_fails_for_any_reason_is_made_up_for() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("CREATE TRIGGER no BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    on.account("alice").usage.count(Up, 10);
    on.step(1).await;
    on.step(2).await;
    assert!(on.why_down().contains("no"));
    bed.sql("UPDATE users SET rate_up = 3").await;
    for second in 3..9 {
        on.step(second).await;
    }
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(3));
    bed.sql("DROP TRIGGER no").await;
    on.recover(9).await;
    assert_eq!(bed.usage().await.0, 10);
}

#[tokio::test]
async fn a_store_without_room_is_down_until_there_is_some() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let link = on.sync.link.as_mut().unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 1").execute(&mut link.conn).await.unwrap();
    let users = 5000;
    let many = format!(
        "INSERT INTO users (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {users})
         SELECT 'user' || i FROM n"
    );
    bed.sql(&many).await;
    on.step(1).await;
    for account in on.node.accounts.all() {
        account.usage.count(Up, 1);
    }
    on.step(2).await;
    assert!(on.why_down().contains("no room left"), "{}", on.why_down());
    let link = on.sync.link.as_mut().unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&mut link.conn).await.unwrap();
    on.recover(3).await;
    assert_eq!(bed.usage().await.0, users + 1);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_refused_at_start() {
    let bed = Bed::with(&["alice"]).await;
    let mut sync = StoreSync::new(&bed.store, Node::new("n"), "b");
    sync.read().await.unwrap();
    let link = sync.link.as_mut().unwrap();
    sqlx::raw_sql("PRAGMA query_only = ON").execute(&mut link.conn).await.unwrap();
    let error = sync.load(at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");

    std::fs::remove_file(bed.path("s.db")).unwrap();
    let error = StoreSync::new(&bed.store, Node::new("n"), "b").load(at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)), "{error}");
}

#[tokio::test]
async fn run_writes_everything_before_it_ends() {
    let bed = Bed::with(&["alice"]).await;
    let on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(on.sync.run(async { drop(stopped.await) }));
    tokio::task::yield_now().await;
    alice.usage.count(Up, 42);
    stop.send(()).unwrap();
    run.await.unwrap();
    assert_eq!(bed.usage().await.0, 42);
}

#[tokio::test]
async fn an_idle_second_is_one_statement() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    on.account("alice").usage.count(Up, 1);
    on.step(1).await;
    let before = total_changes(&mut on).await;
    for second in 2..100 {
        on.step(second).await;
    }
    assert_eq!(total_changes(&mut on).await, before);
    assert!(on.sync.ledger.due().is_empty());
}

async fn total_changes(on: &mut On) -> i64 {
    let link = on.sync.link.as_mut().unwrap();
    sqlx::query_scalar("SELECT total_changes()").fetch_one(&mut link.conn).await.unwrap()
}

/// What was logged.
mod said {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    #[derive(Clone, Default)]
    pub(super) struct Said(Arc<[AtomicUsize; 2]>);

    pub(super) fn listen() -> (Said, tracing::subscriber::DefaultGuard) {
        let said = Said::default();
        let guard = tracing::subscriber::set_default(said.clone());
        (said, guard)
    }

    impl Said {
        pub(super) fn warnings(&self) -> usize {
            self.0[0].load(Relaxed)
        }

        pub(super) fn infos(&self) -> usize {
            self.0[1].load(Relaxed)
        }
    }

    impl Subscriber for Said {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("swiftproxy")
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            match *event.metadata().level() {
                Level::WARN => drop(self.0[0].fetch_add(1, Relaxed)),
                Level::INFO => drop(self.0[1].fetch_add(1, Relaxed)),
                _ => {}
            }
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }
}
