//! Closing so that the last words arrive.
//!
//! Invariant: it ends within [`PATIENCE`] and [`MOST`] bytes, whatever the client does.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a client that was refused is waited for: it hears of it within half a round trip, and its close takes as
/// long to come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many bytes a client that was refused is listened to. It is refused early, with a receive window of 64 KiB and a
/// send window that begins with 10 segments (RFC 6928): that is what it sends in three round trips.
const MOST: usize = 256 << 10;

/// Ends our half, then reads what the client still sends until it closes too. A socket that is closed with bytes
/// unread is reset, and a reset can overtake what was written to it last (RFC 9112 §9.6).
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let listen = async {
        stream.shutdown().await?;
        // On the heap, for the future that waits here is part of every handshake's.
        let mut scrap = vec![0; 4096];
        let mut left = MOST;
        while left > 0 {
            match stream.read(&mut scrap).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        std::io::Result::Ok(())
    };
    // Whether it was heard or not: the stream is closed now.
    let _ = timeout(PATIENCE, listen).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_is_heard_out_but_not_for_ever() {
        let (near, mut far) = tokio::io::duplex(64);
        let client = tokio::spawn(async move {
            far.write_all(&[0; 10_000]).await.expect("heard");
            far.shutdown().await.expect("heard");
            far.read(&mut [0]).await.expect("an end")
        });
        linger(near).await;
        assert_eq!(client.await.expect("no panic"), 0);

        let start = Instant::now();
        let (near, silent) = tokio::io::duplex(64);
        linger(near).await;
        assert_eq!(start.elapsed(), PATIENCE);
        drop(silent);

        let start = Instant::now();
        let (near, mut endless) = tokio::io::duplex(1 << 16);
        let endless = tokio::spawn(async move {
            let mut sent = 0;
            while let Ok(n) = endless.write(&[0; 4096]).await {
                sent += n;
            }
            sent
        });
        linger(near).await;
        assert!(endless.await.expect("no panic") <= MOST + (2 << 16));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
