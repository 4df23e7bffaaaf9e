//! Waiting for a condition, with a deadline.

use std::time::Duration;

use tokio::time::Instant;

/// Asks until there is an answer; panics with `what` when it takes too long.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    until_within(Duration::from_secs(20), what, &mut ask)
}

/// The same with a deadline of its own.
pub fn until_within<T>(most: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + most;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {most:?}: {what}");
        pause(Duration::from_millis(10));
    }
}

/// Between two looks at a condition.
pub fn pause(time: Duration) {
    std::thread::park_timeout(time);
}
