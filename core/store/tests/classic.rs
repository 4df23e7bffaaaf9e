//! Accounts of the first SwiftProxy, taken over.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use swiftproxy_core::account::AccountRate;
use swiftproxy_store::{NewUser, Store, StoreError, read_classic};

async fn write(path: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

const TABLE: &str =
    "CREATE TABLE user (name varchar(50) not null, password varchar(50) not null, dataRate int);";

#[tokio::test]
async fn what_makes_sense_is_read_and_the_rest_has_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("user.db");
    let rows = "INSERT INTO user VALUES ('user1', 'pass:1', 300000), ('user2', 'p', NULL), ('user3', 'ü', 0),
        ('user1', 'other', 5), ('', 'p', 1), ('a:b', 'p', 1), ('a' || char(10), 'p', 1), (x'ff00', 'p', 1),
        (CAST(x'ff' AS TEXT), 'p', 1), ('e', '', 1), ('f', x'00', 1), ('g', 'p', -1), ('h', 'p', 'fast'),
        ('i', 'p', '2000'), ('j', 'p', 1000.7), (17, 18, 19), ('k', 'p', 0.5)";
    write(&path, &format!("{TABLE} {rows}")).await;
    let before = std::fs::read(&path).unwrap();
    let file = read_classic(&path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let users: Vec<_> =
        file.users.iter().map(|user| (user.name.as_str(), user.password.expose(), user.rate)).collect();
    assert_eq!(
        users,
        [
            ("user1", "pass:1", Some(300_000)),
            ("user2", "p", None),
            ("user3", "ü", None),
            ("i", "p", Some(2000)),
            ("j", "p", Some(1000)),
            ("17", "18", Some(19)),
        ]
    );
    let skipped: Vec<_> = file.skipped.iter().map(|(who, _)| who.as_str()).collect();
    assert_eq!(
        skipped,
        ["user1", "row 5", "row 6", "row 7", "row 8", "row 9", "e", "f", "g", "h", "k"],
        "{:?}",
        file.skipped
    );
    assert!(file.skipped.iter().all(|(who, why)| !why.is_empty() && !who.chars().any(char::is_control)));
    assert!(!format!("{file:?}").contains("pass:1"));
}

#[tokio::test]
async fn a_table_without_rules_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("user.db");
    write(&path, "CREATE TABLE user (NAME, Password); INSERT INTO user VALUES ('a', 'p'), (NULL, 'p'), ('b', NULL), (1.5, 2)").await;
    let file = read_classic(&path).await.unwrap();
    assert_eq!(file.users.len(), 1, "{file:?}");
    assert_eq!(file.skipped.len(), 3);
}

#[tokio::test]
async fn other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let error = read_classic(&at("none.db")).await.unwrap_err();
    assert!(error.to_string().contains("no such file") && !at("none.db").exists(), "{error}");
    std::fs::write(at("text"), "x".repeat(4096)).unwrap();
    let error = read_classic(&at("text")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotADatabase(_)), "{error}");
    std::fs::write(at("empty"), "").unwrap();
    let error = read_classic(&at("empty")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotClassic(_)), "{error}");
    Store::open(&format!("sqlite://{}", at("store.db").display())).await.unwrap();
    let error = read_classic(&at("store.db")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotClassic(_)), "{error}");
}

/// The import as a whole: one rate becomes both, and run twice it adds nothing twice.
#[tokio::test]
async fn taken_over_twice_adds_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("user.db");
    write(&path, &format!("{TABLE} INSERT INTO user VALUES ('user1', 'p', 300000), ('user2', 'p', NULL)"))
        .await;
    let store = Store::open(&format!("sqlite://{}", dir.path().join("s.db").display())).await.unwrap();
    for run in 0..2 {
        for user in read_classic(&path).await.unwrap().users {
            let rate = user.rate.map_or(AccountRate::Default, AccountRate::Limited);
            let new = NewUser { up: rate, down: rate, ..NewUser::new(user.name, Some("$hash".into())) };
            let added = store.add_user(&new).await;
            assert_eq!(matches!(added, Err(StoreError::NameTaken(_))), run == 1);
        }
    }
    let users = store.users().await.unwrap();
    assert_eq!(users.len(), 2);
    assert_eq!((users[0].up, users[0].down), (AccountRate::Limited(300_000), AccountRate::Limited(300_000)));
    assert_eq!(users[1].up, AccountRate::Default);
}
