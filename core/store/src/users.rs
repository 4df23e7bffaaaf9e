//! What an admin does with users.
//!
//! Invariant: a change is whole or not at all, and goes to the file that lies at the store's path at that moment.

use std::fmt;

use sqlx::AssertSqlSafe;
use swiftproxy_core::account::AccountRate;

use crate::Store;
use crate::db::Link;
use crate::error::StoreError;
use crate::name::check_name;
use crate::row::{MAX_WEIGHT, UserRow, rate_value, user_columns};

/// A user as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Never used again.
    pub id: i64,
    /// Unique, case-sensitive.
    pub name: String,
    /// A PHC string; none: no password logs in.
    pub password_hash: Option<String>,
    /// Whether the account may be used.
    pub enabled: bool,
    /// Client to target.
    pub up: AccountRate,
    /// Target to client.
    pub down: AccountRate,
    /// Its share where accounts share a cap, 1 to 1,000,000.
    pub weight: u32,
    /// Goes up with every change.
    pub revision: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
    /// What in the row makes no sense, each with what to write instead.
    pub problems: Vec<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A user to be.
#[derive(Clone, PartialEq, Eq)]
pub struct NewUser {
    /// 1 to 255 bytes, no colon, no control character.
    pub name: String,
    /// A PHC string; none: no password logs in.
    pub password_hash: Option<String>,
    /// Whether the account may be used.
    pub enabled: bool,
    /// Client to target.
    pub up: AccountRate,
    /// Target to client.
    pub down: AccountRate,
    /// Its share where accounts share a cap, 1 to 1,000,000.
    pub weight: u32,
}

impl NewUser {
    /// Enabled, with the defaults' rates and share.
    pub fn new(name: impl Into<String>, password_hash: Option<String>) -> Self {
        let rate = AccountRate::Default;
        Self { name: name.into(), password_hash, enabled: true, up: rate, down: rate, weight: 1 }
    }
}

impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What to change; what is none stays.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    /// Another name. Ends the sessions under the old one.
    pub name: Option<String>,
    /// Another hash, or none at all.
    pub password_hash: Option<Option<String>>,
    /// Whether the account may be used.
    pub enabled: Option<bool>,
    /// Client to target.
    pub up: Option<AccountRate>,
    /// Target to client.
    pub down: Option<AccountRate>,
    /// Its share where accounts share a cap.
    pub weight: Option<u32>,
}

impl fmt::Debug for UserChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, password_hash, enabled, up, down, weight } = self;
        f.debug_struct("UserChange")
            .field("name", name)
            .field("password_hash", &password_hash.as_ref().map(|_| "…"))
            .field("enabled", enabled)
            .field("up", up)
            .field("down", down)
            .field("weight", weight)
            .finish()
    }
}

