//! frontends/api
