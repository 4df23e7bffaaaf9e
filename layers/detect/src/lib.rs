//! layers/detect
