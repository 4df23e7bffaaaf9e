//! layers/ratelimit
