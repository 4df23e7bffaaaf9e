//! What a tunnel's sockets have on, at either end.

use std::time::Duration;

use tokio::net::TcpStream;

/// How long sent bytes may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Ends a connection whose peer acknowledges nothing, or takes nothing, for half a minute. Only for a peer that always
/// reads: Linux counts a closed window against it too. Where there is no such thing, nothing happens.
pub fn expect_reader(stream: &TcpStream) {
    // What fails here fails on use.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream, USER_TIMEOUT);
}
