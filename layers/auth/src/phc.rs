//! Password hashes: argon2id in PHC strings.
//!
//! Invariant: nothing is computed with parameters that would let a hash take the machine down; a string that asks
//! for them is no hash to us.

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use swiftproxy_core::secret::Secret;

/// OWASP's least for argon2id has several forms of one strength; the one with the least memory runs fastest, for it
/// stays in the processor's caches. A thousand users who return at once are in within seconds by it.
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;
const LANES: u32 = 1;

/// The most a string may ask for: 256 MiB, and as much as 1 GiB gone over once (about a second).
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_WORK_KIB: u64 = 1024 * 1024;
const MOST_LANES: u32 = 16;

/// Why a string is no password hash, or none can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not a PHC string of argon2 with salt and output.
    #[error("it is not an argon2id hash in PHC form ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")]
    Form,
    /// Its parameters would cost too much.
    #[error("its parameters ask for more than 256 MiB, 16 lanes, or memory times passes of 1 GiB")]
    TooCostly,
    /// The system gave no randomness, or the password is over 4 GiB.
    #[error("no hash can be made: {0}")]
    Make(String),
}

/// Hashes a new password, as a PHC string: argon2id, m=7168, t=5, p=1, 16 random bytes of salt. Takes about ten
/// milliseconds of this thread.
///
/// # Errors
/// [`HashError::Make`].
pub fn hash_password(password: &Secret) -> Result<String, HashError> {
    let failed = |error: &dyn std::fmt::Display| HashError::Make(error.to_string());
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| failed(&error))?;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| failed(&error))?;
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map_err(|error| failed(&error))?;
    Ok(hash.to_string())
}

/// Whether a string is a hash that [`hash_password`] or another program made and that is verified here.
///
/// # Errors
/// [`HashError::Form`], [`HashError::TooCostly`].
pub fn check_hash(phc: &str) -> Result<(), HashError> {
    Hash::parse(phc).map(drop)
}

/// A hash ready to be compared with.
pub(crate) struct Hash {
    argon: Argon2<'static>,
    salt: Salt,
    output: Output,
}

impl Hash {
    pub(crate) fn parse(phc: &str) -> Result<Self, HashError> {
        let hash = PasswordHash::new(phc).map_err(|_| HashError::Form)?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| HashError::Form)?;
        let version = match hash.version {
            None => Version::V0x13,
            Some(version) => Version::try_from(version).map_err(|_| HashError::Form)?,
        };
        let params = Params::try_from(&hash).map_err(|_| HashError::Form)?;
        let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
        if params.m_cost() > MOST_MEMORY_KIB || work > MOST_WORK_KIB || params.p_cost() > MOST_LANES {
            return Err(HashError::TooCostly);
        }
        let (Some(salt), Some(output)) = (hash.salt, hash.hash) else { return Err(HashError::Form) };
        Ok(Self { argon: Argon2::new(algorithm, version, params), salt, output })
    }

    /// What an unknown name is compared with: the same work as a hash of our own making, and never right.
    pub(crate) fn dummy() -> Result<Self, HashError> {
        let failed = |_| HashError::Form;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(|_| HashError::Form)?;
        Ok(Self {
            argon: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            salt: Salt::new(&[0; 16]).map_err(failed)?,
            output: Output::new(&[0; 32]).map_err(failed)?,
        })
    }

    /// Whether it is that password's. `memory` is kept from one run to the next, for its pages are half the cost.
    pub(crate) fn verify(&self, password: &Secret, memory: &mut Vec<Block>) -> bool {
        let blocks = self.argon.params().block_count();
        if memory.len() < blocks {
            memory.resize(blocks, Block::default());
        }
        let mut bytes = [0; Output::MAX_LENGTH];
        let Some(out) = bytes.get_mut(..self.output.len()) else { return false };
        let done =
            self.argon.hash_password_into_with_memory(password.expose().as_bytes(), &self.salt, out, memory);
        // Output's comparison takes the same time wherever two differ.
        done.is_ok() && Output::new(out).is_ok_and(|out| out == self.output)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verify(phc: &str, password: &str) -> bool {
        Hash::parse(phc).unwrap().verify(&Secret::new(password), &mut Vec::new())
    }

    #[test]
    fn a_hash_of_ours_is_verified_and_salted() {
        let hash = hash_password(&Secret::new("pässword")).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        assert!(verify(&hash, "pässword") && !verify(&hash, "password") && !verify(&hash, ""));
        assert_ne!(hash, hash_password(&Secret::new("pässword")).unwrap());
    }

    #[test]
    fn hashes_of_others_are_verified_with_their_own_parameters() {
        // The reference implementation's test vectors (phc-winner-argon2, test.c), password "password".
        for phc in [
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert!(verify(phc, "password") && !verify(phc, "passwore"), "{phc}");
        }
    }

    #[test]
    fn what_would_take_the_machine_down_is_no_hash() {
        for params in ["m=4194304,t=1,p=1", "m=262144,t=5,p=1", "m=8192,t=4294967295,p=1", "m=65536,t=1,p=64"]
        {
            let phc =
                format!("$argon2id$v=19${params}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
            assert_eq!(check_hash(&phc), Err(HashError::TooCostly), "{params}");
        }
        for phc in ["", "secret", "$2b$12$abc", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ", "$argon2id$"] {
            assert_eq!(check_hash(phc), Err(HashError::Form), "{phc}");
        }
    }

    #[test]
    fn the_dummy_is_never_right() {
        assert!(!Hash::dummy().unwrap().verify(&Secret::new(""), &mut Vec::new()));
    }

    proptest! {
        #[test]
        fn no_string_panics(text in "\\PC*", tail in "(\\$[a-z0-9=,/+]*){0,6}") {
            let _ = check_hash(&text);
            let _ = check_hash(&format!("$argon2id{tail}"));
        }
    }
}
