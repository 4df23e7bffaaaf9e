//! What a byte costs through either HTTP/2 engine: `cargo run --release --example lean_or_h2 [GB] [STREAMS]`.
//!
//! One process holds an origin, both ends of the tunnel over TLS on loopback, and a sink. CPU seconds per GB are of the
//! whole process; the rows of `tcp` have a bare copy in the tunnel's place, for what the rest costs.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use swiftproxy_core::endpoint::{DrawError, Endpoint, Tcp};
use swiftproxy_wire::record::Accepted;
use swiftproxy_wire::{h2 as tuned, lean, record, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

type Ends = (Box<dyn Endpoint>, Box<dyn Endpoint>);

async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    let (near, (far, _)) = (near?, far?);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// One way of a session, as the relay's engine does it.
async fn pump(source: &mut dyn Endpoint, sink: &mut dyn Endpoint) -> io::Result<()> {
    let mut scratch = vec![0; 256 * 1024];
    loop {
        let n = poll_fn(|cx| {
            ready!(source.poll_readable(cx))?;
            ready!(sink.poll_writable(cx))?;
            let lent = source.lent();
            if !lent.is_empty() {
                let n = ready!(sink.poll_write(cx, lent))?;
                source.consume(n);
                return Poll::Ready(Ok(n));
            }
            if let Some(drawn) = sink.poll_write_from(cx, source, scratch.len()) {
                return drawn.map_err(|error| match error {
                    DrawError::Source(error) | DrawError::Sink(error) => error,
                });
            }
            source.poll_read(cx, &mut scratch).map_ok(|n| n | 1 << 40)
        })
        .await?;
        match n {
            0 => break,
            n if n >> 40 == 0 => {}
            n => {
                let mut rest = &scratch[..n & ((1 << 40) - 1)];
                if rest.is_empty() {
                    break;
                }
                while !rest.is_empty() {
                    let n = poll_fn(|cx| sink.poll_write(cx, rest)).await?;
                    rest = &rest[n..];
                }
            }
        }
    }
    poll_fn(|cx| sink.poll_finish(cx)).await
}

/// Streams of one connection: the client's ends and the server's.
async fn streams(engine: &str, count: usize) -> io::Result<Vec<Ends>> {
    let dir = std::env::temp_dir().join(format!("lean_or_h2-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let pin = tls::pin_of(made.cert.der()).map_err(io::Error::other)?;
    let trust = tls::Trust::Pins(pin.parse().map_err(io::Error::other)?);
    let mut client = (*tls::client_config(&trust).map_err(io::Error::other)?).clone();
    let mut server = (*tls::server_config(&cert, &key).map_err(io::Error::other)?).clone();
    std::fs::remove_dir_all(&dir)?;
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
    let (client, server) = (Arc::new(client), Arc::new(server));
    let name = tls::server_name("localhost").map_err(io::Error::other)?;
    let (near, far) = sockets().await?;
    let request = || Request::connect("a.example:1").body(()).map_err(io::Error::other);
    let mut ends: Vec<Ends> = Vec::new();
    if engine == "tcp" {
        for _ in 0..count {
            let (near, far) = sockets().await?;
            ends.push((Box::new(Tcp::new(near)), Box::new(Tcp::new(far))));
        }
        return Ok(ends);
    }
    if engine == "lean" {
        let (near, far) =
            tokio::join!(record::connect(near, client, name), record::accept(far, Vec::new(), server, b"h2"));
        let Accepted::Channel(mut far) = far.map_err(|not| not.error)? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let near = near?;
        let seconds = std::time::Duration::from_secs;
        let watch =
            lean::Watch { quiet: seconds(15), busy: seconds(3), doubt: seconds(3), patience: seconds(10) };
        let (client, server) = tokio::join!(lean::connect(near, watch, true), async {
            lean::knows(&mut far).await?;
            let (server, driver) = lean::serve(far, watch, &lean::Budget::default());
            tokio::spawn(driver);
            Ok::<_, io::Error>(server)
        });
        let ((client, driver), mut server) = (client.map_err(io::Error::other)?, server?);
        tokio::spawn(driver);
        for _ in 0..count {
            let opening = client.open(&request()?, false).map_err(io::Error::other)?;
            let (_, responder) = server.accept().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let far = responder.respond(&Response::new(()), false)?;
            ends.push((Box::new(opening.await?.1), Box::new(far)));
        }
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        return Ok(ends);
    }
    let (near, far) = tokio::join!(
        tokio_rustls::TlsConnector::from(client).connect(name, near),
        tokio_rustls::TlsAcceptor::from(server).accept(far)
    );
    let (near, far) = (near?, far?);
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let Ok(mut server) = tuned::server_builder().handshake::<_, Bytes>(far).await else { return };
        while let Some(Ok((request, mut respond))) = server.accept().await {
            let Ok(send) = respond.send_response(Response::new(()), false) else { continue };
            let _ = sender.send(tuned::H2End::new(send, request.into_body(), tuned::Queue::default()));
        }
    });
    let (client, connection) =
        tuned::client_builder().handshake::<_, Bytes>(near).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    for _ in 0..count {
        let client = client.clone().ready().await;
        let (response, send) = client
            .and_then(|mut client| client.send_request(request().unwrap_or_default(), false))
            .map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        let far = receiver.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        ends.push((
            Box::new(tuned::H2End::new(send, response.into_body(), tuned::Queue::default())),
            Box::new(far),
        ));
    }
    Ok(ends)
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / 100.0
}

async fn run(engine: &str, up: bool, bytes: u64, count: usize) -> io::Result<()> {
    let ends = streams(engine, count).await?;
    let (start, before) = (Instant::now(), cpu());
    let mut tasks = Vec::new();
    for (client, server) in ends {
        let ((mut origin, near), (far, mut sink)) = (sockets().await?, sockets().await?);
        let share = bytes / count as u64;
        tasks.push(tokio::spawn(async move {
            let chunk = vec![7; 256 * 1024];
            let mut left = share;
            while left > 0 {
                let n = left.min(chunk.len() as u64);
                origin.write_all(&chunk[..n as usize]).await?;
                left -= n;
            }
            origin.shutdown().await
        }));
        let (mut first, mut second) = if up { (client, server) } else { (server, client) };
        let (mut near, mut far) = (Tcp::new(near), Tcp::new(far));
        let (done, over) = tokio::sync::oneshot::channel::<()>();
        tasks.push(tokio::spawn(async move {
            let sent = pump(&mut near, first.as_mut()).await;
            let _ = over.await;
            sent
        }));
        tasks.push(tokio::spawn(async move {
            let sent = pump(second.as_mut(), &mut far).await;
            let _ = done.send(());
            sent
        }));
        tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 256 * 1024];
            let mut got = 0;
            loop {
                match sink.read(&mut buffer).await? {
                    0 => break,
                    n => got += n as u64,
                }
            }
            if got == share { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }));
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    let (cpu, wall, gb) = (cpu() - before, start.elapsed().as_secs_f64(), bytes as f64 / 1e9);
    let way = if up { "up" } else { "down" };
    println!("{engine:5} {way:5} x{count:<3} {:6.3} CPU s/GB  {:6.2} Gbit/s", cpu / gb, gb * 8.0 / wall);
    Ok(())
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let gb: f64 = args.next().and_then(|gb| gb.parse().ok()).unwrap_or(2.0);
    let many: usize = args.next().and_then(|many| many.parse().ok()).unwrap_or(8);
    for _ in 0..2 {
        for (up, count) in [(false, 1), (false, many), (true, 1)] {
            for engine in ["tcp", "lean", "h2"] {
                run(engine, up, (gb * 1e9) as u64, count).await?;
            }
        }
    }
    Ok(())
}
