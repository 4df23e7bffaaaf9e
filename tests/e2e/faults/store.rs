//! The store goes away, in every way a file can. Sessions and known accounts go on, it is said once, nothing is lost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::traffic::{Bulk, Flow};
use crate::support::{Origin, Pair, until};

use super::{counted, for_a_while, lines, moves, serves, sql, stored};

/// A pair with a download that goes on, some of which is stored.
struct Bed {
    origin: Origin,
    pair: Pair,
    flow: Flow,
}

impl Bed {
    fn start() -> Self {
        let (origin, bulk) = (Origin::start(), Bulk::start());
        let pair = Pair::start(&["alice --down 8Mbit/s"], "");
        let flow = Flow::down(pair.addr(), bulk.source);
        until("something is stored", || (stored(&pair.database()) > 0).then_some(()));
        Self { origin, pair, flow }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.pair.remote.folder.path().join(name)
    }

    /// Why the store is down, by the API.
    fn down(&self) -> String {
        until("the store is down", || {
            let store = self.pair.remote.stats()["store"].clone();
            (store["state"] == "down").then(|| store["error"].as_str().unwrap().to_owned())
        })
    }

    /// Meanwhile, sessions old and new.
    fn goes_on(&self) {
        moves(&self.flow.received);
        serves(self.pair.addr(), &self.origin.url("/bytes/10"));
        assert!(!self.flow.has_ended());
    }

    fn is_said_once(&self) {
        let said = lines(&self.pair.remote, "known accounts go on");
        assert_eq!(said, 1, "{}", self.pair.remote.log());
    }

    /// It is up, and has all that was counted until now.
    fn catches_up(&self) {
        until("the store is up", || (self.pair.remote.stats()["store"]["state"] == "ok").then_some(()));
        let counted = counted(&self.pair.remote, "alice");
        until("it has caught up", || (stored(&self.pair.database()) >= counted).then_some(()));
        let stored = stored(&self.pair.database());
        assert!(stored <= super::counted(&self.pair.remote, "alice"), "{stored} is more than was counted");
        self.goes_on();
    }
}

/// A transaction of somebody else's that stays open until dropped.
struct Lock(Child);

impl Lock {
    fn hold(database: &Path, first: &str) -> Self {
        let mut shell = Command::new("sqlite3").arg(database).stdin(Stdio::piped()).spawn().unwrap();
        let words = format!(".timeout 5000\n{first}\nBEGIN IMMEDIATE;\n");
        shell.stdin.as_mut().unwrap().write_all(words.as_bytes()).unwrap();
        Self(shell)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The end of its input ends the shell.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_locked_store_is_read_and_caught_up_with() {
    let bed = Bed::start();
    let lock = Lock::hold(&bed.pair.database(), "UPDATE users SET rate_down = 500000 WHERE name = 'alice';");
    let why = bed.down();
    assert!(why.contains("locked by another program"), "{why}");
    until("limits follow all the same", || {
        (bed.pair.remote.stats()["accounts"][0]["limit_down"] == 500_000).then_some(())
    });
    bed.goes_on();
    bed.is_said_once();
    drop(lock);
    bed.catches_up();
}

#[test]
fn a_store_that_is_gone_comes_back() {
    let bed = Bed::start();
    std::fs::rename(bed.pair.database(), bed.path("away.db")).unwrap();
    let why = bed.down();
    assert!(why.contains("there is no") && why.contains("put the file back"), "{why}");
    bed.goes_on();
    bed.is_said_once();
    assert!(!bed.pair.database().exists(), "nobody founds another one unasked");
    std::fs::rename(bed.path("away.db"), bed.pair.database()).unwrap();
    bed.catches_up();
}

#[test]
fn a_store_that_took_the_place_of_another_gets_everything_and_the_other_nothing() {
    let bed = Bed::start();
    let copy = format!("VACUUM INTO '{}'", bed.path("backup.db").display());
    sql(&bed.pair.database(), &copy);
    sql(&bed.path("backup.db"), "UPDATE users SET rate_down = 700000");
    std::fs::rename(bed.pair.database(), bed.path("old.db")).unwrap();
    std::fs::rename(bed.path("backup.db"), bed.pair.database()).unwrap();
    bed.pair.remote.logged("is another one now");
    until("its rows bind", || {
        (bed.pair.remote.stats()["accounts"][0]["limit_down"] == 700_000).then_some(())
    });
    let left = stored(&bed.path("old.db"));
    bed.catches_up();
    assert_eq!(stored(&bed.path("old.db")), left, "writes go on into the file that was moved away");
    assert!(stored(&bed.pair.database()) > left);
    assert_eq!(sql(&bed.pair.database(), "PRAGMA integrity_check"), "ok");
}

#[test]
fn a_corrupt_store_in_its_place_is_told_and_left_alone() {
    let bed = Bed::start();
    std::fs::write(bed.path("garbage"), vec![0x5a; 40_000]).unwrap();
    std::fs::rename(bed.pair.database(), bed.path("good.db")).unwrap();
    std::fs::rename(bed.path("garbage"), bed.pair.database()).unwrap();
    let why = bed.down();
    assert!(why.contains("is not an SQLite database"), "{why}");
    bed.goes_on();
    bed.is_said_once();
    assert_eq!(std::fs::read(bed.pair.database()).unwrap(), vec![0x5a; 40_000]);
    std::fs::rename(bed.path("good.db"), bed.pair.database()).unwrap();
    bed.catches_up();
}

/// SQLite would go on with what it remembers of such a file, and write into it.
#[test]
fn a_store_that_was_overwritten_in_place_is_told_and_left_alone() {
    let bed = Bed::start();
    let copy = format!("VACUUM INTO '{}'", bed.path("backup.db").display());
    sql(&bed.pair.database(), &copy);
    sql(&bed.path("music.db"), "CREATE TABLE song (title); INSERT INTO song VALUES ('la')");
    for other in [vec![0x5a; 40_000], std::fs::read(bed.path("music.db")).unwrap()] {
        // The same file: what `cp` does.
        std::fs::write(bed.pair.database(), &other).unwrap();
        bed.down();
        bed.goes_on();
        for_a_while(1500);
        assert!(std::fs::read(bed.pair.database()).unwrap() == other, "something was written into it");
        std::fs::copy(bed.path("backup.db"), bed.pair.database()).unwrap();
        bed.catches_up();
        assert_eq!(sql(&bed.pair.database(), "PRAGMA integrity_check"), "ok");
    }
    let said = lines(&bed.pair.remote, "was overwritten or cut by another program");
    assert_eq!(said, 2, "once each time:\n{}", bed.pair.remote.log());
}

#[test]
fn a_folder_in_its_place_is_told() {
    let bed = Bed::start();
    std::fs::rename(bed.pair.database(), bed.path("away.db")).unwrap();
    std::fs::create_dir(bed.pair.database()).unwrap();
    let why = bed.down();
    assert!(why.contains("not a regular file"), "{why}");
    bed.goes_on();
    bed.is_said_once();
    std::fs::remove_dir(bed.pair.database()).unwrap();
    std::fs::rename(bed.path("away.db"), bed.pair.database()).unwrap();
    bed.catches_up();
}
