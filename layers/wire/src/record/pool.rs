//! Buffers that a worker's connections share, so that one that is idle owns none.
//!
//! Invariant: a thread keeps no more than [`KEPT`] of them, and of vectors no more than [`KEPT_BYTES`]; what a buffer held
//! before is not shown to whom it goes next, for everyone reads only what they wrote.

use std::cell::RefCell;

/// Bytes of a buffer: a batch of full records, and one for what goes ahead of it.
pub(crate) const BUFFER: usize = 9 * (super::MAX_PLAIN + super::HEADER + super::TRAILER);

const KEPT: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static VECS: RefCell<Vecs> = const { RefCell::new(Vecs { kept: Vec::new(), bytes: 0 }) };
}

/// Capacities from here on are worth keeping.
pub(crate) const WORTH: usize = 64 * 1024;

/// Bytes of all vectors that are kept: a few streams' largest windows.
const KEPT_BYTES: usize = 16 << 20;

struct Vecs {
    kept: Vec<Vec<u8>>,
    bytes: usize,
}

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
    VECS.with_borrow_mut(|vecs| {
        let vec = vecs.kept.pop().unwrap_or_default();
        vecs.bytes -= vec.capacity();
        vec
    })
}

/// Gives a vector back.
pub(crate) fn give_vec(mut vec: Vec<u8>) {
    VECS.with_borrow_mut(|vecs| {
        let bytes = vecs.bytes + vec.capacity();
        if vec.capacity() >= WORTH && vecs.kept.len() < KEPT && bytes <= KEPT_BYTES {
            vec.clear();
            vecs.bytes = bytes;
            vecs.kept.push(vec);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let given = |capacity: usize, n: usize| {
            (0..n).for_each(|_| give_vec(Vec::with_capacity(capacity)));
            std::iter::from_fn(|| Some(take_vec()).filter(|vec| vec.capacity() > 0)).count()
        };
        assert_eq!(given(4 << 20, 10), 4);
        assert_eq!(given(WORTH, 100), KEPT);
        assert_eq!(given(WORTH - 1, 10), 0);
        give_vec(vec![1; WORTH]);
        assert!(take_vec().is_empty());
    }
}
