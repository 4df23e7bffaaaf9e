//! Buffers that a worker's connections share, so that one that is idle owns none.
//!
//! Invariant: a thread keeps no more than [`KEPT`]; what a buffer held before is not shown to whom it goes next, for
//! everyone reads only what they wrote.

use std::cell::RefCell;

/// Bytes of a buffer: a batch of full records, and one for what goes ahead of it.
pub(crate) const BUFFER: usize = 17 * (super::MAX_PLAIN + super::HEADER + super::TRAILER);

const KEPT: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static VECS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Capacities that are worth keeping, and not too large to.
const WORTH: std::ops::RangeInclusive<usize> = 64 * 1024..=1024 * 1024;

/// A buffer of [`BUFFER`] bytes of anything.
pub(crate) fn take() -> Box<[u8]> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

/// Gives it back.
pub(crate) fn give(buffer: Box<[u8]>) {
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT {
            pool.push(buffer);
        }
    });
}

/// An empty vector, with room where one was given back.
pub(crate) fn take_vec() -> Vec<u8> {
    VECS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a vector back.
pub(crate) fn give_vec(mut vec: Vec<u8>) {
    if WORTH.contains(&vec.capacity()) {
        vec.clear();
        VECS.with_borrow_mut(|pool| {
            if pool.len() < KEPT {
                pool.push(vec);
            }
        });
    }
}
