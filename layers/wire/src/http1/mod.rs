//! HTTP/1.1 as a proxy reads and writes it (RFC 9112): request and response heads, chunked bodies, the fields
//! that end at each hop.
//!
//! Invariant: what two readers could frame differently is refused, never mended: a message has one length, one
//! host and one end, or it has a status that says why not.

mod authority;
mod body;
mod chunked;
mod error;
mod head;
mod hop;
mod request;
mod response;
mod target;

pub use authority::{parse_authority, print_authority};
pub use body::BodyLength;
pub use chunked::{ChunkedDecoder, Step, encode_chunk, encode_chunk_head, encode_last_chunk};
pub use error::HeadError;
pub use head::{MAX_FIELDS, MAX_HEADERS, MAX_REQUEST_LINE};
pub use hop::{Persistence, expects_continue, persistence, strip_hop_by_hop, upgrade};
pub use request::{HeadReader, RequestHead, encode_request, parse_request};
pub use response::{
    CONNECT_ESTABLISHED, CONTINUE, Framing, ResponseHead, encode_head_error, encode_refusal, encode_response,
    parse_response,
};
pub use target::RequestTarget;
