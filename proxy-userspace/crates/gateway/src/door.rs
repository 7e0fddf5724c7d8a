//! One accepted connection: whose it is, the lists, TLS, HTTP or a tunnel, and a graceful end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use audit::{ConnectionRecord, Event, Verdict};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use policy::{FrameBounds, StreamFault, WireBounds};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Notify,
    time,
};
use tokio_rustls::server::TlsStream;

use crate::{
    body::ClientBody,
    client_certificates::{RuleIndex, Shown, fingerprint},
    connection::Connection,
    drain::{Drain, Stage, ending, stopping},
    frames::{Watch, attend, chain},
    greet::greet,
    keepalive::keep_alive,
    listener::{self, Shared, Speaks},
    live::Live,
    paced::Paced,
    pipeline::handle,
    proxied::{ProxiedFault, read_header},
    sources::Place,
    tcp::{self, Carried, Greeting, Visit},
    tls::ServerTls,
    wire::{Judged, WireState},
};

/// What one accepted connection goes through.
pub(crate) struct Door {
    live: Arc<Live>,
    /// What its listener does now, and what it did when this one came.
    in_force: Arc<ArcSwap<Shared>>,
    shared: Arc<Shared>,
    at: listener::Place,
    began: Instant,
    worker: usize,
    peer: SocketAddr,
    drain: Drain,
    /// Whether a request has come.
    asked: AtomicBool,
}

impl Door {
    pub(crate) fn new(
        live: &Arc<Live>,
        in_force: &Arc<ArcSwap<Shared>>,
        at: listener::Place,
        worker: usize,
        peer: SocketAddr,
        drain: Drain,
    ) -> Self {
        Self {
            live: Arc::clone(live),
            shared: in_force.load_full(),
            in_force: Arc::clone(in_force),
            at,
            began: Instant::now(),
            worker,
            peer,
            drain,
            asked: AtomicBool::new(false),
        }
    }

    /// What its listener did when it came.
    #[cfg(feature = "http3")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[cfg(feature = "http3")]
    pub(crate) fn drain(&self) -> Drain {
        self.drain.clone()
    }

    #[cfg(feature = "http3")]
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Whether the peer is who the connection is of, and no balancer.
    pub(crate) fn knows_whose_it_is(&self) -> bool {
        self.shared.balancers.is_empty()
    }

    /// A place for one more connection of the peer; one that may have none is told of.
    pub(crate) fn enter(&self) -> Option<Place> {
        let place = self.shared.sources.enter(self.peer.ip());
        if place.is_none() {
            self.record("source_connections", None);
        }
        place
    }

    /// Whose connection a balancer passes on; nobody but a balancer may say.
    async fn introduced(&self, stream: &mut TcpStream) -> Result<SocketAddr, ProxiedFault> {
        let peer = self.peer.ip().to_canonical();
        if !self.shared.balancers.iter().any(|net| net.contains(&peer)) {
            return Err(ProxiedFault::Untrusted);
        }
        let header = read_header(stream);
        let source = time::timeout(self.shared.limits.handshake_timeout, header).await??;
        Ok(source.unwrap_or(self.peer))
    }

    pub(crate) async fn welcome(mut self, mut stream: TcpStream) {
        if let Err(refusal) = self.live.current().gate.admit(self.peer.ip()) {
            return self.record(&refusal.to_string(), None);
        }
        let mut _place = None;
        if !self.shared.balancers.is_empty() {
            match self.introduced(&mut stream).await {
                Ok(source) => self.peer = source,
                Err(fault) => {
                    let balancer = self.peer;
                    let detail = match &fault {
                        ProxiedFault::Broken(error) => error.to_string(),
                        _ => format!("{balancer} should have said whose connection it is"),
                    };
                    return self.record(&fault.to_string(), Some(detail));
                }
            }
            _place = self.enter();
            if _place.is_none() {
                return;
            }
            if let Err(refusal) = self.live.current().gate.admit(self.peer.ip()) {
                return self.record(&refusal.to_string(), None);
            }
        }
        // Small answers must not wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        let shared = Arc::clone(&self.shared);
        match &shared.speaks {
            Speaks::Http(tls) => self.welcome_http(tls, stream).await,
            Speaks::Tcp(tls) => self.end_tls(tls, stream).await,
            Speaks::Passthrough => self.pass_through(stream).await,
        }
    }

