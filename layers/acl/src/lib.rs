//! layers/acl
