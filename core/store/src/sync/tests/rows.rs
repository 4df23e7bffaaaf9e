//! Accounts follow the rows, whoever edits them, whatever they write.

use super::*;

#[tokio::test]
async fn rows_edited_by_hand_bind_on_the_same_account() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    bed.sql("UPDATE users SET rate_down = 300000, rate_up = 0, weight = 3 WHERE name = 'alice'").await;
    on.step(1).await;
    assert_eq!((alice.rate(Down), alice.rate(Up)), (AccountRate::Limited(300_000), AccountRate::Unlimited));
    assert_eq!(alice.weight(), 3);
    assert!(Arc::ptr_eq(&alice, &on.account("alice")));

    bed.sql("UPDATE users SET enabled = 0 WHERE name = 'alice'; DELETE FROM users WHERE name = 'bob'").await;
    bed.sql("INSERT INTO users (name) VALUES ('carol')").await;
    on.step(2).await;
    assert_eq!(alice.barred(), Some(Reason::Disabled));
    assert!(!on.has("bob") && on.has("carol"));
    bed.sql("UPDATE users SET enabled = 1, rate_down = NULL").await;
    on.step(3).await;
    assert_eq!((alice.barred(), alice.rate(Down)), (None, AccountRate::Default));
}

#[tokio::test]
async fn swapped_names_and_replaced_rows() {
    let bed = Bed::with(&["alice", "bob", "carol"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("UPDATE users SET name = 'x' WHERE id = 1; UPDATE users SET name = 'alice' WHERE id = 2; UPDATE users SET name = 'bob' WHERE id = 1")
        .await;
    bed.sql("INSERT OR REPLACE INTO users (name) VALUES ('carol')").await;
    on.step(1).await;
    assert_eq!(on.account("alice").row(), Some(2));
    assert_eq!(on.account("bob").row(), Some(1));
    assert_eq!(on.account("carol").row(), Some(4));
    bed.sql("UPDATE users SET id = 50 WHERE name = 'bob'").await;
    on.step(2).await;
    assert_eq!(on.account("bob").row(), Some(50));
    assert_eq!(on.node.accounts.all().len(), 3);
}

#[tokio::test]
async fn a_log_that_was_pruned_or_emptied_or_is_too_long_is_read_as_everything() {
    let bed = Bed::with(&["alice", "bob"]).await;
    let mut on = bed.node("n", "b1").await;
    bed.sql("DELETE FROM users WHERE name = 'bob'; UPDATE users SET rate_up = 5; DELETE FROM changes WHERE seq < 4").await;
    on.step(1).await;
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(5));
    assert!(!on.has("bob"));
    bed.sql("UPDATE users SET rate_up = 6; DELETE FROM changes").await;
    on.step(2).await;
    assert_eq!(on.account("alice").rate(Up), AccountRate::Limited(6));
    let many = "INSERT INTO users (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
                SELECT 'user' || i FROM n";
    bed.sql(many).await;
    on.step(3).await;
    assert_eq!(on.node.accounts.all().len(), 12_001);
    let mut conn = bed.raw().await;
    let log: i64 = sqlx::query_scalar("SELECT count(*) FROM changes").fetch_one(&mut conn).await.unwrap();
    assert_eq!(log, 10_000);
    conn.close().await.unwrap();
}

#[tokio::test]
async fn rows_of_nonsense_harm_nobody_else() {
    let bed = Bed::with(&["alice", "bob", "carol", "dave", "erin"]).await;
    let mut on = bed.node("n", "b1").await;
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| on.account(name));
    bed.sql("UPDATE users SET rate_up = 9").await;
    on.step(1).await;
    let (said, _guard) = said::listen();
    bed.sql(
        "PRAGMA ignore_check_constraints = ON;
         UPDATE users SET rate_up = '10Mbit/s' WHERE name = 'alice';
         UPDATE users SET rate_up = -5, weight = x'00' WHERE name = 'bob';
         UPDATE users SET enabled = 'yes' WHERE name = 'carol';
         UPDATE users SET name = '' WHERE name = 'dave';
         UPDATE users SET rate_up = 7, password_hash = 'secret' WHERE name = 'erin';
         INSERT INTO users (name, rate_down) VALUES ('frank', 1.5);
         INSERT INTO users (name) VALUES (CAST(x'ff' AS TEXT)), (x'6162'), ('grace')",
    )
    .await;
    on.step(2).await;
    on.step(3).await;
    assert!(on.is_ok());
    assert_eq!((alice.rate(Up), alice.barred()), (AccountRate::Limited(9), None), "as before");
    assert_eq!((bob.rate(Up), bob.weight(), bob.barred()), (AccountRate::Limited(9), 1, None), "as before");
    assert_eq!(carol.barred(), Some(Reason::Disabled));
    assert_eq!(dave.barred(), Some(Reason::Removed));
    assert_eq!(on.account("erin").rate(Up), AccountRate::Limited(7));
    assert!(on.account("erin").password().is_none());
    assert_eq!(on.account("frank").barred(), Some(Reason::Disabled), "never unlimited for want of sense");
    assert!(on.account("grace").barred().is_none());
    assert_eq!(said.warnings(), 8, "once each");
    bed.sql("PRAGMA ignore_check_constraints = ON; UPDATE users SET rate_down = 5 WHERE name = 'alice'")
        .await;
    on.step(4).await;
    assert_eq!((alice.rate(Down), said.warnings()), (AccountRate::Limited(5), 8), "not said again");
    bed.sql("UPDATE users SET rate_up = 1 WHERE name = 'alice'").await;
    on.step(5).await;
    assert_eq!((alice.rate(Up), said.infos()), (AccountRate::Limited(1), 1));
    assert_eq!(bed.store.users().await.unwrap().iter().filter(|user| !user.problems.is_empty()).count(), 7);
}
