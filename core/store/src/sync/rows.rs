//! What changed in `users` since a node last looked.
//!
//! Invariant: reading up to a position and applying it twice is the same as once; whoever cannot tell what changed
//! reads everything.

use std::collections::HashMap;

use sqlx::Row as _;
use swiftproxy_core::account::AccountSpec;
use tracing::{info, warn};

use crate::db::{Conn, Row};
use crate::row::{Known, UserRow, get, user_columns};

/// More changes than that are read as everything.
const BATCH: usize = 1000;

/// How far the log of changes was read. The mark tells two histories apart that reached the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    seq: i64,
    mark: i64,
}

/// How the log goes on from a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// Nothing changed.
    Nothing,
    /// Something changed.
    Changes,
    /// The log no longer goes back to the position.
    Pruned,
    /// The position is not of this log: a backup was restored, or another store lies there.
    Rewound,
}

/// What a node must follow.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) specs: Vec<AccountSpec>,
    pub(crate) gone: Vec<i64>,
}

/// What a node knows of the rows.
#[derive(Default)]
pub(crate) struct Reader {
    position: Position,
    known: HashMap<i64, Known>,
    /// What was already said of rows that make no sense.
    said: HashMap<i64, Vec<String>>,
}

impl Reader {
    /// One cheap statement: whether there is anything to read.
    pub(crate) async fn since(&self, conn: &mut Conn) -> Result<Since, sqlx::Error> {
        let sql = "SELECT (SELECT min(seq) FROM changes), (SELECT max(seq) FROM changes), \
                   (SELECT mark FROM changes WHERE seq = $1)";
        let row = sqlx::query(sql).bind(self.position.seq).fetch_one(conn).await?;
        let [first, last, mark]: [Option<i64>; 3] = [0, 1, 2].map(|at| row.try_get(at).unwrap_or(None));
        let Position { seq, mark: known } = self.position;
        Ok(match (last.unwrap_or(0), first.unwrap_or(0), mark) {
            (last, _, _) if last < seq => Since::Rewound,
            (_, _, Some(mark)) if mark != known => Since::Rewound,
            (last, _, _) if last == seq => Since::Nothing,
            (_, first, _) if first > seq + 1 => Since::Pruned,
            _ => Since::Changes,
        })
    }

    /// Reads what changed; none if that is too much to read row by row.
    pub(crate) async fn changes(&mut self, conn: &mut Conn) -> Result<Option<Rows>, sqlx::Error> {
        let sql = concat!(
            "SELECT c.seq, c.mark, c.user_id, ",
            user_columns!(),
            " FROM changes c LEFT JOIN users u ON u.id = c.user_id WHERE c.seq > $1 ORDER BY c.seq LIMIT $2"
        );
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX) + 1;
        let rows = sqlx::query(sql).bind(self.position.seq).bind(limit).fetch_all(conn).await?;
        if rows.len() > BATCH {
            return Ok(None);
        }
        // Of a user that changed several times every row says the same.
        let by_user: HashMap<i64, &Row> =
            rows.iter().filter_map(|row| Some((get(row, "user_id").ok()?, row))).collect();
        let mut found = Rows::default();
        for (user, row) in by_user {
            match UserRow::read(row) {
                Some(row) => self.follow(row, &mut found),
                None => self.forget(user, &mut found),
            }
        }
        if let Some(last) = rows.last() {
            self.position = position_of(last);
        }
        Ok(Some(found))
    }

    /// Reads every row.
    pub(crate) async fn everything(&mut self, conn: &mut Conn) -> Result<Rows, sqlx::Error> {
        // The position first: what changes in between is read again.
        let sql = "SELECT seq, mark FROM changes ORDER BY seq DESC LIMIT 1";
        let last = sqlx::query(sql).fetch_optional(&mut *conn).await?;
        let rows = sqlx::query(concat!("SELECT ", user_columns!(), " FROM users u")).fetch_all(conn).await?;
        let rows: Vec<_> = rows.iter().filter_map(UserRow::read).collect();
        let mut found = Rows::default();
        let mut left: Vec<i64> = self.known.keys().chain(self.said.keys()).copied().collect();
        let there: std::collections::HashSet<i64> = rows.iter().map(|row| row.id).collect();
        left.retain(|id| !there.contains(id));
        for row in rows {
            self.follow(row, &mut found);
        }
        for id in left {
            self.forget(id, &mut found);
        }
        self.position = last.as_ref().map(position_of).unwrap_or_default();
        Ok(found)
    }

    fn follow(&mut self, row: UserRow, found: &mut Rows) {
        let id = row.id;
        self.complain(&row);
        match row.spec(self.known.get(&id).copied()) {
            Some((spec, known)) => {
                self.known.insert(id, known);
                found.specs.push(spec);
            }
            None => {
                self.known.remove(&id);
                found.gone.push(id);
            }
        }
    }

    fn forget(&mut self, id: i64, found: &mut Rows) {
        self.known.remove(&id);
        self.said.remove(&id);
        found.gone.push(id);
    }

    /// Says once what is wrong with a row, and once that it is mended.
    fn complain(&mut self, row: &UserRow) {
        let problems = row.problems();
        if problems.is_empty() {
            if self.said.remove(&row.id).is_some() {
                info!(
                    "store: user {} ({}) makes sense again",
                    row.id,
                    row.name.as_deref().unwrap_or_default()
                );
            }
            return;
        }
        if self.said.get(&row.id) == Some(&problems) {
            return;
        }
        let effect = if row.name.is_err() {
            "it is no account until then"
        } else if row.enabled.is_err() {
            "the account is disabled until then"
        } else if row.password_hash.is_err() {
            "no password logs in until then"
        } else if self.known.contains_key(&row.id) {
            "what it was before holds until then"
        } else {
            "the account is disabled until then"
        };
        let name = row.name.as_deref().unwrap_or_default();
        warn!("store: user {} ({name}): {}; {effect}", row.id, problems.join("; "));
        self.said.insert(row.id, problems);
    }
}

fn position_of(row: &Row) -> Position {
    Position { seq: get(row, "seq").unwrap_or(0), mark: get(row, "mark").unwrap_or(0) }
}
