//! Accepting connections: the lists, TLS, HTTP, and a drain at the end.

use std::{
    convert::Infallible,
    io,
    net::{self, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use audit::{ConnectionRecord, Event, Verdict};
use http::Request;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use policy::{FrameBounds, StreamFault, WireBounds};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    time,
};
use tokio_rustls::server::TlsStream;

use crate::{
    client_certificates::{RuleIndex, fingerprint},
    frames::{Watch, attend, chain},
    greet::greet,
    keepalive::keep_alive,
    live::Live,
    paced::Paced,
    pipeline::{Connection, handle},
    proxied::{ProxiedFault, read_header},
    sources::{Place, Sources},
    tls::ServerTls,
    wire::{Judged, WireState},
};

/// Connections that wait in the kernel's queue to be accepted, of each worker.
const BACKLOG: u32 = 1024;

/// After the kernel has no more descriptors, wait this long before the next accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of one listener, all against peers that hold on without asking for anything.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Most connections at a time; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Most connections of one source at a time: an IPv4 address, or an IPv6 /64.
    pub max_connections_per_source: usize,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest wait for a whole request head, and for the next request on a kept connection.
    pub header_timeout: Duration,
    /// Most bytes of a request head.
    pub max_header_bytes: usize,
    /// Longest wait for the next part of a body.
    pub body_timeout: Duration,
    /// Most streams of one HTTP/2 connection at a time.
    pub max_streams: u32,
    /// Longest time for which an HTTP/2 client may take next to nothing of an answer.
    pub stall_timeout: Duration,
}

/// What a listener does, besides its address.
#[derive(Clone)]
pub struct ListenerSpec {
    /// Its TLS.
    pub tls: ServerTls,
    /// Its bounds.
    pub limits: ListenerLimits,
    /// Who is believed about where a request comes from.
    pub trusted_hops: Arc<[IpNet]>,
    /// Who begins each connection with the PROXY protocol. Where some do, nobody else is let in.
    pub balancers: Arc<[IpNet]>,
}

/// Bound sockets, one for each worker, with what they share.
pub struct Listener {
    address: SocketAddr,
    /// Until their workers take them.
    sockets: Vec<Mutex<Option<net::TcpListener>>>,
    shared: ArcSwap<Shared>,
    closed: watch::Sender<bool>,
}

/// What the connections of a listener share. One that is open keeps what it began with.
struct Shared {
    tls: ServerTls,
    limits: ListenerLimits,
    trusted_hops: Arc<[IpNet]>,
    balancers: Arc<[IpNet]>,
    slots: Arc<Semaphore>,
    sources: Arc<Sources>,
}

impl From<ListenerSpec> for Shared {
    fn from(spec: ListenerSpec) -> Self {
        Self {
            tls: spec.tls,
            slots: Arc::new(Semaphore::new(spec.limits.max_connections)),
            sources: Sources::new(spec.limits.max_connections_per_source),
            limits: spec.limits,
            trusted_hops: spec.trusted_hops,
            balancers: spec.balancers,
        }
    }
}

/// Ends connections gracefully: each holds a receiver, and the last to go is noticed.
type Drain = watch::Receiver<bool>;

