//! layers/relay
