//! A file that was written over in place, while the store has it open.

use super::*;

/// Puts other content into the store's file, which stays the same file.
fn overwrite(bed: &Bed, with: &[u8]) {
    std::fs::write(bed.path("s.db"), with).unwrap();
}

fn content(bed: &Bed, name: &str) -> Vec<u8> {
    std::fs::read(bed.path(name)).unwrap()
}

/// A whole copy of the store, as it is now.
async fn backup(bed: &Bed) -> Vec<u8> {
    let _ = std::fs::remove_file(bed.path("backup.db"));
    bed.sql(&format!("VACUUM INTO '{}'", bed.path("backup.db").display())).await;
    content(bed, "backup.db")
}

/// An SQLite database of another program.
async fn others(bed: &Bed) -> Vec<u8> {
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(bed.path("o.db")).create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE song (title); INSERT INTO song VALUES ('la')")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    content(bed, "o.db")
}

#[tokio::test]
async fn it_is_told_and_nothing_is_written_into_it() {
    let bed = Bed::with(&["alice"]).await;
    let (good, other) = (backup(&bed).await, others(&bed).await);
    let cut = good[..good.len() / 2].to_vec();
    for (what, contents, why) in [
        ("garbage", vec![0x5a; 50_000], "is not an SQLite database"),
        ("nothing", Vec::new(), "holds no SwiftProxy store"),
        ("a little", vec![0x5a; 30], "is not an SQLite database"),
        ("another program's", other, "holds no SwiftProxy store"),
        ("half of it", cut, "is damaged"),
    ] {
        overwrite(&bed, &good);
        for beside in ["s.db-wal", "s.db-shm"] {
            let _ = std::fs::remove_file(bed.path(beside));
        }
        let mut on = bed.node("n", what).await;
        let alice = on.account("alice");
        alice.usage.count(Up, 10);
        on.step(1).await;
        let (said, _guard) = said::listen();
        overwrite(&bed, &contents);
        for second in 2..30 {
            alice.usage.count(Up, 1);
            on.step(second).await;
            if what != "half of it" {
                assert!(content(&bed, "s.db") == contents, "{what}, second {second}");
            }
        }
        assert!(on.why_down().contains(why), "{what}: {}", on.why_down());
        assert!(on.has("alice") && alice.barred().is_none(), "{what}");
        assert_eq!(said.warnings(), 1, "{what}");
        // Back in the same way.
        overwrite(&bed, &good);
        on.recover(30).await;
        let stored: (i64, i64, i64) = bed.usage().await;
        assert_eq!(stored.0, 38, "{what}");
        assert_eq!((said.warnings(), said.infos()), (1, 2), "{what}");
        drop(on);
    }
}

#[tokio::test]
async fn another_store_that_was_copied_over_it_is_taken_up() {
    let bed = Bed::with(&["alice"]).await;
    let old = backup(&bed).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    for second in 1..20 {
        alice.usage.count(Up, 10);
        bed.sql("UPDATE users SET rate_up = coalesce(rate_up, 0) + 7").await;
        on.step(second).await;
    }
    bed.sql("PRAGMA wal_checkpoint").await;
    on.step(20).await;
    assert!(on.is_ok(), "SQLite's own writing is no cause for alarm");
    assert_eq!(alice.rate(Up), AccountRate::Limited(19 * 7));
    overwrite(&bed, &old);
    for second in 21..30 {
        on.step(second).await;
    }
    assert!(on.is_ok());
    assert_eq!(alice.rate(Up), AccountRate::Default, "the backup's word");
    assert_eq!(bed.usage().await.0, 190, "it gets every count");
    let mut conn = bed.raw().await;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut conn).await.unwrap();
    assert_eq!(whole, "ok");
}

#[tokio::test]
async fn what_sqlite_itself_does_to_the_file_is_no_alarm() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let (said, _guard) = said::listen();
    for (second, sql) in (1..).zip([
        "CREATE INDEX by_rate ON users (rate_up); PRAGMA wal_checkpoint(TRUNCATE)",
        "DROP INDEX by_rate",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "CREATE TABLE mine (a); INSERT INTO mine SELECT randomblob(5000000); PRAGMA wal_checkpoint(TRUNCATE)",
        "DROP TABLE mine; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
        "UPDATE users SET rate_up = 5; PRAGMA wal_checkpoint(TRUNCATE)",
    ]) {
        bed.sql(sql).await;
        on.account("alice").usage.count(Up, 10);
        on.step(2 * second).await;
        on.step(2 * second + 1).await;
        assert!(on.is_ok(), "{sql}: {}", on.why_down());
    }
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(5));
    assert_eq!((said.warnings(), said.infos()), (0, 0));
    assert_eq!(bed.usage().await.0, 70);
}
