//! The sync, step by step, against edits through a second connection.

mod counts;
mod faults;
mod overwritten;
mod rows;

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
