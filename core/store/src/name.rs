//! What a user's name may be.
//!
//! Invariant: a name that passes can stand before the colon of HTTP Basic (RFC 7617 §2), in SOCKS5's login
//! (RFC 1929), and in a log line.

use crate::error::StoreError;

/// Checks that `name` is 1 to 255 bytes without colon and control characters.
///
/// # Errors
/// [`StoreError::InvalidName`] with the rule that it breaks.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    match wrong_with(name) {
        None => Ok(()),
        Some(why) => Err(StoreError::InvalidName { name: name.to_owned(), why }),
    }
}

/// The rule that `name` breaks.
pub(crate) fn wrong_with(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty; use 1 to 255 bytes")
    } else if name.len() > 255 {
        Some("it is longer than 255 bytes")
    } else if name.contains(':') {
        Some("it contains a colon, which ends the name in HTTP's Basic login")
    } else if name.chars().any(char::is_control) {
        Some("it contains a control character")
    } else {
        None
    }
}
