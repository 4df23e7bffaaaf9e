//! A node's side of the store: accounts follow the rows, and the counters that moved are written, every second.
//!
//! Invariants (DESIGN §5, §8): stored ≤ counted, always, and equal after [`StoreSync::flush`]; the store being away
//! stops nothing, is said once, and is caught up with from memory.

mod guard;
mod ledger;
mod rows;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swiftproxy_core::account::Account;
use swiftproxy_core::cancel::Reason;
use swiftproxy_core::node::Node;
use swiftproxy_core::status::StoreHealth;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use crate::db::{Db, FileId, Link};
use crate::error::StoreError;
use crate::{Store, usage};

use guard::Guard;
use ledger::Ledger;
use rows::{Reader, Rows, Since};

/// How often a node looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a look waits for somebody else's transaction.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the first read and the last write go on trying.
const TRIES: Duration = Duration::from_secs(5);
/// How long a look may take before the connection is given up: a disk may never answer.
const STUCK: Duration = Duration::from_secs(10);
/// At most so many looks are left out after a failure.
const MOST_SKIPPED: u32 = 4;

/// Keeps a node's accounts like the store's rows, and the store's usage like the node's counters.
pub struct StoreSync {
    db: Db,
    node: Arc<Node>,
    boot_id: String,
    link: Option<Link>,
    guard: Guard,
    /// Something else wrote into the file since it was last read whole.
    overwritten: bool,
    /// Whether the link has not yet been read whole.
    unread: bool,
    /// The file that was last read.
    file: Option<FileId>,
    reader: Reader,
    ledger: Ledger,
    reading: Backoff,
    writing: Backoff,
    down: bool,
}

impl StoreSync {
    /// For this process, whose `boot_id` no other process had before (random, 128 bits).
    pub fn new(store: &Store, node: Arc<Node>, boot_id: impl Into<String>) -> Self {
        Self {
            db: store.db.with_patience(PATIENCE),
            node,
            boot_id: boot_id.into(),
            link: None,
            guard: Guard::default(),
            overwritten: false,
            unread: true,
            file: None,
            reader: Reader::default(),
            ledger: Ledger::default(),
            reading: Backoff::default(),
            writing: Backoff::default(),
            down: false,
        }
    }

    /// Reads every account, before the node listens; proves that usage can be written.
    ///
    /// # Errors
    /// The store cannot be read or written; the message says what to do.
    pub async fn load(&mut self, now: SystemTime) -> Result<(), StoreError> {
        self.ledger.observe(hour_of(now));
        let deadline = Instant::now() + TRIES;
        loop {
            match self.try_load().await {
                Err(StoreError::Locked(_)) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50)).await
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.node.health.set_store(StoreHealth::Ok);
        Ok(())
    }

    async fn try_load(&mut self) -> Result<(), StoreError> {
        self.read().await?;
        let Some(link) = &mut self.link else { return Ok(()) };
        let sql = "DELETE FROM changes WHERE seq < 0";
        sqlx::query(sql).execute(&mut link.conn).await.map(drop).map_err(|error| self.db.sort(error))
    }

    /// Looks once: follows what changed and writes what moved. Never fails; a store that is away is told by
    /// [`Node::health`](swiftproxy_core::node::Node) and tried again later.
    pub async fn step(&mut self, now: SystemTime) {
        self.ledger.observe(hour_of(now));
        if !self.reading.is_due() {
            return;
        }
        if let Err(error) = self.unless_stuck(Self::read).await {
            self.reading.failed();
            return self.is_down(error, now);
        }
        self.reading = Backoff::default();
        if !self.writing.is_due() {
            return;
        }
        match self.unless_stuck(Self::write).await {
            Ok(()) => {
                self.writing = Backoff::default();
                self.is_up();
            }
            Err(error) => {
                self.writing.failed();
                self.is_down(error, now);
            }
        }
    }

    /// Writes all that was counted until now.
    ///
    /// # Errors
    /// The store cannot be written; calling again writes it all.
    pub async fn flush(&mut self, now: SystemTime) -> Result<(), StoreError> {
        self.ledger.observe(hour_of(now));
        self.unless_stuck(Self::read).await?;
        self.unless_stuck(Self::write).await
    }

