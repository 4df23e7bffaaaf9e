//! The store is away, in every way; nothing stops, and nothing is lost.

use super::*;

#[tokio::test]
async fn a_locked_store_stops_nothing_and_is_caught_up() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    let mut locker = bed.raw().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut locker).await.unwrap();
    let (said, _guard) = said::listen();
    for hour in 0..4 {
        alice.usage.count(Up, 10);
        for second in 1..8 {
            on.step(hour * 3600 + second).await;
        }
        assert!(on.why_down().contains("locked by another program"), "{}", on.why_down());
    }
    sqlx::raw_sql("UPDATE users SET rate_down = 77; COMMIT").execute(&mut locker).await.unwrap();
    locker.close().await.unwrap();
    on.step(3 * 3600 + 8).await;
    assert_eq!(
        alice.rate(Down),
        AccountRate::Limited(77),
        "reading does not wait for the writing half's turn"
    );
    on.recover(3 * 3600 + 9).await;
    assert_eq!(bed.usage().await, (40, 0, 4));
    assert_eq!(said.warnings(), 1);
    assert_eq!(said.infos(), 1);
}

#[tokio::test]
async fn an_exclusively_held_store_is_caught_up_too() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    // Nobody may hold the shared memory for an exclusive lock to be had.
    on.sync.unlink().await;
    let mut locker = bed.raw().await;
    sqlx::raw_sql("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE users SET rate_up = 5; COMMIT")
        .execute(&mut locker)
        .await
        .unwrap();
    on.account("alice").usage.count(Up, 10);
    on.step(1).await;
    assert!(on.why_down().contains("locked"), "{}", on.why_down());
    locker.close().await.unwrap();
    on.recover(2).await;
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(5));
    assert_eq!(bed.usage().await.0, 10);
}

#[tokio::test]
async fn a_file_put_in_its_place_is_noticed_and_gets_every_count() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("VACUUM INTO 's.backup'".replace("s.backup", bed.path("backup.db").to_str().unwrap()).as_str())
        .await;
    let (alice, bob) = (on.account("alice"), on.account("bob"));
    alice.usage.count(Up, 10);
    bob.usage.count(Up, 1);
    on.step(1).await;
    bed.sql("UPDATE users SET rate_up = 9 WHERE name = 'alice'; DELETE FROM users WHERE name = 'bob'").await;
    on.step(3601).await;
    assert_eq!(alice.rate(Up), AccountRate::Limited(9));
    alice.usage.count(Up, 100);

    std::fs::rename(bed.path("s.db"), bed.path("old.db")).unwrap();
    std::fs::rename(bed.path("backup.db"), bed.path("s.db")).unwrap();
    on.step(3602).await;
    assert!(on.is_ok());
    assert_eq!(alice.rate(Up), AccountRate::Default, "the backup's word");
    assert!(on.has("bob") && !Arc::ptr_eq(&bob, &on.account("bob")));
    assert_eq!(bed.usage().await, (110, 0, 1), "all of alice's; bob of the backup is another");
    alice.usage.count(Up, 1000);
    on.step(3603).await;
    assert_eq!(bed.usage().await, (1110, 0, 1));
    // The old file was left whole, with what had been written to it.
    assert_eq!(bed.usage_at("old.db").await, (11, 0, 2));
    std::fs::rename(bed.path("old.db"), bed.path("s.db")).unwrap();
    // And back in its place it gets what it lacks.
    on.step(3604).await;
    assert_eq!(bed.usage().await, (1111, 0, 3));
}

#[tokio::test]
async fn a_missing_store_is_not_made_anew_and_keeps_everybody() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    std::fs::rename(bed.path("s.db"), bed.path("away.db")).unwrap();
    let alice = on.account("alice");
    alice.usage.count(Down, 10);
    let (said, _guard) = said::listen();
    for second in 1..20 {
        on.step(second).await;
    }
    assert!(on.why_down().contains("there is no"), "{}", on.why_down());
    assert!(!bed.path("s.db").exists() && alice.barred().is_none());
    // Neither an empty file nor somebody else's is taken for a store without users.
    for contents in
        ["", "nonsense, long enough to be taken for a header of a database file, or is it not quite"]
    {
        std::fs::write(bed.path("s.db"), contents).unwrap();
        for second in 20..40 {
            on.step(second).await;
        }
        assert!(alice.barred().is_none() && on.has("alice"));
        assert!(!on.is_ok());
    }
    std::fs::rename(bed.path("away.db"), bed.path("s.db")).unwrap();
    on.recover(40).await;
    assert!(Arc::ptr_eq(&alice, &on.account("alice")));
    assert_eq!(bed.usage().await.1, 10);
    assert_eq!((said.warnings(), said.infos()), (1, 1));
}

