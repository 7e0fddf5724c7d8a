//! Accepting connections, on a socket for each worker, until a stop or another configuration ends that.

use std::{
    io,
    net::{self, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time,
};

use crate::{
    door::{Door, Drain},
    live::Live,
    sources::Sources,
    tls::ServerTls,
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
}

/// Where a listener is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// As it is configured, which is what routes name.
    pub(crate) configured: SocketAddr,
    /// With the port that the system chose where 0 was asked for.
    pub(crate) bound: SocketAddr,
}

/// Bound sockets, one for each worker, with what they share.
pub struct Listener {
    at: Place,
    /// Until their workers take them.
    sockets: Vec<Mutex<Option<net::TcpListener>>>,
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
}

impl From<ListenerSpec> for Shared {
    fn from(spec: ListenerSpec) -> Self {
        Self {
            speaks: spec.speaks,
            slots: Arc::new(Semaphore::new(spec.limits.max_connections)),
            sources: Sources::new(spec.limits.max_connections_per_source),
            limits: spec.limits,
            trusted_hops: spec.trusted_hops,
            balancers: spec.balancers,
        }
    }
}

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
        let configured = address;
        let address = listen_on(address, false)?.local_addr()?;
        let sockets: Vec<_> = (0..workers.get())
            .map(|_| Ok(Mutex::new(Some(listen_on(address, true)?.into_std()?))))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            at: Place {
                configured,
                bound: address,
            },
            sockets,
            shared: Arc::new(ArcSwap::from_pointee(spec.into())),
            exchanged: watch::Sender::new(()),
            closed: watch::Sender::new(false),
        })
    }

    /// The address it is bound to, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.at.bound
    }

    /// Does otherwise from the next connection on. Those that are open keep their bounds and certificate; what
    /// is asked of clients and who is believed holds for their next request.
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
        self.exchanged.send_replace(());
    }

    /// Takes no further connections.
    pub fn close(&self) {
        self.closed.send_replace(true);
        for socket in &self.sockets {
            socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
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
            // The slot comes after the connection: a worker that waits for one would hold a slot otherwise,
            // and another's connection wait for that.
            let accepted = async {
                let accepted = socket.accept().await;
                (self.slot().await, accepted)
            };
            let (slot, accepted) = tokio::select! {
                accepted = accepted => accepted,
                _ = drain.wait_for(|draining| *draining) => return Ok(()),
                _ = closed.wait_for(|closed| *closed) => return Ok(()),
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
