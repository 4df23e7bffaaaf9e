//! What an admin does with a store, and what a store says of files that are none.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use swiftproxy_core::account::AccountRate;
use swiftproxy_store::{NewUser, Store, StoreError, UserChange, check_name};
use tempfile::TempDir;

fn url(dir: &TempDir) -> String {
    format!("sqlite://{}", file(dir).display())
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("s.db")
}

async fn raw(path: PathBuf) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(Duration::ZERO)
        .connect()
        .await
        .unwrap()
}

async fn sql(path: PathBuf, sql: &str) -> Result<(), String> {
    let mut conn = raw(path).await;
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await;
    conn.close().await.unwrap();
    done.map(drop).map_err(|error| error.to_string())
}

async fn fresh() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&url(&dir)).await.unwrap();
    (dir, store)
}

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA";

#[tokio::test]
async fn a_user_from_first_to_last() {
    let (_dir, store) = fresh().await;
    let new = NewUser {
        up: AccountRate::Unlimited,
        down: AccountRate::Limited(300_000),
        weight: 7,
        ..NewUser::new("alice", Some(HASH.into()))
    };
    let alice = store.add_user(&new).await.unwrap();
    assert_eq!((alice.up, alice.down, alice.weight), (new.up, new.down, 7));
    assert_eq!((alice.password_hash.as_deref(), alice.enabled, alice.revision), (Some(HASH), true, 1));
    assert!(alice.created_at > 1_700_000_000 && alice.problems.is_empty());
    assert!(!format!("{alice:?} {new:?}").contains("argon2"));

    let change = UserChange {
        name: Some("alicia".into()),
        password_hash: Some(None),
        enabled: Some(false),
        up: Some(AccountRate::Default),
        down: Some(AccountRate::Limited(u64::MAX)),
        weight: Some(1),
    };
    let alicia = store.update_user("alice", &change).await.unwrap();
    assert_eq!((alicia.id, alicia.name.as_str(), alicia.revision), (alice.id, "alicia", 2));
    assert_eq!((alicia.password_hash, alicia.enabled, alicia.weight), (None, false, 1));
    assert_eq!((alicia.up, alicia.down), (AccountRate::Default, AccountRate::Limited(u64::MAX >> 1)));

    let same = store.update_user("alicia", &UserChange::default()).await.unwrap();
    assert_eq!((same.revision, same.enabled), (2, false), "nothing named, nothing changed");
    let one = UserChange { weight: Some(9), ..UserChange::default() };
    let nine = store.update_user("alicia", &one).await.unwrap();
    assert_eq!((nine.weight, nine.enabled, nine.down), (9, false, alicia.down));

    store.remove_user("alicia").await.unwrap();
    assert!(store.users().await.unwrap().is_empty());
    let again = store.add_user(&NewUser::new("alicia", None)).await.unwrap();
    assert!(again.id > alice.id, "an id is never used again");
}