#[tokio::test]
async fn a_backup_restored_into_the_same_file_is_noticed() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    alice.usage.count(Up, 10);
    on.step(1).await;
    // What `.restore` does, seen by a reader: rows, log and usage of another history, with a log as long.
    bed.sql(
        "DELETE FROM usage; DROP TRIGGER users_after_update; UPDATE users SET rate_up = 5 WHERE name = 'alice';
         DELETE FROM changes WHERE seq = 2; INSERT INTO changes (seq, user_id) VALUES (2, 2)",
    )
    .await;
    on.step(2).await;
    assert_eq!(alice.rate(Up), AccountRate::Limited(5));
    assert_eq!(bed.usage().await, (10, 0, 1));
}

#[tokio::test]
async fn a_write_that_fails_for_any_reason_is_made_up_for() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("CREATE TRIGGER no BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    on.account("alice").usage.count(Up, 10);
    on.step(1).await;
    on.step(2).await;
    assert!(on.why_down().contains("no"));
    bed.sql("UPDATE users SET rate_up = 3").await;
    for second in 3..9 {
        on.step(second).await;
    }
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(3));
    bed.sql("DROP TRIGGER no").await;
    on.recover(9).await;
    assert_eq!(bed.usage().await.0, 10);
}

#[tokio::test]
async fn a_store_without_room_is_down_until_there_is_some() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let link = on.sync.link.as_mut().unwrap();
    sqlx::raw_sql("PRAGMA max_page_count = 1").execute(&mut link.conn).await.unwrap();
    let users = 5000;
    let many = format!(
        "INSERT INTO users (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {users})
         SELECT 'user' || i FROM n"
    );
    bed.sql(&many).await;
    on.step(1).await;
    for account in on.node.accounts.all() {
        account.usage.count(Up, 1);
    }
    on.step(2).await;
    assert!(on.why_down().contains("no room left"), "{}", on.why_down());
    assert!(on.sync.link.is_none(), "a connection that counts a transaction as open writes nothing any more");
    on.recover(3).await;
    assert_eq!(bed.usage().await.0, users + 1);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_refused_at_start() {
    let bed = Bed::with(&["alice"]).await;
    let mut sync = StoreSync::new(&bed.store, Node::new("n"), "b");
    sync.read().await.unwrap();
    let link = sync.link.as_mut().unwrap();
    sqlx::raw_sql("PRAGMA query_only = ON").execute(&mut link.conn).await.unwrap();
    let error = sync.load(at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");

    std::fs::remove_file(bed.path("s.db")).unwrap();
    let error = StoreSync::new(&bed.store, Node::new("n"), "b").load(at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)), "{error}");
}

#[tokio::test]
async fn a_file_put_in_its_place_is_not_spoilt_by_those_who_still_read_the_old_one() {
    let bed = Bed::with(&["alice"]).await;
    let mut one = bed.node("one", "b1").await;
    let mut two = bed.node("two", "b2").await;
    bed.sql(&format!("VACUUM INTO '{}'", bed.path("backup.db").display())).await;
    // A reader in the middle of something: the old log cannot be carried over and emptied.
    let mut reader = bed.raw().await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM users").execute(&mut reader).await.unwrap();
    for on in [&mut one, &mut two] {
        on.account("alice").usage.count(Up, 10);
        on.step(1).await;
    }
    bed.sql("UPDATE users SET rate_up = 9").await;
    std::fs::rename(bed.path("s.db"), bed.path("old.db")).unwrap();
    std::fs::rename(bed.path("backup.db"), bed.path("s.db")).unwrap();
    for second in 2..5 {
        for on in [&mut one, &mut two] {
            on.account("alice").usage.count(Up, 100);
            on.step(second).await;
            assert!(on.is_ok());
            assert_eq!(on.account("alice").rate(Up), AccountRate::Default, "the new file's word");
        }
    }
    assert!(bed.path("s.db-wal.stale").exists());
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    assert_eq!(bed.usage().await, (620, 0, 2));
    let mut conn = bed.raw().await;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut conn).await.unwrap();
    assert_eq!(whole, "ok");
    conn.close().await.unwrap();
}
