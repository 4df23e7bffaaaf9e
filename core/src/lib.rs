//! What a session, a layer and a stack are. Knows no layer, no protocol, no SQL.

pub mod account;
pub mod cancel;
pub mod endpoint;
pub mod error;
pub mod meter;
