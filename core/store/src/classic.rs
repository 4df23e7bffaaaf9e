//! The first SwiftProxy's `user.db`, read and never written.
//!
//! Invariant: every row ends up in the users or, with a reason, in what was skipped.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use swiftproxy_core::secret::Secret;

use crate::error::StoreError;
use crate::name;
use crate::row::{get, get_opt, shown};

/// A user of the first SwiftProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicUser {
    /// A name that the store takes.
    pub name: String,
    /// In clear, as it lay there.
    pub password: Secret,
    /// Bytes per second for both ways together; none: the remote's default.
    pub rate: Option<u64>,
}

/// What the file held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassicFile {
    /// Those that can be taken over.
    pub users: Vec<ClassicUser>,
    /// The others: who, and why not.
    pub skipped: Vec<(String, String)>,
}

/// Reads a `user.db`.
///
/// # Errors
/// The file is missing, cannot be read, or has no table `user` with a name and a password.
pub async fn read_classic(path: &Path) -> Result<ClassicFile, StoreError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match std::fs::metadata(&absolute) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "there is no such file".to_owned();
            return Err(StoreError::Unreachable { path: absolute, why });
        }
        Err(error) => return Err(StoreError::Unreachable { path: absolute, why: error.to_string() }),
        Ok(_) => {}
    }
    let options = SqliteConnectOptions::new()
        .filename(&absolute)
        .read_only(true)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    let sort = |error| StoreError::at(&absolute, error);
    let mut conn = options.connect().await.map_err(sort)?;
    let rows = fetch(&mut conn).await;
    let _ = conn.close().await;
    let rows = rows.map_err(sort)?.ok_or_else(|| StoreError::NotClassic(absolute.clone()))?;
    let mut file = ClassicFile::default();
    let mut names = HashSet::new();
    for (at, row) in rows.iter().enumerate() {
        match read_row(row) {
            Ok(user) if names.contains(&user.name) => {
                file.skipped.push((user.name, "it is there more than once; its first row was taken".into()));
            }
            Ok(user) => {
                names.insert(user.name.clone());
                file.users.push(user);
            }
            Err((who, why)) => file.skipped.push((who.unwrap_or_else(|| format!("row {}", at + 1)), why)),
        }
    }
    Ok(file)
}

/// The rows; none without such a table.
async fn fetch(conn: &mut SqliteConnection) -> Result<Option<Vec<SqliteRow>>, sqlx::Error> {
    let sql = "SELECT lower(name) FROM pragma_table_info('user')";
    let columns: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *conn).await?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    if !has("name") || !has("password") {
        return Ok(None);
    }
    let sql = match has("datarate") {
        true => "SELECT name AS name, password AS password, dataRate AS rate FROM user",
        false => "SELECT name AS name, password AS password, NULL AS rate FROM user",
    };
    sqlx::query(sql).fetch_all(conn).await.map(Some)
}

fn read_row(row: &SqliteRow) -> Result<ClassicUser, (Option<String>, String)> {
    let name =
        get::<String>(row, "name").map_err(|()| (None, format!("its name is {}", shown(row, "name"))))?;
    if let Some(why) = name::wrong_with(&name) {
        return Err((None, format!("its name is {}: {why}", shown(row, "name"))));
    }
    let no = |why: String| (Some(name.clone()), why);
    let password = get::<String>(row, "password").map_err(|()| no("its password is not text".into()))?;
    if password.is_empty() {
        return Err(no("its password is empty".into()));
    }
    let rate = read_rate(row).ok_or_else(|| no(format!("its dataRate is {}", shown(row, "rate"))))?;
    Ok(ClassicUser { name, password: Secret::new(password), rate })
}

/// None: no rate at all; Some(None): the default.
fn read_rate(row: &SqliteRow) -> Option<Option<u64>> {
    match get_opt::<i64>(row, "rate") {
        Ok(rate) => u64::try_from(rate.unwrap_or(0)).ok().map(|rate| (rate > 0).then_some(rate)),
        // A fraction of a byte is none.
        Err(()) => match get::<f64>(row, "rate") {
            Ok(rate) if rate >= 1.0 && rate < i64::MAX as f64 => Some(Some(rate as u64)),
            _ => None,
        },
    }
}