#[tokio::test]
async fn each_refusal_is_its_own() {
    let (_dir, store) = fresh().await;
    for name in ["alice", "Alice", "ümlaut 你", "a\u{a0}b", &"x".repeat(255)] {
        store.add_user(&NewUser::new(name, None)).await.unwrap();
        assert_eq!(store.user(name).await.unwrap().name, name);
    }
    let rename = |name: &str| UserChange { name: Some(name.into()), ..UserChange::default() };
    let taken = |error: StoreError| matches!(error, StoreError::NameTaken(name) if name == "alice");
    assert!(taken(store.add_user(&NewUser::new("alice", None)).await.unwrap_err()));
    assert!(taken(store.update_user("Alice", &rename("alice")).await.unwrap_err()));
    let nobody = |error: StoreError| matches!(error, StoreError::NoSuchUser(name) if name == "bob");
    assert!(nobody(store.user("bob").await.unwrap_err()));
    assert!(nobody(store.remove_user("bob").await.unwrap_err()));
    assert!(nobody(store.update_user("bob", &UserChange::default()).await.unwrap_err()));
    assert!(nobody(store.update_user("bob", &rename("carol")).await.unwrap_err()));
    for name in ["", "a:b", "a\nb", "a\0", "\u{7f}", "\u{9b}2J", &"x".repeat(256), &"ü".repeat(128)] {
        let invalid = |error: StoreError| matches!(error, StoreError::InvalidName { .. });
        assert!(invalid(check_name(name).unwrap_err()), "{name:?}");
        assert!(invalid(store.add_user(&NewUser::new(name, None)).await.unwrap_err()));
        assert!(invalid(store.update_user("alice", &rename(name)).await.unwrap_err()));
    }
    let clear = NewUser::new("carol", Some("hunter2".into()));
    let error = store.add_user(&clear).await.unwrap_err();
    assert!(
        matches!(error, StoreError::InvalidValue { column: "password_hash", .. })
            && !error.to_string().contains("hunter2")
    );
    let light = NewUser { weight: 0, ..NewUser::new("carol", None) };
    assert!(matches!(
        store.add_user(&light).await.unwrap_err(),
        StoreError::InvalidValue { column: "weight", .. }
    ));
    assert_eq!(store.users().await.unwrap().len(), 5);
}

/// The shell says what to write: the table holds the same rules.
#[tokio::test]
async fn the_table_refuses_nonsense_in_words() {
    let (dir, store) = fresh().await;
    store.add_user(&NewUser::new("alice", None)).await.unwrap();
    for (set, says) in [
        ("rate_up = '10Mbit/s'", "rate_up is in bytes per second, 0 = unlimited, NULL = the default"),
        ("rate_down = -1", "rate_down is in bytes per second"),
        ("enabled = 2", "enabled is 1 or 0"),
        ("weight = 0", "weight is a whole number from 1"),
        ("name = 'a:b'", "name must be 1 to 255 bytes"),
        ("name = 'a' || char(10)", "name must be 1 to 255 bytes"),
        ("password_hash = 'secret'", "password_hash is made by 'swiftproxy user passwd NAME'"),
    ] {
        let error = sql(file(&dir), &format!("UPDATE users SET {set}")).await.unwrap_err();
        assert!(error.contains(says), "{set}: {error}");
    }
    sql(file(&dir), "UPDATE users SET rate_up = '300000', rate_down = 5e3, enabled = '0'").await.unwrap();
    let alice = store.user("alice").await.unwrap();
    assert_eq!((alice.up, alice.down), (AccountRate::Limited(300_000), AccountRate::Limited(5000)));
    assert_eq!((alice.enabled, alice.revision), (false, 2));
}

