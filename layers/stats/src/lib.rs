//! layers/stats
