//! Accepting connections, on a socket for each worker, until a stop or another configuration ends that.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderValue;
use ipnet::IpNet;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time,
};

#[cfg(feature = "http3")]
use crate::http3;
use crate::{
    Http3,
    door::Door,
    drain::{Drain, ending, stopping},
    live::Live,
    sockets::Sockets,
    sources::Sources,
    tls::ServerTls,
};

/// After the kernel has no more descriptors, wait this long before the next accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long clients may remember that there is HTTP/3.
const ALT_SVC_SECONDS: u32 = 3_600;

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

/// What the connections of a listener carry.
#[derive(Clone)]
pub enum Speaks {
    /// Requests, in TLS.
    Http(ServerTls),
    /// Bytes that nobody looks at, in TLS that ends here.
    Tcp(ServerTls),
    /// TLS that goes through untouched.
    Passthrough,
}

impl Speaks {
    /// Its TLS, where it ends here.
    pub fn tls(&self) -> Option<&ServerTls> {
        match self {
            Self::Http(tls) | Self::Tcp(tls) => Some(tls),
            Self::Passthrough => None,
        }
    }
}

/// What a listener does, besides its address.
#[derive(Clone)]
pub struct ListenerSpec {
    /// What its connections carry.
    pub speaks: Speaks,
    /// Its bounds.
    pub limits: ListenerLimits,
    /// Who is believed about where a request comes from.
    pub trusted_hops: Arc<[IpNet]>,
    /// Who begins each connection with the PROXY protocol. Where some do, nobody else is let in.
    pub balancers: Arc<[IpNet]>,
    /// HTTP/3 on the UDP port of the same number.
    pub http3: Option<Http3>,
}

/// Where a listener is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// As it is configured, which is what routes name.
    pub(crate) configured: SocketAddr,
    /// With the port that the system chose where 0 was asked for.
    pub(crate) bound: SocketAddr,
}

/// Bound sockets, with what they share.
pub struct Listener {
    at: Place,
    sockets: Sockets,
    shared: Arc<ArcSwap<Shared>>,
    /// Told when that is another one.
    exchanged: watch::Sender<()>,
    closed: watch::Sender<bool>,
}

/// What the connections of a listener share.
pub(crate) struct Shared {
    pub(crate) speaks: Speaks,
    pub(crate) limits: ListenerLimits,
    pub(crate) trusted_hops: Arc<[IpNet]>,
    pub(crate) balancers: Arc<[IpNet]>,
    slots: Arc<Semaphore>,
    pub(crate) sources: Arc<Sources>,
    #[cfg(feature = "http3")]
    http3: Option<Http3>,
    /// Tells clients of it (RFC 7838, 3).
    pub(crate) alt_svc: Option<HeaderValue>,
}

impl Shared {
    fn new(spec: ListenerSpec, port: u16) -> Self {
        let alt_svc = format!("h3=\":{port}\"; ma={ALT_SVC_SECONDS}");
        Self {
            speaks: spec.speaks,
            slots: Arc::new(Semaphore::new(spec.limits.max_connections)),
            sources: Sources::new(spec.limits.max_connections_per_source),
            limits: spec.limits,
            trusted_hops: spec.trusted_hops,
            balancers: spec.balancers,
            alt_svc: spec
                .http3
                .as_ref()
                .and_then(|_| HeaderValue::try_from(alt_svc).ok()),
            #[cfg(feature = "http3")]
            http3: spec.http3,
        }
    }
}

impl Listener {
    /// Listens on these, which are what is `configured`.
    pub fn new(configured: SocketAddr, sockets: Sockets, spec: ListenerSpec) -> Self {
        let bound = sockets.address();
        Self {
            at: Place { configured, bound },
            sockets,
            shared: Arc::new(ArcSwap::from_pointee(Shared::new(spec, bound.port()))),
            exchanged: watch::Sender::new(()),
            closed: watch::Sender::new(false),
        }
    }

