//! HTTP/2 frames out of an input, and what is done with a stream.

use std::future::poll_fn;
use std::io;

use swiftproxy_core::endpoint::Endpoint;

/// Frames whose lengths are right: of the input type, flags, stream, length of the payload, payload.
pub fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = input {
        let (payload, after) = rest.split_at(usize::from(*length).min(rest.len()));
        out.extend_from_slice(&[0, 0, payload.len() as u8, *kind % 12, *flags, 0, 0, 0, *stream]);
        out.extend_from_slice(payload);
        input = after;
    }
    out
}

/// Echoes a stream until it ends, whichever way.
///
/// # Errors
/// The stream's.
pub async fn echo(mut end: impl Endpoint) -> io::Result<()> {
    let mut room = [0; 1024];
    loop {
        poll_fn(|cx| end.poll_readable(cx)).await?;
        let n = poll_fn(|cx| end.poll_read(cx, &mut room)).await?;
        if n == 0 {
            return poll_fn(|cx| end.poll_finish(cx)).await;
        }
        let mut left = &room[..n];
        while !left.is_empty() {
            let taken = poll_fn(|cx| end.poll_write(cx, left)).await?;
            left = &left[taken..];
        }
    }
}
