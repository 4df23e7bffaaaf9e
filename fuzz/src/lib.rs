//! What the targets share: the properties that every codec here has.
//!
//! Invariant: a property that does not hold panics, with what was read in the message.

pub mod frames;
pub mod loopback;

use std::fmt::Debug;

/// The shorter inputs of one of `n` bytes that are tried, in order: all where it is short, 64 and the last few
/// where it is long.
pub fn splits(n: usize) -> impl Iterator<Item = usize> {
    let step = (n / 64).max(1);
    (0..n).filter(move |short| short % step == 0 || short + 4 > n)
}

/// Reads one message from the front of `bytes` and checks that
///
/// - it takes no more than there is;
/// - it is the same with nothing behind it;
/// - every shorter input is either too short, or refused exactly as the whole is, and never something else.
///
/// Returns the message, if there is one.
pub fn message<'a, T: Debug + PartialEq, E: Debug + PartialEq>(
    bytes: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<Option<(T, usize)>, E>,
) -> Option<T> {
    let whole = parse(bytes);
    if let Ok(Some((found, n))) = &whole {
        assert!(*n <= bytes.len(), "took {n} of {} bytes", bytes.len());
        assert!(*n > 0, "a message of no bytes");
        let alone = parse(&bytes[..*n]).expect("what was a message");
        let (alone, m) = alone.expect("what was whole");
        assert_eq!((&alone, m), (found, *n), "read otherwise with nothing behind it");
    }
    let end = match &whole {
        Ok(Some((_, n))) => *n,
        _ => bytes.len(),
    };
    for short in splits(end) {
        match (parse(&bytes[..short]), &whole) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => assert_eq!(&early, late, "another error at {short} bytes"),
            (early, late) => panic!("{early:?} at {short} bytes, {late:?} at {}", bytes.len()),
        }
    }
    whole.ok().flatten().map(|(found, _)| found)
}

/// What was printed must be read as what it was printed from, all of it.
pub fn read_back<'a, T: Debug + PartialEq, E: Debug>(
    bytes: &'a [u8],
    value: &T,
    parse: impl Fn(&'a [u8]) -> Result<Option<(T, usize)>, E>,
) {
    let (found, n) = parse(bytes).expect("what was printed").expect("what was printed whole");
    assert_eq!((&found, n), (value, bytes.len()), "printed {:?}", bytes.escape_ascii().to_string());
}