#[tokio::test]
async fn a_row_of_nonsense_is_listed_with_what_to_write() {
    let (dir, store) = fresh().await;
    store.add_user(&NewUser::new("alice", None)).await.unwrap();
    store.add_user(&NewUser::new("bob", None)).await.unwrap();
    let nonsense = "PRAGMA ignore_check_constraints = ON; UPDATE users SET rate_up = 'a' || char(27) || 'b', weight = 1.5, \
                    password_hash = 'hunter2' WHERE name = 'bob'";
    sql(file(&dir), nonsense).await.unwrap();
    let users = store.users().await.unwrap();
    assert!(users[0].problems.is_empty());
    let said = users[1].problems.join("\n");
    assert!(
        said.contains("rate_up is 'a\\u{1b}b': write bytes per second") && said.contains("weight is 1.5"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let mend = UserChange {
        up: Some(AccountRate::Default),
        weight: Some(1),
        password_hash: Some(None),
        ..UserChange::default()
    };
    assert!(store.update_user("bob", &mend).await.unwrap().problems.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_store_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}/a/b/s.db", dir.path().display())).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(store.path()), 0o600);
    assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    // While somebody reads, the log stays.
    let mut held = raw(store.path().to_path_buf()).await;
    sqlx::raw_sql("SELECT * FROM users").execute(&mut held).await.unwrap();
    store.add_user(&NewUser::new("alice", None)).await.unwrap();
    assert_eq!(mode(&dir.path().join("a/b/s.db-wal")), 0o600);
    held.close().await.unwrap();
}

#[tokio::test]
async fn files_that_are_no_store_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Store::open_existing(&url(&dir)).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing(_)) && !file(&dir).exists(), "{missing}");

    let text = "not a database at all, and long enough that nobody takes it for a short header ........................";
    std::fs::write(file(&dir), text).unwrap();
    let error = Store::open(&url(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotADatabase(_)), "{error}");
    assert_eq!(std::fs::read_to_string(file(&dir)).unwrap(), text);

    std::fs::remove_file(file(&dir)).unwrap();
    sql(file(&dir), "CREATE TABLE user (name, password, dataRate)").await.unwrap();
    let error = Store::open(&url(&dir)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NotAStore(_)) && error.to_string().contains("user import"),
        "{error}"
    );

    std::fs::remove_file(file(&dir)).unwrap();
    std::fs::create_dir(file(&dir)).unwrap();
    let error = Store::open(&url(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let error = Store::open(&format!("sqlite://{}/x/s.db", dir.path().join("s.db/../t").display())).await;
    assert!(error.is_ok());
    std::fs::write(dir.path().join("plain"), "").unwrap();
    let error = Store::open(&format!("sqlite://{}/plain/s.db", dir.path().display())).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_schema_of_another_version_is_refused() {
    let (dir, store) = fresh().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)";
    sql(file(&dir), newer).await.unwrap();
    for error in [store.users().await.unwrap_err(), Store::open(&url(&dir)).await.unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { version: 9999, .. }), "{error}");
    }
    sql(
        file(&dir),
        "DELETE FROM _sqlx_migrations WHERE version = 9999; UPDATE _sqlx_migrations SET checksum = x'00'",
    )
    .await
    .unwrap();
    let error = store.users().await.unwrap_err();
    assert!(matches!(error, StoreError::Altered { version: 1, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_found_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let url = url(&dir);
    let all: Vec<_> = (0..8)
        .map(|at| {
            let url = url.clone();
            tokio::spawn(async move {
                let store = Store::open(&url).await?;
                store.add_user(&NewUser::new(format!("user{at}"), None)).await
            })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(Store::open(&url).await.unwrap().users().await.unwrap().len(), 8);
}

/// Root may write everywhere; there it is the sync's own test that counts.
#[cfg(unix)]
#[tokio::test]
async fn what_may_not_be_written_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = fresh().await;
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(dir.path(), 0o500);
    set(&file(&dir), 0o400);
    if std::fs::write(dir.path().join("x"), "").is_err() {
        let add = store.add_user(&NewUser::new("alice", None)).await.unwrap_err();
        let new = Store::open(&format!("sqlite://{}/t.db", dir.path().display())).await.unwrap_err();
        for error in [add, new] {
            let (text, known) = (
                error.to_string(),
                matches!(error, StoreError::ReadOnly(_) | StoreError::Unreachable { .. }),
            );
            assert!(known && text.contains("write"), "{text}");
        }
    }
    set(dir.path(), 0o700);
}

/// An admin's call goes to the file that lies there now, whatever lay there before.
#[tokio::test]
async fn a_store_follows_its_path() {
    let (dir, store) = fresh().await;
    store.add_user(&NewUser::new("alice", None)).await.unwrap();
    std::fs::rename(file(&dir), dir.path().join("old.db")).unwrap();
    assert!(matches!(store.users().await.unwrap_err(), StoreError::Missing(_)));
    Store::open(&url(&dir)).await.unwrap();
    assert!(store.users().await.unwrap().is_empty());
}