impl Listener {
    /// Binds `address` for so many workers: the kernel spreads connections over their sockets
    /// (`SO_REUSEPORT`, Linux 3.9).
    ///
    /// # Errors
    /// What the system says, `AddrInUse` above all.
    pub async fn bind(
        address: SocketAddr,
        workers: NonZeroUsize,
        spec: ListenerSpec,
    ) -> io::Result<Self> {
        // Sockets that share a port are let in beside any others that do: another daemon is found by one
        // that doesn't.
        let address = listen_on(address, false)?.local_addr()?;
        let sockets: Vec<_> = (0..workers.get())
            .map(|_| Ok(Mutex::new(Some(listen_on(address, true)?.into_std()?))))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            address,
            sockets,
            shared: ArcSwap::from_pointee(spec.into()),
            closed: watch::Sender::new(false),
        })
    }

    /// The address it is bound to, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does otherwise from the next connection on. Connections that are open stay as they are.
    pub fn exchange(&self, spec: ListenerSpec) {
        let mut fresh = Shared::from(spec);
        let before = self.shared.load();
        // Those that are open count, as far as the bounds are the same.
        if before.limits.max_connections == fresh.limits.max_connections {
            fresh.slots = Arc::clone(&before.slots);
        }
        if before.limits.max_connections_per_source == fresh.limits.max_connections_per_source {
            fresh.sources = Arc::clone(&before.sources);
        }
        self.shared.store(Arc::new(fresh));
    }

    /// Takes no further connections.
    pub fn close(&self) {
        self.closed.send_replace(true);
        for socket in &self.sockets {
            socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Serves a worker's share until `drain` turns true or it is closed, then takes no further connections
    /// and returns. Connections that are being served hold their own receiver of `drain` until they end.
    ///
    /// # Errors
    /// When the worker can't have its socket.
    pub(crate) async fn serve(
        self: Arc<Self>,
        worker: usize,
        live: Arc<Live>,
        mut drain: Drain,
    ) -> io::Result<()> {
        let socket = self.sockets[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| io::Error::other("another worker has this socket"))?;
        let socket = TcpListener::from_std(socket)?;
        let mut closed = self.closed.subscribe();
        loop {
            let accepted = async {
                let slots = Arc::clone(&self.shared.load().slots);
                let slot = slots.acquire_owned().await;
                (slot, socket.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                accepted = accepted => accepted,
                _ = drain.wait_for(|draining| *draining) => return Ok(()),
                _ = closed.wait_for(|closed| *closed) => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => {
                    let door = Door {
                        live: Arc::clone(&live),
                        shared: self.shared.load_full(),
                        worker,
                        peer,
                        drain: drain.clone(),
                        asked: AtomicBool::new(false),
                    };
                    // Of a balancer's, it is known later whose they are.
                    let place = match door.shared.balancers.is_empty() {
                        true => match door.enter() {
                            Some(place) => Some(place),
                            None => continue,
                        },
                        false => None,
                    };
                    let open = live.current().metrics.connected();
                    tokio::spawn(async move {
                        door.welcome(stream).await;
                        drop((place, slot, open));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn listen_on(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What one accepted connection goes through.
struct Door {
    live: Arc<Live>,
    shared: Arc<Shared>,
    worker: usize,
    peer: SocketAddr,
    drain: Drain,
    /// Whether a request has come.
    asked: AtomicBool,
}

impl Door {
    /// A place for one more connection of the peer; one that may have none is told of.
    fn enter(&self) -> Option<Place> {
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

    async fn welcome(mut self, mut stream: TcpStream) {
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
        let limits = self.shared.limits;
        let stream = Paced::new(stream, limits.body_timeout);
        let handshake = greet(&self.shared.tls, stream);
        let handshake = time::timeout(limits.handshake_timeout, handshake);
        let (stream, rule) = match handshake.await {
            Ok(Ok(Some(greeted))) => greeted,
            // An authority that checked a name.
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                return self.record("tls_handshake_failed", Some(error.to_string()));
            }
            Err(_) => return self.record("tls_handshake_timeout", None),
        };
        if let Err(error) = self.serve(stream, rule).await {
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

    async fn serve(
        &self,
        stream: TlsStream<Paced<TcpStream>>,
        rule: RuleIndex,
    ) -> Result<(), hyper::Error> {
        let limits = self.shared.limits;
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let wire = (!http2).then(Arc::<WireState>::default);
        let connection = Connection {
            peer: self.peer,
            worker: self.worker,
            trusted_hops: Arc::clone(&self.shared.trusted_hops),
            body_timeout: limits.body_timeout,
            drain: self.drain.clone(),
            client_rule: rule,
            client_rules: Arc::clone(&self.shared.tls.rules),
            client_certificate: session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(fingerprint),
            certificate: self.shared.tls.certificates.choose(session.server_name()),
            covered: OnceLock::new(),
            wire: wire.clone(),
            tunnel: Mutex::default(),
            tls: session
                .protocol_version()
                .and_then(|version| version.as_str())
                .unwrap_or("unknown"),
        };
        let connection = Arc::new(connection);
        let becomes = Arc::clone(&connection);
        let (live, asked) = (&self.live, &self.asked);
        let service = service_fn(move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let (gateway, connection) = (live.current(), Arc::clone(&connection));
            // The library moves this from place to place before it is first looked at: in a box, it goes over
            // as a pointer.
            Box::pin(
                async move { Ok::<_, Infallible>(handle(&gateway, &connection, request).await) },
            )
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
            let ended = attend(&watch, connection, close, self.draining()).await;
            let Some(fault) = watch.fault() else {
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
        tokio::select! {
            ended = connection.as_mut() => ended?,
            () = self.draining() => {
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

    async fn draining(&self) {
        let mut drain = self.drain.clone();
        // An error means that the sender is gone, which is the end as well.
        let _ = drain.wait_for(|draining| *draining).await;
    }

    fn record(&self, reason: &str, detail: Option<String>) {
        let peer = SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port());
        let record = ConnectionRecord {
            peer: peer.to_string(),
            verdict: Verdict::Deny,
            reason: reason.to_owned(),
            detail,
        };
        let gateway = self.live.current();
        gateway.metrics.refused_connection(reason);
        if let Err(error) = gateway.journal.record(&Event::Connection(record)) {
            tracing::error!(%error, "audit record lost");
        }
    }
}
