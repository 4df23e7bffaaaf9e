//! How a connection begins: who offers this engine, and who knows it.
//!
//! Invariant: it is offered by an identifier of ours in a client's first settings, which others ignore (RFC 9113
//! §6.5.2), and taken by the same in the server's.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::budget::Budget;
use super::client::Client;
use super::driver::{Driver, Watch};
use super::frame::{
    self, DEFAULT_MAX_FRAME, DEFAULT_WINDOW, HEAD, Head, LEAN_VERSION, PREFACE, SETTINGS, Settings,
    WINDOW_UPDATE,
};
use super::inward::Inward;
use super::out::Out;
use super::pace::{UNSENT_MOST, hold_back};
use super::server::Server;
use super::shared::{Ending, Role, Shared};
use super::{CONNECTION_WINDOW, MAX_STREAMS, head, initial_window};
use crate::record::Channel;
use crate::socket::expect_reader;

/// Bytes of the frames that are taken where nothing is encrypted.
const CLEAR_FRAME: u32 = 256 << 10;

/// Bytes by which the windows of all streams of a connection may grow together.
const GROWN_CLIENT: u64 = 64 << 20;
const GROWN_SERVER: u64 = 32 << 20;

/// Begins as a client; ready when the server is known to speak this engine. With `insist` off, any HTTP/2 server
/// will do.
///
/// # Errors
/// [`Ending::Unknown`] where the server does not speak it.
pub async fn connect(
    channel: Channel<TcpStream>,
    watch: Watch,
    insist: bool,
) -> Result<(Client, Driver), Ending> {
    let (shared, mut driver) = start(channel, (Role::Client, &Budget::default()), watch, insist, None);
    let client = Client::new(shared);
    poll_fn(|cx| {
        if let Poll::Ready(ending) = Pin::new(&mut driver).poll(cx) {
            return Poll::Ready(Err(ending));
        }
        if client.shared().settled.load(Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok((client, driver))
}

/// Begins as a server, of a client that [`knows`] the engine. What was received of it, its preface included, is in
/// the channel. Windows of the connections that share `budget` shrink with their streams.
pub fn serve(channel: Channel<TcpStream>, watch: Watch, budget: &Budget) -> (Server, Driver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (shared, driver) = start(channel, (Role::Server, budget), watch, false, Some(sender));
    (Server::new(shared, receiver), driver)
}

/// Receives a client's preface and first settings into the channel, and tells whether they offer this engine. What
/// is no HTTP/2 does not; whoever is handed the channel sees all of it again.
///
/// # Errors
/// The stream's, and TLS's.
pub async fn knows(channel: &mut Channel<TcpStream>) -> io::Result<bool> {
    loop {
        if let Some(offered) = offered(channel.early()) {
            return Ok(offered);
        }
        channel.receive().await?;
    }
}

/// Whether a client's first bytes offer this engine; none while there are too few.
fn offered(received: &[u8]) -> Option<bool> {
    let n = received.len().min(PREFACE.len());
    if received[..n] != PREFACE[..n] {
        return Some(false);
    }
    let rest = received.get(PREFACE.len()..)?;
    let (bytes, rest) = rest.split_first_chunk::<HEAD>()?;
    let head = Head::parse(bytes);
    if head.kind != SETTINGS
        || head.flags != 0
        || head.stream != 0
        || head.length > DEFAULT_MAX_FRAME as usize
    {
        return Some(false);
    }
    let settings = Settings::parse(rest.get(..head.length)?);
    Some(settings.is_ok_and(|settings| settings.lean == Some(LEAN_VERSION)))
}

fn start(
    channel: Channel<TcpStream>,
    (role, budget): (Role, &Budget),
    watch: Watch,
    insist: bool,
    arrivals: Option<mpsc::UnboundedSender<super::Arrival>>,
) -> (Arc<Shared>, Driver) {
    let Channel { stream, inbox, seal, mut early, .. } = channel;
    prepare(&stream);
    let (read, write) = stream.into_split();
    let max_frame = seal.max_plain().map_or(CLEAR_FRAME, |_| DEFAULT_MAX_FRAME);
    let grown = match role {
        Role::Client => GROWN_CLIENT,
        Role::Server => GROWN_SERVER,
    };
    let shared = Arc::new(Shared::new(role, Out::new(write, seal), grown, budget.clone()));
    let window = initial_window(budget.streams());
    let settings = Settings {
        table_size: Some(0),
        max_streams: (role == Role::Server).then_some(MAX_STREAMS),
        window: Some(window),
        max_frame: Some(max_frame),
        max_header_list: Some(head::MAX_FIELDS as u32),
        lean: Some(LEAN_VERSION),
    };
    shared.control(|out| {
        if role == Role::Client {
            out.extend_from_slice(PREFACE);
        }
        settings.put(out, role == Role::Client);
        let more = CONNECTION_WINDOW - DEFAULT_WINDOW;
        frame::put(out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    });
    if role == Role::Server {
        early.drain(..PREFACE.len().min(early.len()));
    }
    let inward = Inward::new(shared.clone(), arrivals, (insist, max_frame as usize, window));
    let driver = Driver::new(shared.clone(), (read, inbox, early), inward, watch);
    (shared, driver)
}

fn prepare(stream: &TcpStream) {
    expect_reader(stream);
    // What fails here costs delay, nothing else.
    let _ = stream.set_nodelay(true);
    hold_back(stream, UNSENT_MOST);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn who_vanishes_with_bytes_under_way_is_noticed_by_tcp() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), None);
        prepare(&stream);
        let bound = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(bound, Some(std::time::Duration::from_secs(30)));
    }

    #[test]
    fn offers_are_told_at_every_length() {
        let mut hello = PREFACE.to_vec();
        Settings { lean: Some(1), window: Some(1000), ..Settings::default() }.put(&mut hello, true);
        for end in 0..hello.len() {
            assert_eq!(offered(&hello[..end]), None, "{end}");
        }
        assert_eq!(offered(&hello), Some(true));
        let mut other = PREFACE.to_vec();
        Settings { window: Some(1000), ..Settings::default() }.put(&mut other, true);
        assert_eq!(offered(&other), Some(false));
        assert_eq!(offered(b"GET"), Some(false));
        hello[24 + 3] = 6;
        assert_eq!(offered(&hello), Some(false), "a ping first");
    }
}