    /// The handshake; none where it failed, which is recorded, or was an authority's that checked a name.
    async fn greeted<S>(&self, tls: &ServerTls, stream: S) -> Option<(TlsStream<S>, RuleIndex)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = greet(tls, stream);
        match time::timeout(self.shared.limits.handshake_timeout, handshake).await {
            Ok(Ok(greeted)) => return greeted,
            Ok(Err(error)) => self.record("tls_handshake_failed", Some(error.to_string())),
            Err(_) => self.record("tls_handshake_timeout", None),
        }
        None
    }

    /// TLS ends here, and what was in it goes on.
    async fn end_tls(&self, tls: &ServerTls, stream: TcpStream) {
        let Some((stream, _)) = self.greeted(tls, stream).await else {
            return;
        };
        let greeting = Greeting::of_session(stream.get_ref().1);
        tcp::serve(&self.live, self.visit(Carried::Tls), greeting, stream).await;
    }

    /// TLS goes on as it is, to where its first message leads.
    async fn pass_through(&self, mut stream: TcpStream) {
        let read = tcp::read_hello(&mut stream, self.shared.limits.handshake_timeout);
        match read.await {
            Ok(greeting) => {
                let visit = self.visit(Carried::Passthrough);
                tcp::serve(&self.live, visit, greeting, stream).await;
            }
            Err(fault) => {
                fault.alert(&stream);
                self.record(&fault.to_string(), fault.detail());
            }
        }
    }

    fn visit(&self, carried: Carried) -> Visit {
        Visit {
            peer: self.peer,
            listener: self.at,
            began: self.began,
            carried,
        }
    }

    async fn welcome_http(&self, tls: &ServerTls, stream: TcpStream) {
        let stream = Paced::new(stream, self.shared.limits.body_timeout);
        let Some((stream, rule)) = self.greeted(tls, stream).await else {
            return;
        };
        if let Err(error) = self.serve(tls, stream, rule).await {
            // What a peer breaks off is not worth a record; what it says wrongly is.
            // A kept connection that fell idle after an answer did nothing wrong either.
            let silent = error.is_timeout() && !self.asked.load(Ordering::Relaxed);
            if error.is_parse() || silent {
                let reason = if error.is_parse() {
                    "http_malformed"
                } else {
                    "http_timeout"
                };
                self.record(reason, Some(error.to_string()));
            }
        }
    }

    /// What requests have in common that come over this session.
    pub(crate) fn connection(
        &self,
        tls: &ServerTls,
        rule: RuleIndex,
        session: Session<'_>,
        wire: Option<Arc<WireState>>,
    ) -> Connection {
        Connection {
            peer: self.peer,
            worker: self.worker,
            in_force: Arc::clone(&self.in_force),
            body_timeout: self.shared.limits.body_timeout,
            drain: self.drain.clone(),
            server_name: session.server_name.map(str::to_owned),
            shown: Shown::new(session.certificates),
            outdated: Notify::new(),
            client_rule: rule,
            client_rules: Arc::clone(&tls.rules),
            client_certificate: session
                .certificates
                .and_then(|chain| chain.first())
                .map(fingerprint),
            certificate: tls.certificates.choose(session.server_name),
            covered: OnceLock::new(),
            wire,
            tunnel: Mutex::default(),
            tls: session.version,
        }
    }

    async fn serve(
        &self,
        tls: &ServerTls,
        stream: TlsStream<Paced<TcpStream>>,
        rule: RuleIndex,
    ) -> Result<(), hyper::Error> {
        let limits = self.shared.limits;
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let wire = (!http2).then(Arc::<WireState>::default);
        let session = Session {
            server_name: session.server_name(),
            certificates: session.peer_certificates(),
            version: session
                .protocol_version()
                .and_then(|version| version.as_str())
                .unwrap_or("unknown"),
        };
        let connection = self.connection(tls, rule, session, wire.clone());
        let connection = Arc::new(connection);
        let becomes = Arc::clone(&connection);
        let (live, asked) = (&self.live, &self.asked);
        let service = service_fn(move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let (gateway, connection) = (live.current(), Arc::clone(&connection));
            // The library moves this from place to place before it is first looked at: in a box, it goes over
            // as a pointer.
            Box::pin(async move {
                let mut response =
                    handle(&gateway, &connection, request.map(ClientBody::Http)).await;
                if let Some(alt_svc) = &connection.in_force.load().alt_svc {
                    let alt_svc = alt_svc.clone();
                    response.headers_mut().insert(header::ALT_SVC, alt_svc);
                }
                let is_last = !http2 && *connection.drain.borrow() == Stage::HandedOver;
                if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            })
        });
        let Some(wire) = wire else {
            let watch = Watch::begin(FrameBounds {
                header_timeout: limits.header_timeout,
                stall_timeout: limits.stall_timeout,
            });
            let malformed = |fault: StreamFault, what| self.record(&fault.to_string(), Some(what));
            let stream = watch.follow(stream, limits.max_header_bytes, malformed);
            let connection = conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .max_concurrent_streams(limits.max_streams)
                .max_header_list_size(limits.max_header_bytes as u32)
                .keep_alive_interval(limits.header_timeout)
                .keep_alive_timeout(limits.header_timeout)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let close =
                |connection: Pin<&mut _>| conn::http2::Connection::graceful_shutdown(connection);
            let mut drain = self.drain.clone();
            let over = until(ending(&mut drain), &becomes);
            let ended = attend(&watch, connection, close, over).await;
            let Some(fault) = watch.fault() else {
                if matches!(ended, Some(Ok(()))) && watch.was_left() {
                    let what = "the connection was ended on a CONNECT with a length";
                    self.record("http_malformed", Some(what.to_owned()));
                }
                return ended.unwrap_or(Ok(()));
            };
            let error = ended.and_then(Result::err);
            self.record(&fault.to_string(), error.map(|error| chain(&error)));
            return Ok(());
        };
        let bounds = WireBounds {
            head_bytes: limits.max_header_bytes,
        };
        let connection = conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(limits.max_header_bytes)
            .serve_connection(TokioIo::new(Judged::new(stream, wire, bounds)), service)
            .with_upgrades();
        tokio::pin!(connection);
        let mut drain = self.drain.clone();
        tokio::select! {
            ended = connection.as_mut() => ended?,
            // While another process takes new connections, this one waits for its next request, and closes
            // after that: a request that is on its way would be lost otherwise, and its client couldn't know
            // whether anything came of it (RFC 9112, 9.5).
            () = until(stopping(&mut drain), &becomes) => {
                connection.as_mut().graceful_shutdown();
                connection.await?;
            }
        }
        let tunnel = becomes
            .tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(tunnel) = tunnel {
            tunnel.carry().await;
        }
        Ok(())
    }

    pub(crate) fn record(&self, reason: &str, detail: Option<String>) {
        let gateway = self.live.current();
        let carried = match &self.shared.speaks {
            Speaks::Http(_) => None,
            Speaks::Tcp(_) => Some(Carried::Tls),
            Speaks::Passthrough => Some(Carried::Passthrough),
        };
        if let Some(carried) = carried {
            return tcp::refuse(&gateway, &self.visit(carried), reason, detail);
        }
        let peer = SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port());
        let record = ConnectionRecord {
            peer: peer.to_string(),
            verdict: Verdict::Deny,
            reason: reason.to_owned(),
            detail,
        };
        gateway.metrics.refused_connection(reason);
        if let Err(error) = gateway.journal.record(&Event::Connection(record)) {
            tracing::error!(%error, "audit record lost");
        }
    }
}

/// What TLS has come to.
pub(crate) struct Session<'s> {
    /// The name that was asked for.
    pub(crate) server_name: Option<&'s str>,
    /// The client's certificate, and what it was issued by.
    pub(crate) certificates: Option<&'s [CertificateDer<'static>]>,
    pub(crate) version: &'static str,
}

/// Returns when that does, or when a connection would not be let in any more.
pub(crate) async fn until(end: impl Future<Output = ()>, connection: &Connection) {
    tokio::select! {
        () = end => {}
        () = connection.outdated.notified() => {}
    }
}
