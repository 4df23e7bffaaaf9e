//! What a session, a layer and a stack are. Knows no layer, no protocol, no SQL.

use std::future::Future;
use std::pin::Pin;

mod accept;
pub mod account;
pub mod assemble;
pub mod cancel;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod listener;
pub mod live;
pub mod meter;
pub mod node;
pub mod opened;
pub mod registry;
pub mod reload;
pub mod secret;
pub mod server;
pub mod session;
pub mod sockets;
pub mod stack;
pub mod status;
pub mod table;
pub mod target;
pub mod tunnel;
pub mod units;
pub mod workers;

/// An erased future that can move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
