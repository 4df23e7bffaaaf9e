//! `relay`: dials the target, directly or through a tunnel, and pipes.

pub mod direct;
pub mod engine;
pub mod tunnel;
