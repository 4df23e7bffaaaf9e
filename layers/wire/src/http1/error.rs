//! Why a head is refused.
//!
//! Invariant: each error has one status, and its text names the fault and carries nothing the peer sent.

use http::StatusCode;
use swiftproxy_core::error::Refusal;

/// Why a head is refused. After any of these the connection cannot be read on, and is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not well formed, or framed so that two readers could differ: 400.
    #[error("{0}")]
    Bad(&'static str),
    /// A request line that is too long: 414.
    #[error("the request line is longer than {} KiB", super::MAX_REQUEST_LINE / 1024)]
    LineTooLong,
    /// A header section that is too long: 431.
    #[error("the header section is longer than {} KiB", super::MAX_HEADERS / 1024)]
    HeadersTooLarge,
    /// Too many header fields: 431.
    #[error("there are more than {} header fields", super::MAX_FIELDS)]
    TooManyHeaders,
    /// A transfer coding that is not served: 501.
    #[error("only the transfer coding chunked is supported")]
    TransferCoding,
    /// A target's scheme that is not served: 501.
    #[error("only http is forwarded; use CONNECT for anything else")]
    Scheme,
    /// A version that is not served: 505.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
}

impl HeadError {
    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::LineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TransferCoding | Self::Scheme => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

impl From<HeadError> for Refusal {
    fn from(_: HeadError) -> Self {
        Self::Malformed
    }
}