    /// The address it is bound to, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.at.bound
    }

    /// Its sockets once more, for another process.
    ///
    /// # Errors
    /// What the system says.
    pub fn handles(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.handles()
    }

    /// Does otherwise from the next connection on. Those that are open keep their bounds and certificate; what
    /// is asked of clients and who is believed holds for their next request.
    pub fn exchange(&self, spec: ListenerSpec) {
        let mut fresh = Shared::new(spec, self.at.bound.port());
        let before = self.shared.load();
        // Those that are open count, as far as the bounds are the same.
        if before.limits.max_connections == fresh.limits.max_connections {
            fresh.slots = Arc::clone(&before.slots);
        }
        if before.limits.max_connections_per_source == fresh.limits.max_connections_per_source {
            fresh.sources = Arc::clone(&before.sources);
        }
        self.shared.store(Arc::new(fresh));
        self.exchanged.send_replace(());
    }

    /// Takes no further connections.
    pub fn close(&self) {
        self.closed.send_replace(true);
        self.sockets.close();
    }

    /// Room for one more connection, by the bound that is in force.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        let mut exchanged = self.exchanged.subscribe();
        loop {
            let slots = Arc::clone(&self.shared.load().slots);
            tokio::select! {
                slot = slots.acquire_owned() => return slot.ok(),
                _ = exchanged.changed() => {}
            }
        }
    }

    /// Serves a worker's share, and the first one what there is of HTTP/3, until `drain` ends that or it is closed, then takes no further connections
    /// and returns. Connections that are being served hold their own receiver of `drain` until they end.
    ///
    /// # Errors
    /// When the worker can't have its share.
    pub(crate) async fn serve(
        self: Arc<Self>,
        worker: usize,
        live: Arc<Live>,
        drain: Drain,
    ) -> io::Result<()> {
        let mut served = JoinSet::new();
        for socket in self.sockets.share(worker)? {
            let socket = TcpListener::from_std(socket)?;
            let (listener, live) = (Arc::clone(&self), Arc::clone(&live));
            served.spawn(listener.accept(socket, worker, live, drain.clone()));
        }
        #[cfg(feature = "http3")]
        if worker == 0 {
            served.spawn(http3::keep(Arc::clone(&self), worker, live, drain.clone()));
        }
        drop(drain);
        served.join_all().await;
        self.sockets.close();
        Ok(())
    }

    async fn accept(
        self: Arc<Self>,
        socket: TcpListener,
        worker: usize,
        live: Arc<Live>,
        mut drain: Drain,
    ) {
        let mut closed = self.closed.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = ending(&mut drain) => return,
                _ = closed.wait_for(|closed| *closed) => return,
            };
            // The slot comes after the connection: a worker that waits for one would hold a slot otherwise,
            // and another's connection wait for that. What was accepted is nobody else's any more, and
            // served also when another process takes the next ones meanwhile.
            let mut drain_meanwhile = drain.clone();
            let slot = tokio::select! {
                slot = self.slot() => slot,
                () = stopping(&mut drain_meanwhile) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let door = Door::new(&live, &self.shared, self.at, worker, peer, drain.clone());
                    // Of a balancer's, it is known later whose they are.
                    let place = if door.knows_whose_it_is() {
                        let Some(place) = door.enter() else {
                            continue;
                        };
                        Some(place)
                    } else {
                        None
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

/// For what is served beside it.
#[cfg(feature = "http3")]
impl Listener {
    /// Returns when the configuration in force has HTTP/3.
    pub(crate) async fn wants_http3(&self) {
        let mut exchanged = self.exchanged.subscribe();
        while self.http3().is_none() {
            // The sender is ours.
            let _ = exchanged.changed().await;
        }
    }

    pub(crate) fn http3(&self) -> Option<Http3> {
        self.shared.load().http3.clone()
    }

    /// Returns when no further connections are to be taken.
    pub(crate) async fn is_closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(crate) fn place(&self) -> Place {
        self.at
    }

    pub(crate) fn in_force(&self) -> &Arc<ArcSwap<Shared>> {
        &self.shared
    }

    /// Room for one more connection, if there is any now.
    pub(crate) fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.load().slots)
            .try_acquire_owned()
            .ok()
    }
}
