//! The binary.
#![allow(missing_docs)]
fn main() {}
