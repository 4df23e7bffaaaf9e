//! Who is it.

mod origin;
mod phc;
mod print;

pub use phc::{HashError, check_hash, hash_password};
