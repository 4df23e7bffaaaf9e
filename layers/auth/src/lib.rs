//! layers/auth
