//! A credential's fingerprint: BLAKE2b as a MAC (RFC 7693 §2.9) under a key of this process.
//!
//! Invariant: the key leaves neither the process nor this module, so a fingerprint says nothing of the password to
//! whoever reads it in a core dump without the key beside it, and nobody outside can aim at a shard or a collision.

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, KeyInit, Update};
use subtle::ConstantTimeEq;
use swiftproxy_core::error::BuildError;
use swiftproxy_core::secret::Secret;

/// 32 bytes that only the same name and password give again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Print(pub(crate) [u8; 32]);

/// This process's key, already taken in.
pub(crate) struct PrintKey(Blake2bMac<U32>);

impl PrintKey {
    /// A key from the system's randomness.
    ///
    /// # Errors
    /// The system has none to give.
    pub(crate) fn random() -> Result<Self, BuildError> {
        let failed = |error: String| {
            BuildError::new("layers.auth", error, "let the process read the system's randomness")
        };
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| failed(error.to_string()))?;
        Blake2bMac::new_from_slice(&key).map(Self).map_err(|error| failed(error.to_string()))
    }

    /// The fingerprint of a name and a password.
    pub(crate) fn print(&self, name: &str, password: &Secret) -> Print {
        let mut mac = self.0.clone();
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(password.expose().as_bytes());
        let mut print = [0; 32];
        mac.finalize_into((&mut print).into());
        Print(print)
    }

    /// Whether `print` is that name's and password's, in a time that says nothing of where they differ.
    pub(crate) fn matches(&self, print: &Print, name: &str, password: &Secret) -> bool {
        self.print(name, password).0.ct_eq(&print.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_pair_under_the_same_key_is_the_same() {
        let key = PrintKey::random().unwrap();
        let print = key.print("alice", &Secret::new("ab"));
        assert!(key.matches(&print, "alice", &Secret::new("ab")));
        for (name, password) in
            [("alicea", "b"), ("alice", "aB"), ("alice", ""), ("", "aliceab"), ("bob", "ab")]
        {
            assert!(!key.matches(&print, name, &Secret::new(password)), "{name} {password}");
        }
        assert!(!PrintKey::random().unwrap().matches(&print, "alice", &Secret::new("ab")));
    }
}
