//! The buffer that a worker's flows take turns with.
//!
//! Invariant: nobody keeps anything in it from one poll to the next.

use std::cell::Cell;

/// The most that a flow reads at a time.
pub(super) const SIZE: usize = 256 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends this worker's buffer, which is made at first use.
pub(super) fn with<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = SCRATCH.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let result = use_it(&mut buffer);
    SCRATCH.set(Some(buffer));
    result
}
