//! Usage in the store: absolute counts of one process in one hour.
//!
//! Invariant: a row is only ever set, never added to, so writing it again changes nothing.

use sqlx::{AssertSqlSafe, Connection, Row as _};

use crate::Store;
use crate::db::{Conn, Row};
use crate::error::StoreError;
use crate::row::get;

/// Bytes and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes from client to target.
    pub up: u64,
    /// Bytes from target to client.
    pub down: u64,
    /// Sessions opened.
    pub sessions: u64,
}

impl Counts {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            up: self.up.saturating_add(other.up),
            down: self.down.saturating_add(other.down),
            sessions: self.sessions.saturating_add(other.sessions),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            up: self.up.saturating_sub(other.up),
            down: self.down.saturating_sub(other.down),
            sessions: self.sessions.saturating_sub(other.sessions),
        }
    }

    fn read(row: &Row) -> Self {
        let count = |column| get::<i64>(row, column).ok().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        Self { up: count("up"), down: count("down"), sessions: count("sessions") }
    }
}

/// What was ever counted for a user, over all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageTotal {
    /// The user's id.
    pub id: i64,
    /// None: the user was removed since.
    pub name: Option<String>,
    /// The sums.
    pub counts: Counts,
}

/// A row of `usage` of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageRow {
    pub(crate) user: i64,
    /// Unix seconds of its start.
    pub(crate) hour: i64,
    pub(crate) counts: Counts,
}

impl Store {
    /// What was ever counted, by user; users without any usage are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage_totals(&self) -> Result<Vec<UsageTotal>, StoreError> {
        let mut link = self.link().await?;
        let sql = "SELECT t.user_id, u.name, t.up, t.down, t.sessions FROM (\
                   SELECT user_id, CAST(SUM(up) AS BIGINT) AS up, CAST(SUM(down) AS BIGINT) AS down, \
                   CAST(SUM(sessions) AS BIGINT) AS sessions FROM usage GROUP BY user_id) t \
                   LEFT JOIN users u ON u.id = t.user_id ORDER BY u.name, t.user_id";
        let rows = sqlx::query(sql).fetch_all(&mut link.conn).await;
        let total = |row: &Row| {
            let name = row.try_get("name").unwrap_or(None);
            Some(UsageTotal { id: get(row, "user_id").ok()?, name, counts: Counts::read(row) })
        };
        self.done(link, rows).await.map(|rows| rows.iter().filter_map(total).collect())
    }
}

/// How many rows one statement writes.
const CHUNK: usize = 64;

/// Sets `rows`, all or none.
pub(crate) async fn write(
    conn: &mut Conn,
    node: &str,
    boot_id: &str,
    rows: &[UsageRow],
) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    for chunk in rows.chunks(CHUNK) {
        // A full chunk's statement is prepared once; the rest's length varies.
        let mut query = sqlx::query(AssertSqlSafe(upsert(chunk.len()))).persistent(chunk.len() == CHUNK);
        query = query.bind(boot_id).bind(node);
        for row in chunk {
            query = query.bind(row.user).bind(row.hour);
            for count in [row.counts.up, row.counts.down, row.counts.sessions] {
                query = query.bind(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        query.execute(&mut *tx).await?;
    }
    tx.commit().await
}

fn upsert(rows: usize) -> String {
    let values: Vec<_> = (0..rows)
        .map(|row| {
            let [user, hour, up, down, sessions] = [3, 4, 5, 6, 7].map(|column| column + row * 5);
            format!("($1, $2, ${user}, ${hour}, ${up}, ${down}, ${sessions})")
        })
        .collect();
    format!(
        "INSERT INTO usage (boot_id, node, user_id, hour, up, down, sessions) VALUES {} \
         ON CONFLICT (boot_id, node, user_id, hour) \
         DO UPDATE SET up = excluded.up, down = excluded.down, sessions = excluded.sessions",
        values.join(", ")
    )
}

/// What the store holds of this process.
pub(crate) async fn read(conn: &mut Conn, node: &str, boot_id: &str) -> Result<Vec<UsageRow>, sqlx::Error> {
    let sql = "SELECT user_id, hour, up, down, sessions FROM usage WHERE boot_id = $1 AND node = $2";
    let rows = sqlx::query(sql).bind(boot_id).bind(node).fetch_all(conn).await?;
    let usage = |row: &Row| {
        Some(UsageRow {
            user: get(row, "user_id").ok()?,
            hour: get(row, "hour").ok()?,
            counts: Counts::read(row),
        })
    };
    Ok(rows.iter().filter_map(usage).collect())
}
