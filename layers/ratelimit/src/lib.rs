//! How fast: an account, a listener or the whole node is held to a rate.

pub mod bucket;
