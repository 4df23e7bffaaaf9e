//! Counts are stored once, in their hour, whatever is repeated.

use super::*;

#[tokio::test]
async fn a_name_that_returns_is_another_account_and_the_old_one_is_still_counted() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let old = on.account("alice");
    old.usage.count(Up, 10);
    bed.store.remove_user("alice").await.unwrap();
    bed.store.add_user(&NewUser::new("alice", None)).await.unwrap();
    on.step(1).await;
    assert_eq!(old.barred(), Some(Reason::Removed));
    let new = on.account("alice");
    assert_ne!(old.row(), new.row());
    // Its sessions still run for a moment, and tell only the tap.
    let tap = old.usage.clone();
    drop(old);
    on.step(2).await;
    tap.count(Up, 5);
    new.usage.count(Up, 100);
    drop(tap);
    on.step(3).await;
    assert_eq!(bed.usage().await.0, 115);
    let totals = bed.store.usage_totals().await.unwrap();
    assert_eq!(totals.len(), 2);
    assert_eq!(totals.iter().find(|total| total.name.is_none()).unwrap().counts.up, 15);
    assert_eq!(totals.iter().find(|total| total.name.is_some()).unwrap().counts.up, 100);
}

#[tokio::test]
async fn a_renamed_row_sums_its_accounts() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let old = on.account("alice");
    old.usage.count(Down, 10);
    on.step(1).await;
    let rename = UserChange { name: Some("alicia".into()), ..UserChange::default() };
    bed.store.update_user("alice", &rename).await.unwrap();
    on.step(2).await;
    assert_eq!(old.barred(), Some(Reason::Removed));
    old.usage.count(Down, 1);
    drop(old);
    on.account("alicia").usage.count(Down, 100);
    on.step(3).await;
    on.account("alicia").usage.count(Down, 1000);
    on.step(4).await;
    assert_eq!(bed.usage().await, (0, 1111, 1));
}

#[tokio::test]
async fn repeated_writes_restarts_and_nodes_never_add() {
    let bed = Bed::with(&["alice"]).await;
    let mut one = bed.node("n", "b1").await;
    let mut two = bed.node("n", "b2").await;
    let mut three = bed.node("m", "b3").await;
    for second in 1..5 {
        for on in [&mut one, &mut two, &mut three] {
            on.account("alice").usage.count(Up, 10);
            on.account("alice").sessions.fetch_add(1, Relaxed);
            on.step(second).await;
            on.sync.ledger.rebase(&[]); // as if nothing had been said of what is stored
            on.step(second).await;
        }
    }
    assert_eq!(bed.usage().await, (120, 0, 3));
    drop(one);
    let mut again = bed.node("n", "b4").await;
    again.account("alice").usage.count(Up, 1);
    again.sync.flush(at(9)).await.unwrap();
    assert_eq!(bed.usage().await, (121, 0, 4));
    let totals = bed.store.usage_totals().await.unwrap();
    assert_eq!((totals[0].counts.up, totals[0].counts.sessions), (121, 12));
}

#[tokio::test]
async fn hours_go_forward_whatever_the_clock_says() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    for (seconds, bytes) in [(10, 1), (3600, 10), (20, 100), (7200, 1000)] {
        alice.usage.count(Up, bytes);
        on.step(seconds).await;
    }
    let mut conn = bed.raw().await;
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT hour, up FROM usage ORDER BY hour").fetch_all(&mut conn).await.unwrap();
    let hour = i64::try_from(T0 / 3600 * 3600).unwrap();
    assert_eq!(rows, [(hour, 1), (hour + 3600, 110), (hour + 7200, 1000)]);
    conn.close().await.unwrap();
}

#[tokio::test]
async fn run_writes_everything_before_it_ends() {
    let bed = Bed::with(&["alice"]).await;
    let on = bed.node("n", "b1").await;
    let alice = on.account("alice");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(on.sync.run(async { drop(stopped.await) }));
    tokio::task::yield_now().await;
    alice.usage.count(Up, 42);
    stop.send(()).unwrap();
    run.await.unwrap();
    assert_eq!(bed.usage().await.0, 42);
}

#[tokio::test]
async fn an_idle_second_is_one_statement() {
    let bed = Bed::with(&["alice"]).await;
    let mut on = bed.node("n", "b1").await;
    on.account("alice").usage.count(Up, 1);
    on.step(1).await;
    let before = total_changes(&mut on).await;
    for second in 2..100 {
        on.step(second).await;
    }
    assert_eq!(total_changes(&mut on).await, before);
    assert!(on.sync.ledger.due().is_empty());
}

async fn total_changes(on: &mut On) -> i64 {
    let link = on.sync.link.as_mut().unwrap();
    sqlx::query_scalar("SELECT total_changes()").fetch_one(&mut link.conn).await.unwrap()
}
