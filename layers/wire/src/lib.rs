//! layers/wire
