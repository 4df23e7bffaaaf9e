//! What a peer may say on an HTTP/2 connection, to the server's side and the client's: as raw bytes, or as frames
//! whose lengths are right. Whatever it says, both end when it has said it, and say little themselves.
#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use libfuzzer_sys::fuzz_target;
use swiftproxy_fuzz::frames::{echo, frames};
use swiftproxy_wire::h2::{H2End, Queue, client_builder, server_builder};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

/// The other side: says what it has to say in pieces of `piece` bytes, then closes; hears everything.
struct Peer {
    says: Vec<u8>,
    said: usize,
    piece: usize,
    heard: usize,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.piece.min(self.says.len() - self.said).min(into.remaining());
        into.put_slice(&self.says[self.said..self.said + n]);
        self.said += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.heard += bytes.len();
        let most = 4096 + 16 * self.says.len();
        assert!(self.heard <= most, "{} bytes said in answer to {}", self.heard, self.says.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn serve(peer: Peer) -> Result<(), h2::Error> {
    let mut connection = server_builder().handshake::<_, Bytes>(peer).await?;
    let queue = Queue::default();
    while let Some(next) = connection.accept().await {
        let (request, mut respond) = next?;
        if request.method() == Method::CONNECT {
            let send = respond.send_response(Response::new(()), false)?;
            tokio::task::spawn_local(echo(H2End::new(send, request.into_body(), queue.clone())));
        } else {
            respond.send_response(Response::builder().status(405).body(()).unwrap_or_default(), true)?;
        }
    }
    Ok(())
}

async fn ask(peer: Peer) -> Result<(), h2::Error> {
    let (mut requests, connection) = client_builder().handshake::<_, Bytes>(peer).await?;
    let connection = tokio::task::spawn_local(connection);
    let queue = Queue::default();
    for _ in 0..3 {
        requests = requests.ready().await?;
        let request = Request::builder().method(Method::CONNECT).uri("example.com:443").body(());
        let (response, send) = requests.send_request(request.expect("a request"), false)?;
        let queue = queue.clone();
        tokio::task::spawn_local(async move {
            let response = response.await.map_err(swiftproxy_wire::h2::io_error)?;
            echo(H2End::new(send, response.into_body(), queue)).await
        });
    }
    drop(requests);
    let _ = connection.await;
    Ok(())
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, piece, rest @ ..] = bytes else { return };
    let (server, raw) = (mode & 1 == 0, mode & 2 != 0);
    let mut says = if server { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { Vec::new() };
    if raw {
        says.extend_from_slice(rest);
    } else {
        says.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
        says.extend_from_slice(&frames(rest));
    }
    let peer = Peer { says, said: 0, piece: usize::from(*piece).max(1), heard: 0 };
    RUNTIME.with(|runtime| {
        let tasks = LocalSet::new();
        let _ = match server {
            true => tasks.block_on(runtime, serve(peer)),
            false => tasks.block_on(runtime, ask(peer)),
        };
        // Every stream ends with its connection.
        runtime.block_on(tasks);
    });
});