impl Store {
    /// All users, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let mut link = self.link().await?;
        let sql = concat!("SELECT ", user_columns!(), " FROM users u ORDER BY u.name");
        let rows = sqlx::query(sql).fetch_all(&mut link.conn).await;
        self.done(link, rows)
            .await
            .map(|rows| rows.iter().filter_map(UserRow::read).map(User::from).collect())
    }

    /// The user of that name.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`]; the store cannot be read.
    pub async fn user(&self, name: &str) -> Result<User, StoreError> {
        let mut link = self.link().await?;
        let user = fetch(&mut link, name).await;
        self.done(link, user).await?.ok_or_else(|| StoreError::NoSuchUser(name.to_owned()))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::InvalidName`], [`StoreError::InvalidValue`]; the store cannot be written.
    pub async fn add_user(&self, new: &NewUser) -> Result<User, StoreError> {
        check_name(&new.name)?;
        check_hash(new.password_hash.as_deref())?;
        check_weight(new.weight)?;
        let mut link = self.link().await?;
        let added = async {
            sqlx::query(
                "INSERT INTO users (name, password_hash, enabled, rate_up, rate_down, weight) VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(&new.name)
            .bind(&new.password_hash)
            .bind(i64::from(new.enabled))
            .bind(rate_value(new.up))
            .bind(rate_value(new.down))
            .bind(i64::from(new.weight))
            .execute(&mut link.conn)
            .await?;
            fetch(&mut link, &new.name).await
        }
        .await;
        self.named(link, added, &new.name).await?.ok_or_else(|| StoreError::NoSuchUser(new.name.clone()))
    }

    /// Changes what `change` names.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], and those of [`Store::add_user`].
    pub async fn update_user(&self, name: &str, change: &UserChange) -> Result<User, StoreError> {
        if let Some(name) = &change.name {
            check_name(name)?;
        }
        check_hash(change.password_hash.as_ref().and_then(Option::as_deref))?;
        check_weight(change.weight.unwrap_or(1))?;
        let new_name = change.name.as_deref().unwrap_or(name);
        let mut link = self.link().await?;
        let changed = async {
            if let Some(sql) = update_sql(change) {
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(name);
                if let Some(name) = &change.name {
                    query = query.bind(name);
                }
                if let Some(hash) = &change.password_hash {
                    query = query.bind(hash);
                }
                if let Some(enabled) = change.enabled {
                    query = query.bind(i64::from(enabled));
                }
                for rate in [change.up, change.down].into_iter().flatten() {
                    query = query.bind(rate_value(rate));
                }
                if let Some(weight) = change.weight {
                    query = query.bind(i64::from(weight));
                }
                if query.execute(&mut link.conn).await?.rows_affected() == 0 {
                    return Ok(None);
                }
            }
            fetch(&mut link, new_name).await
        }
        .await;
        self.named(link, changed, new_name).await?.ok_or_else(|| StoreError::NoSuchUser(name.to_owned()))
    }

    /// Removes a user; what was counted for it stays.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`]; the store cannot be written.
    pub async fn remove_user(&self, name: &str) -> Result<(), StoreError> {
        let mut link = self.link().await?;
        let removed =
            sqlx::query("DELETE FROM users WHERE name = $1").bind(name).execute(&mut link.conn).await;
        match self.done(link, removed).await?.rows_affected() {
            0 => Err(StoreError::NoSuchUser(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// As [`Store::done`], where a violated uniqueness means that `name` is taken.
    async fn named<T>(
        &self,
        link: Link,
        result: Result<T, sqlx::Error>,
        name: &str,
    ) -> Result<T, StoreError> {
        let taken = matches!(&result, Err(sqlx::Error::Database(error)) if error.is_unique_violation());
        let result = self.done(link, result).await;
        if taken { Err(StoreError::NameTaken(name.to_owned())) } else { result }
    }
}

/// The statement for the columns that change, its parameters in the order of the fields; none if nothing changes.
fn update_sql(change: &UserChange) -> Option<String> {
    let columns = [
        ("name", change.name.is_some()),
        ("password_hash", change.password_hash.is_some()),
        ("enabled", change.enabled.is_some()),
        ("rate_up", change.up.is_some()),
        ("rate_down", change.down.is_some()),
        ("weight", change.weight.is_some()),
    ];
    let set: Vec<_> = columns
        .iter()
        .filter(|(_, changes)| *changes)
        .zip(2..)
        .map(|((column, _), at)| format!("{column} = ${at}"))
        .collect();
    (!set.is_empty()).then(|| format!("UPDATE users SET {} WHERE name = $1", set.join(", ")))
}

async fn fetch(link: &mut Link, name: &str) -> Result<Option<User>, sqlx::Error> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users u WHERE u.name = $1");
    let row = sqlx::query(sql).bind(name).fetch_optional(&mut link.conn).await?;
    Ok(row.as_ref().and_then(UserRow::read).map(User::from))
}

fn check_hash(hash: Option<&str>) -> Result<(), StoreError> {
    if hash.is_none_or(|hash| hash.starts_with('$')) {
        return Ok(());
    }
    Err(StoreError::InvalidValue { column: "password_hash", why: "it is not a PHC string" })
}

fn check_weight(weight: u32) -> Result<(), StoreError> {
    if (1..=MAX_WEIGHT).contains(&weight) {
        return Ok(());
    }
    Err(StoreError::InvalidValue { column: "weight", why: "write a number from 1 to 1000000" })
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            problems: row.problems(),
            id: row.id,
            name: row.name.unwrap_or_default(),
            password_hash: row.password_hash.ok().flatten(),
            enabled: row.enabled.unwrap_or(false),
            up: row.up.unwrap_or_default(),
            down: row.down.unwrap_or_default(),
            weight: row.weight.unwrap_or(1),
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
