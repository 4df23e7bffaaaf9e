//! TLS 1.3 handshakes by rustls's unbuffered side, whose keys are ours afterwards.
//!
//! Invariant: rustls alone decides whom to trust and what is agreed; bytes that came behind the handshake are kept.

use std::io;
use std::sync::{Arc, Mutex};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, ExtractedSecrets, ProtocolVersion, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::channel::Channel;
use super::hello;
use super::inbox::Inbox;
use super::key::{Kernel, Key};
use super::open::Open;
use super::seal::Seal;

/// Bytes of handshake that a peer may have sent and that are not taken up yet.
const MAX_PENDING: usize = 64 * 1024;

/// Bytes that one read asks for.
const READ: usize = 8 * 1024;

/// What a server makes of a client.
pub enum Accepted<S> {
    /// It speaks TLS 1.3 and the protocol asked for.
    Channel(Channel<S>),
    /// It offers something else: its stream, and what was read of it. Nothing was sent.
    Other(S, Vec<u8>),
}

/// A handshake that failed as a server.
#[derive(Debug)]
pub struct NotAccepted<S> {
    /// Why.
    pub error: io::Error,
    /// The stream, where last words may still be on their way to the client.
    pub stream: S,
}

/// Shakes hands as a client. `config` must allow secrets to be extracted.
///
/// # Errors
/// The stream's; those of TLS, with rustls's own error inside; [`io::ErrorKind::Unsupported`] where the server does
/// not speak TLS 1.3.
pub async fn connect<S>(
    mut stream: S,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Channel<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut shaking = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    let (received, early) =
        drive(&mut stream, Vec::new(), |bytes| Step::of(shaking.process_tls_records(bytes))).await?;
    let version = shaking.protocol_version();
    let alpn = shaking.alpn_protocol().map(<[u8]>::to_vec);
    if version != Some(ProtocolVersion::TLSv1_3) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the server does not speak TLS 1.3"));
    }
    let (secrets, kernel) = shaking.dangerous_into_kernel_connection().map_err(invalid)?;
    channel(stream, secrets, Kernel::Client(kernel), received, early, alpn)
}

/// Shakes hands as a server with a client that offers TLS 1.3 and `protocol`; any other is handed back. `received`
/// was read from `stream` before. `config` must allow secrets to be extracted.
///
/// # Errors
/// The stream's; those of TLS, with rustls's own error inside.
pub async fn accept<S>(
    mut stream: S,
    mut received: Vec<u8>,
    config: Arc<ServerConfig>,
    protocol: &[u8],
) -> Result<Accepted<S>, NotAccepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match offered(&mut stream, &mut received, protocol).await {
        Ok(true) => {}
        Ok(false) => return Ok(Accepted::Other(stream, received)),
        Err(error) => return Err(NotAccepted { error, stream }),
    }
    match shake(&mut stream, received, config).await {
        Ok(shaken) => Ok(Accepted::Channel(shaken.with(stream))),
        Err(error) => Err(NotAccepted { error, stream }),
    }
}

async fn offered<S>(stream: &mut S, received: &mut Vec<u8>, protocol: &[u8]) -> io::Result<bool>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(offers) = hello::offers(received, protocol) {
            return Ok(offers);
        }
        if received.len() > MAX_PENDING {
            return Ok(false);
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn shake<S>(stream: &mut S, received: Vec<u8>, config: Arc<ServerConfig>) -> io::Result<Channel<()>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut shaking = UnbufferedServerConnection::new(config).map_err(invalid)?;
    let (received, early) =
        drive(stream, received, |bytes| Step::of(shaking.process_tls_records(bytes))).await?;
    if shaking.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        // The configuration speaks no TLS 1.3.
        return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS 1.3 was not agreed"));
    }
    let alpn = shaking.alpn_protocol().map(<[u8]>::to_vec);
    let (secrets, kernel) = shaking.dangerous_into_kernel_connection().map_err(invalid)?;
    channel((), secrets, Kernel::Server(kernel), received, early, alpn)
}

fn channel<S>(
    stream: S,
    secrets: ExtractedSecrets,
    kernel: Kernel,
    received: Vec<u8>,
    early: Vec<u8>,
    alpn: Option<Vec<u8>>,
) -> io::Result<Channel<S>> {
    let kernel = Arc::new(Mutex::new(kernel));
    let open = Open::new(Key::new(secrets.rx).map_err(invalid)?, kernel.clone());
    let seal = Seal::new(Key::new(secrets.tx).map_err(invalid)?, kernel);
    Ok(Channel { stream, inbox: Inbox::new(Some(open), received), seal, early, alpn })
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What rustls wants next.
enum Step {
    /// So many bytes are done with; these are to be queued.
    Encode(usize, Vec<u8>),
    /// What is queued is to be sent.
    Send(usize),
    /// More has to be read.
    Read(usize),
    /// Data that came already.
    Data(usize, Vec<u8>),
    /// The handshake is done.
    Done(usize),
    /// It failed; what is queued, an alert, is still to be sent.
    Failed(rustls::Error),
    /// The peer has left.
    Closed,
}

impl Step {
    fn of<Data>(status: UnbufferedStatus<'_, '_, Data>) -> Self {
        let mut discard = status.discard;
        match status.state {
            Err(error) => Self::Failed(error),
            Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                let mut out = vec![0; 4 * 1024];
                loop {
                    match encode.encode(&mut out) {
                        Ok(n) => {
                            out.truncate(n);
                            return Self::Encode(discard, out);
                        }
                        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                            out.resize(required_size, 0);
                        }
                        Err(EncodeError::AlreadyEncoded) => return Self::Encode(discard, Vec::new()),
                    }
                }
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Self::Send(discard)
            }
            Ok(ConnectionState::BlockedHandshake) => Self::Read(discard),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut data = Vec::new();
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            data.extend_from_slice(record.payload);
                            discard += record.discard;
                        }
                        Err(error) => return Self::Failed(error),
                    }
                }
                Self::Data(discard, data)
            }
            Ok(ConnectionState::WriteTraffic(_)) => Self::Done(discard),
            Ok(_) => Self::Closed,
        }
    }
}

/// Runs a handshake; what was received behind it, sealed and in the clear.
async fn drive<S>(
    stream: &mut S,
    mut received: Vec<u8>,
    mut step: impl FnMut(&mut [u8]) -> Step,
) -> io::Result<(Vec<u8>, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut queued, mut early) = (Vec::new(), Vec::new());
    loop {
        match step(&mut received) {
            Step::Encode(done, more) => {
                received.drain(..done);
                queued.extend_from_slice(&more);
            }
            Step::Send(done) => {
                received.drain(..done);
                stream.write_all(&queued).await?;
                stream.flush().await?;
                queued.clear();
            }
            Step::Read(done) => {
                received.drain(..done);
                if received.len() > MAX_PENDING {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                received.reserve(READ);
                if stream.read_buf(&mut received).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Step::Data(done, data) => {
                received.drain(..done);
                early.extend_from_slice(&data);
            }
            Step::Done(done) => {
                received.drain(..done);
                stream.write_all(&queued).await?;
                stream.flush().await?;
                return Ok((received, early));
            }
            Step::Failed(error) => {
                // Asked once more, it gives the alert to send; asked again, it would read what it could not.
                if let Step::Encode(_, alert) = step(&mut received) {
                    queued.extend_from_slice(&alert);
                }
                let _ = stream.write_all(&queued).await;
                let _ = stream.flush().await;
                return Err(invalid(error));
            }
            Step::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