    /// Looks every second until `shutdown` is ready, then writes what is left. Sessions must have ended by then.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                _ = ticks.tick() => self.step(SystemTime::now()).await,
            }
        }
        let deadline = Instant::now() + TRIES;
        while let Err(error) = self.flush(SystemTime::now()).await {
            if Instant::now() >= deadline {
                let left = self.ledger.due().len();
                warn!("store: the last counts of {left} users and hours were not written: {error}");
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        self.unlink().await;
    }

    /// Half a look, within bounds. A connection that is given up is dropped as it is: what it was doing rolls back.
    async fn unless_stuck(
        &mut self,
        half: impl AsyncFnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match timeout(STUCK, half(self)).await {
            Ok(done) => done,
            Err(_) => {
                self.link = None;
                Err(StoreError::Stuck(self.db.path().to_path_buf()))
            }
        }
    }

    /// Follows what changed, over a connection to the file that lies there now.
    async fn read(&mut self) -> Result<(), StoreError> {
        let read = self.try_read().await;
        if let Err(error) = &read
            && !error.is_passing()
        {
            self.unlink().await;
        }
        read
    }

    async fn try_read(&mut self) -> Result<(), StoreError> {
        let file = self.db.file_id().await;
        if let (Some(link), Ok(file)) = (&self.link, &file)
            && link.file != *file
        {
            self.unlink().await;
        }
        file?;
        if self.is_foreign().await {
            self.unlink().await;
            return Err(StoreError::Overwritten(self.db.path().to_path_buf()));
        }
        if self.link.is_none() {
            let link = self.db.connect(false).await?;
            self.guard.watch(&link).await;
            self.link = Some(link);
            self.unread = true;
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let sort = |error| self.db.sort(error);
        let since = self.reader.since(&mut link.conn).await.map_err(sort)?;
        let rows = match since {
            Since::Nothing if !self.unread => return Ok(()),
            Since::Changes if !self.unread => self.reader.changes(&mut link.conn).await.map_err(sort)?,
            _ => None,
        };
        if let Some(rows) = rows {
            self.follow(rows, false, false);
            return Ok(());
        }
        // The rows come last: whatever fails before leaves everything to be read again.
        let stored = usage::read(&mut link.conn, self.node.name(), &self.boot_id).await.map_err(sort)?;
        let rows = self.reader.everything(&mut link.conn).await.map_err(sort)?;
        let known = self.file.replace(link.file);
        self.unread = false;
        let overwritten = std::mem::take(&mut self.overwritten);
        let elsewhere =
            known.is_some_and(|known| known != link.file || overwritten || since == Since::Rewound);
        if elsewhere {
            info!("store: {} is another one now; everything is read again", self.db.path().display());
        }
        self.follow(rows, known.is_none(), elsewhere);
        self.ledger.rebase(&stored);
        Ok(())
    }

    fn follow(&mut self, rows: Rows, first: bool, elsewhere: bool) {
        let accounts = self.node.accounts.clone();
        let names: Vec<_> = rows.specs.iter().map(|spec| spec.name.clone()).collect();
        let barred: Vec<(Arc<Account>, Reason)> = accounts.set_rows(rows.specs, &rows.gone, first);
        self.node.end_barred(barred);
        if elsewhere {
            self.ledger.keep_living(&accounts);
        }
        for account in names.iter().filter_map(|name| accounts.get(name)) {
            self.ledger.track(&account);
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let due = self.ledger.due();
        let Some(link) = &mut self.link else { return Ok(()) };
        if due.is_empty() {
            return Ok(());
        }
        let written = usage::write(&mut link.conn, self.node.name(), &self.boot_id, &due).await;
        if let Err(error) = written {
            let error = self.db.sort(error);
            if !error.is_passing() {
                self.unlink().await;
            }
            return Err(error);
        }
        self.ledger.wrote(&due);
        Ok(())
    }

    /// Whether something else wrote into the file that is open.
    async fn is_foreign(&mut self) -> bool {
        match &mut self.link {
            Some(link) => self.guard.is_foreign(link).await,
            None => false,
        }
    }

    async fn unlink(&mut self) {
        let foreign = self.is_foreign().await;
        let Some(link) = self.link.take() else { return };
        let lies_there = self.db.file_id().await.is_ok_and(|file| file == link.file);
        match (lies_there, foreign) {
            (true, true) => {
                self.overwritten = true;
                link.disown().await;
            }
            (true, false) => link.close().await,
            (false, _) => link.abandon().await,
        }
    }

    /// Says it once.
    fn is_down(&mut self, error: StoreError, now: SystemTime) {
        let since = match self.node.health.store() {
            StoreHealth::Down(since, _) if self.down => since,
            _ => now,
        };
        if !self.down {
            warn!("store: {error}; known accounts go on, usage is kept in memory and written later");
        }
        self.down = true;
        self.node.health.set_store(StoreHealth::Down(since, error.to_string()));
    }

    fn is_up(&mut self) {
        if std::mem::take(&mut self.down) {
            info!("store: {} is back, and has everything", self.db.path().display());
            self.node.health.set_store(StoreHealth::Ok);
        }
    }
}

/// Leaves looks out after failures: none, then 1, then 3, then 4 at a time.
#[derive(Default)]
struct Backoff {
    failures: u32,
    skip: u32,
}

impl Backoff {
    fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    fn failed(&mut self) {
        self.skip = ((1 << self.failures.min(8)) - 1).min(MOST_SKIPPED);
        self.failures = self.failures.saturating_add(1);
    }
}

/// Unix seconds of the start of the hour.
fn hour_of(now: SystemTime) -> i64 {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds / 3600 * 3600).unwrap_or(0)
}
