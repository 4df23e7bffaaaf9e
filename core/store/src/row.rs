//! A row of `users` as it is, nonsense included.
//!
//! Invariant: whatever somebody wrote into a row by hand, reading it never fails; what cannot be meant is named with what to write
//! instead, and the account gets no more than it had.

use std::fmt::Display;

use sqlx::{Decode, Row as _, Type, ValueRef};
use swiftproxy_core::account::{AccountRate, AccountSpec, Password};

use crate::db::{Database, Row};
use crate::name;

/// The columns that [`UserRow::read`] wants, of a table or alias named `u`.
macro_rules! user_columns {
    () => {
        "u.id, u.name, u.password_hash, u.enabled, u.rate_up, u.rate_down, u.weight, u.revision, u.created_at, u.updated_at"
    };
}
pub(crate) use user_columns;

/// A value, or what is wrong with it and what to write instead.
type Checked<T> = Result<T, String>;

/// What a row says.
pub(crate) struct UserRow {
    pub(crate) id: i64,
    pub(crate) name: Checked<String>,
    pub(crate) password_hash: Checked<Option<String>>,
    pub(crate) enabled: Checked<bool>,
    pub(crate) up: Checked<AccountRate>,
    pub(crate) down: Checked<AccountRate>,
    pub(crate) weight: Checked<u32>,
    pub(crate) revision: i64,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

/// What a row said when it last made sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    up: AccountRate,
    down: AccountRate,
    weight: u32,
}

impl UserRow {
    /// Reads the columns of [`user_columns`]; none without an id (of an outer join).
    pub(crate) fn read(row: &Row) -> Option<Self> {
        let id = get::<i64>(row, "id").ok()?;
        Some(Self {
            id,
            name: read_name(row),
            password_hash: read_hash(row),
            enabled: read_enabled(row),
            up: read_rate(row, "rate_up"),
            down: read_rate(row, "rate_down"),
            weight: read_weight(row),
            revision: get(row, "revision").unwrap_or_default(),
            created_at: get(row, "created_at").unwrap_or_default(),
            updated_at: get(row, "updated_at").unwrap_or_default(),
        })
    }

    /// What is wrong with it.
    pub(crate) fn problems(&self) -> Vec<String> {
        fn problem<T>(value: &Checked<T>) -> Option<String> {
            value.as_ref().err().cloned()
        }
        [
            problem(&self.name),
            problem(&self.password_hash),
            problem(&self.enabled),
            problem(&self.up),
            problem(&self.down),
            problem(&self.weight),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The account it describes; none without a name that can be one. Rates that make no sense stay what they were, and
    /// where nothing was known the account is barred rather than unlimited.
    pub(crate) fn spec(self, before: Option<Known>) -> Option<(AccountSpec, Known)> {
        let name = self.name.ok()?;
        let lost = (self.up.is_err() || self.down.is_err()) && before.is_none();
        let before =
            before.unwrap_or(Known { up: AccountRate::Default, down: AccountRate::Default, weight: 1 });
        let known = Known {
            up: self.up.unwrap_or(before.up),
            down: self.down.unwrap_or(before.down),
            weight: self.weight.unwrap_or(before.weight),
        };
        let spec = AccountSpec {
            row: Some(self.id),
            name,
            password: self.password_hash.ok().flatten().map(Password::hash),
            enabled: self.enabled.unwrap_or(false) && !lost,
            up: known.up,
            down: known.down,
            weight: known.weight,
        };
        Some((spec, known))
    }
}

/// The rate that a column's value stands for.
pub(crate) fn rate(value: Option<i64>) -> Option<AccountRate> {
    match value {
        None => Some(AccountRate::Default),
        Some(0) => Some(AccountRate::Unlimited),
        Some(rate) => u64::try_from(rate).ok().map(AccountRate::Limited),
    }
}

/// The column's value that stands for a rate.
pub(crate) fn rate_value(rate: AccountRate) -> Option<i64> {
    match rate {
        AccountRate::Default => None,
        AccountRate::Unlimited => Some(0),
        AccountRate::Limited(rate) => Some(i64::try_from(rate.max(1)).unwrap_or(i64::MAX)),
    }
}

fn read_name(row: &Row) -> Checked<String> {
    let name =
        get::<String>(row, "name").map_err(|()| format!("name is {}: write text", shown(row, "name")))?;
    match name::wrong_with(&name) {
        None => Ok(name),
        Some(why) => Err(format!("name is {}: {why}", shown(row, "name"))),
    }
}

fn read_hash(row: &Row) -> Checked<Option<String>> {
    match get_opt::<String>(row, "password_hash") {
        Ok(Some(hash)) if !hash.starts_with('$') => {}
        Ok(hash) => return Ok(hash),
        Err(()) => {}
    }
    Err("password_hash is no hash: set the password with `swiftproxy user passwd NAME`".into())
}

fn read_enabled(row: &Row) -> Checked<bool> {
    match get::<i64>(row, "enabled") {
        Ok(0) => Ok(false),
        Ok(1) => Ok(true),
        _ => Err(format!("enabled is {}: write 1 or 0", shown(row, "enabled"))),
    }
}

fn read_rate(row: &Row, column: &str) -> Checked<AccountRate> {
    get_opt::<i64>(row, column).ok().and_then(rate).ok_or_else(|| {
        let shown = shown(row, column);
        format!("{column} is {shown}: write bytes per second, 0 for unlimited, NULL for the default")
    })
}

fn read_weight(row: &Row) -> Checked<u32> {
    match get::<i64>(row, "weight").map(u32::try_from) {
        Ok(Ok(weight @ 1..=MAX_WEIGHT)) => Ok(weight),
        _ => Err(format!("weight is {}: write a number from 1 to {MAX_WEIGHT}", shown(row, "weight"))),
    }
}

/// The largest share an account can have.
pub(crate) const MAX_WEIGHT: u32 = 1_000_000;

/// A column's value, if it is of that type and not NULL (which SQLite would read as a zero).
pub(crate) fn get<'r, T>(row: &'r Row, column: &str) -> Result<T, ()>
where
    T: Decode<'r, Database> + Type<Database>,
{
    get_opt(row, column)?.ok_or(())
}

/// A column's value, if it is of that type.
pub(crate) fn get_opt<'r, T>(row: &'r Row, column: &str) -> Result<Option<T>, ()>
where
    T: Decode<'r, Database> + Type<Database>,
{
    row.try_get(column).map_err(drop)
}

/// A column's value for a person, whatever its type: short, escaped.
pub(crate) fn shown(row: &Row, column: &str) -> String {
    fn short(value: impl Display) -> String {
        let text = value.to_string();
        let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        if text.chars().count() > 40 {
            shown.push('…');
        }
        shown
    }
    match row.try_get_raw(column) {
        Err(_) => "missing".into(),
        Ok(value) if value.is_null() => "NULL".into(),
        Ok(_) => get::<i64>(row, column)
            .map(short)
            .or_else(|()| get::<f64>(row, column).map(short))
            .or_else(|()| get::<String>(row, column).map(|text| format!("'{}'", short(text))))
            .unwrap_or_else(|()| "bytes".into()),
    }
}
