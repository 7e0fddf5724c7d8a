//! One connection to an endpoint: TCP, TLS where the upstream has it, and HTTP/1.1 or HTTP/2 where it is for
//! requests.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{body::UpstreamBody, fault::ConnectFault};
use crate::{keepalive::keep_alive, proxied::header_for, sole::Sole};

/// Largest head of an answer.
const LARGEST_HEAD: usize = 64 * 1024;

/// What an upstream may send of one HTTP/2 answer, and of all on one connection, before its client has
/// read it. The library's 64 KiB would hold large answers to one round trip each.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// How long a connection with open streams may be silent before it is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The version an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What the two agree on in TLS (RFC 7301); without TLS, HTTP/1.1.
    #[default]
    Negotiated,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge (RFC 9113, 3.3).
    Http2,
    /// No HTTP at all: bytes that nobody looks at.
    Tcp,
}

/// How an upstream is known to be who it should be.
#[derive(Clone)]
pub struct UpstreamTls {
    any: TlsConnector,
    http1: TlsConnector,
    /// Whom to expect; the host of the URL without it.
    server_name: Option<ServerName<'static>>,
    /// What `config` was made of: two of them can't be compared.
    made_of: [u8; 32],
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        (&self.server_name, &self.made_of) == (&other.server_name, &other.made_of)
    }
}

impl UpstreamTls {
    /// TLS as `config` says it, which was made of these. `server_name` goes into SNI, and is what the
    /// certificate has to be good for.
    pub fn new(
        config: ClientConfig,
        made_of: &[&[u8]],
        protocol: Protocol,
        server_name: Option<ServerName<'static>>,
    ) -> Self {
        let with = |alpn: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let http1 = with(&[b"http/1.1"]);
        let any = match protocol {
            Protocol::Negotiated => with(&[b"h2", b"http/1.1"]),
            Protocol::Http2 => with(&[b"h2"]),
            Protocol::Http1 => http1.clone(),
            Protocol::Tcp => with(&[]),
        };
        Self {
            any,
            http1,
            server_name,
            made_of: digest_of(made_of),
        }
    }
}

/// Of all of them, each with its length.
fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// What a request is given to.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<UpstreamBody>),
    Http2(http2::SendRequest<UpstreamBody>),
}

/// Makes connections.
pub(super) struct Connector {
    pub(super) tls: Option<UpstreamTls>,
    pub(super) protocol: Protocol,
    /// Whether the upstream is told whose connection it is.
    pub(super) introduces: bool,
    pub(super) timeout: Duration,
}

/// For what a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// It is to become something else.
    pub(super) only_http1: bool,
    /// Whose requests it carries; this proxy's own without.
    pub(super) client: Option<SocketAddr>,
}

impl Connector {
    /// Connects to `address`, where `host` is said to be. The slot is held for as long as the connection.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        host: &ServerName<'static>,
        purpose: Purpose,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Sender, ConnectFault> {
        let connecting = self.connect_untimed(address, host, purpose, slot);
        time::timeout(self.timeout, connecting)
            .await
            .unwrap_or(Err(ConnectFault::Timeout))
    }

    async fn connect_untimed(
        &self,
        address: SocketAddr,
        host: &ServerName<'static>,
        purpose: Purpose,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Sender, ConnectFault> {
        let asks_http2 = self.protocol == Protocol::Http2 && !purpose.only_http1;
        match self.reach_untimed(address, host, purpose).await? {
            Reached::Plain(tcp) => speak(tcp, asks_http2, slot).await,
            Reached::Tls(stream) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                if asks_http2 && !http2 {
                    return Err(ConnectFault::NotHttp2);
                }
                speak(*stream, http2, slot).await
            }
        }
    }

    /// Connects, and leaves it to the caller what is said.
    pub(super) async fn reach(
        &self,
        address: SocketAddr,
        host: &ServerName<'static>,
        purpose: Purpose,
    ) -> Result<Reached, ConnectFault> {
        let reaching = self.reach_untimed(address, host, purpose);
        time::timeout(self.timeout, reaching)
            .await
            .unwrap_or(Err(ConnectFault::Timeout))
    }

    async fn reach_untimed(
        &self,
        address: SocketAddr,
        host: &ServerName<'static>,
        purpose: Purpose,
    ) -> Result<Reached, ConnectFault> {
        let mut tcp = TcpStream::connect(address)
            .await
            .map_err(ConnectFault::Tcp)?;
        // Small requests must not wait for the upstream's delayed acknowledgement.
        let _ = tcp.set_nodelay(true);
        keep_alive(&tcp);
        if self.introduces {
            let here = tcp.local_addr().map_err(ConnectFault::Tcp)?;
            let header = header_for(purpose.client.map(|client| (client, here)));
            tcp.write_all(&header).await.map_err(ConnectFault::Tcp)?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Reached::Plain(Sole(tcp)));
        };
        let connector = if purpose.only_http1 {
            &tls.http1
        } else {
            &tls.any
        };
        let name = tls.server_name.as_ref().unwrap_or(host).clone();
        let stream = connector
            .connect(name, Sole(tcp))
            .await
            .map_err(ConnectFault::Tls)?;
        Ok(Reached::Tls(Box::new(stream)))
    }
}

/// A connection on which nothing was said yet, but whose it is.
#[derive(Debug)]
pub(crate) enum Reached {
    Plain(Sole<TcpStream>),
    Tls(Box<TlsStream<Sole<TcpStream>>>),
}

impl Reached {
    /// What it goes over.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => &tcp.0,
            Self::Tls(stream) => &stream.get_ref().0.0,
        }
    }
}

impl AsyncRead for Reached {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Reached {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

async fn speak<S>(
    stream: S,
    http2: bool,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<Sender, ConnectFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    if http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(LARGEST_HEAD as u32)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(stream)
            .await
            .map_err(ConnectFault::Http)?;
        drive(connection, slot);
        return Ok(Sender::Http2(sender));
    }
    // Of fields, hyper takes 100, as Envoy and HAProxy do; for any other bound it allocates and fills 16 KiB
    // an answer.
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(stream)
        .await
        .map_err(ConnectFault::Http)?;
    drive(connection.with_upgrades(), slot);
    Ok(Sender::Http1(sender))
}

/// Runs a connection to its end, where the worker is that asked for it.
fn drive(
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    slot: Option<OwnedSemaphorePermit>,
) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to an upstream ended");
        }
        drop(slot);
    });
}
