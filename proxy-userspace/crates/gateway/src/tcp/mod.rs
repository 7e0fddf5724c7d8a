//! The story of one connection that carries no requests: whose it is and what it asks for, which route it may
//! take, an upstream, and bytes in both directions.

mod counts;
mod hello;
mod ledger;

use std::{
    borrow::Cow,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use policy::{CanonicalHost, TcpDenial};
use rustix::net::sockopt::set_socket_linger;
use rustls::ServerConnection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time,
};
use tokio_rustls::server::TlsStream;

use self::ledger::TunnelLedger;
pub(crate) use self::{
    counts::{TunnelMetrics, TunnelsByRoute},
    hello::read_hello,
};
use crate::{
    carry::{Ended, carry},
    client_certificates::fingerprint,
    gateway::{Gateway, SourceGate, SourceRefusal},
    listener::Place,
    live::Live,
    upstream::{Opened, UpstreamFault},
};

/// How often the lists are asked about a connection that is open.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// What was in TLS that ended here.
    Tls,
    /// TLS as it is.
    Passthrough,
}

/// A connection as it was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) peer: SocketAddr,
    pub(crate) listener: Place,
    pub(crate) began: Instant,
    pub(crate) carried: Carried,
}

/// What a client said of itself before it was let on.
pub(crate) struct Greeting {
    /// TLS version, where TLS ends here.
    tls: Option<&'static str>,
    /// SHA-256 of the certificate that it showed, and that was good.
    certificate: Option<String>,
    /// The name that it asked for, as it said it.
    server_name: Option<String>,
    /// What was read of it, and belongs to the upstream.
    said: Vec<u8>,
}

impl Greeting {
    /// That of a handshake which was made here.
    pub(crate) fn of_session(session: &ServerConnection) -> Self {
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        Self {
            tls: session
                .protocol_version()
                .and_then(|version| version.as_str()),
            certificate: shown.map(fingerprint),
            server_name: session.server_name().map(str::to_owned),
            said: Vec::new(),
        }
    }
}

/// Why a connection is not carried. The text is the name in the audit trail.
#[derive(Debug, thiserror::Error)]
enum TcpRefusal {
    #[error("audit_unavailable")]
    AuditUnavailable,
    #[error(transparent)]
    Source(#[from] SourceRefusal),
    #[error("server_name_invalid")]
    ServerName,
    #[error(transparent)]
    Denied(#[from] TcpDenial),
    #[error(transparent)]
    Upstream(#[from] UpstreamFault),
}

impl TcpRefusal {
    /// What the system or a library said.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Upstream(UpstreamFault::Unreachable(fault)) => Some(fault.to_string()),
            _ => None,
        }
    }

    /// What a client is told in TLS that goes through (RFC 8446, 6.2): a fatal alert.
    fn alert(&self) -> [u8; 7] {
        let description = match self {
            // unrecognized_name
            Self::Denied(TcpDenial::NoRoute) | Self::ServerName => 112,
            // access_denied
            Self::Denied(_) | Self::Source(_) => 49,
            // internal_error
            Self::AuditUnavailable | Self::Upstream(_) => 80,
        };
        [21, 3, 3, 0, 2, 2, description]
    }
}

/// A client's end.
pub(crate) trait Client: AsyncRead + AsyncWrite + Unpin {
    /// What it goes over.
    fn socket(&self) -> &TcpStream;
}

impl Client for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Client for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Records a connection that was refused before it was known what it asks for.
pub(crate) fn refuse(gateway: &Gateway, visit: &Visit, reason: &str, detail: Option<String>) {
    TunnelLedger::begin(gateway, visit).refused(reason, detail);
}

/// Serves one connection to its end: it gets one decision id and one audit record.
pub(crate) async fn serve(live: &Live, visit: Visit, greeting: Greeting, mut client: impl Client) {
    let gateway = live.current();
    let mut ledger = TunnelLedger::begin(&gateway, &visit);
    let (mut opened, idle) = match open(&gateway, &visit, &greeting, &mut ledger).await {
        Ok(opened) => opened,
        Err(refusal) => {
            if visit.carried == Carried::Passthrough {
                // Not waited for: nothing was said before this.
                let _ = client.socket().try_write(&refusal.alert());
            }
            return ledger.refused(&refusal.to_string(), refusal.detail());
        }
    };
    ledger.opened(&opened);
    let gate = Arc::clone(&gateway.gate);
    // A tunnel may outlive many configurations.
    drop(gateway);
    let (up, down) = (ledger.up.clone(), ledger.down.clone());
    let both = carry(
        Said {
            said: greeting.said,
            at: 0,
            inner: &mut client,
        },
        &mut opened.stream,
        |bytes| up.add(bytes),
        |bytes| down.add(bytes),
        idle,
    );
    let ended = tokio::select! {
        ended = both => match ended {
            Ended::Whole => return ledger.ended(Cow::Borrowed("whole")),
            Ended::ByClient => Cow::Borrowed("by_client"),
            Ended::ByUpstream => Cow::Borrowed("by_upstream"),
            Ended::Silent => Cow::Borrowed("idle_timeout"),
        },
        refusal = refusal_of(gate.as_ref(), visit.peer.ip()) => Cow::Owned(refusal.to_string()),
    };
    // What broke off must not look finished to the other end, and a peer that takes nothing must not be
    // waited for.
    reset(client.socket());
    reset(opened.stream.socket());
    ledger.ended(ended);
}

/// Decides on a connection, and opens the way that it may take.
async fn open(
    gateway: &Gateway,
    visit: &Visit,
    greeting: &Greeting,
    ledger: &mut TunnelLedger,
) -> Result<(Opened, Duration), TcpRefusal> {
    ledger.greeted(greeting.tls, greeting.certificate.as_ref());
    if gateway.journal.is_failing() {
        return Err(TcpRefusal::AuditUnavailable);
    }
    let source = visit.peer.ip();
    // The lists may have changed since this connection was accepted.
    gateway.gate.admit(source)?;
    let name = greeting.server_name.as_deref().map(CanonicalHost::parse);
    let name = name.transpose().map_err(|_| TcpRefusal::ServerName)?;
    if let Some(name) = &name {
        ledger.named(name);
    }
    let found = gateway
        .tcp_routes
        .find(visit.listener.configured, name.as_ref())?;
    ledger.routed(found.route(), gateway.tunnel_counts.of(found.route()));
    let permit = found.authorise(source, greeting.certificate.is_some())?;
    ledger.permitted(&permit);
    let upstream = gateway.upstreams.get(&permit.route().upstream)?;
    let opened = upstream.open_tunnel(visit.peer).await?;
    Ok((opened, permit.route().idle_timeout))
}

/// Returns when a source is served no more.
async fn refusal_of(gate: &dyn SourceGate, source: IpAddr) -> SourceRefusal {
    let mut looks = time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        if let Err(refusal) = gate.admit(source) {
            return refusal;
        }
    }
}

/// Has a connection end with a reset, and with nothing more sent, when it is closed.
fn reset(socket: &TcpStream) {
    // Where that can't be set it ends in the ordinary way.
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}

/// A client of which some was read already: that comes first.
struct Said<S> {
    said: Vec<u8>,
    at: usize,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Said<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.said[self.at..];
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.at += taken;
        if self.at == self.said.len() {
            // Not kept for as long as the connection.
            (self.said, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Said<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
