//! Codecs and framing that several layers need; no layer itself.

pub mod basic;
pub mod classic;
pub mod doubt;
pub mod h2;
pub mod heard;
pub mod http1;
pub mod lean;
pub mod parse;
pub mod path;
pub mod proxy_status;
pub mod record;
pub mod refusal;
pub mod socket;
pub mod socks4;
pub mod socks5;
pub mod tls;
