//! The socket, and who gets in.

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use tokio::time;

use super::{Http3, visit::visit};
use crate::{
    door::Door,
    drain::{Drain, ending},
    listener::Listener,
    live::Live,
};

/// Between two attempts to have a port that somebody else has: the process before this one, while it ends.
const AGAIN: Duration = Duration::from_millis(200);
/// What connections are told that end with their process (RFC 9114, 8.1: H3_NO_ERROR).
const NO_ERROR: u32 = 0x100;

/// Serves HTTP/3 beside a listener while its configuration says so, until `drain` or its end.
pub(crate) async fn keep(listener: Arc<Listener>, worker: usize, live: Arc<Live>, drain: Drain) {
    let mut told = false;
    loop {
        let mut ends = drain.clone();
        let endpoint = tokio::select! {
            () = listener.wants_http3() => bind(&listener),
            () = ending(&mut ends) => return,
            () = listener.is_closed() => return,
        };
        match endpoint {
            Ok(endpoint) => {
                told = false;
                accept(&listener, &endpoint, worker, &live, &drain).await;
                // Connections end by themselves; the port is free once the last has.
                endpoint.wait_idle().await;
            }
            Err(error) => {
                let address = listener.address();
                if !told {
                    tracing::error!(%address, %error, "HTTP/3 IS NOT SERVED; tried again until it is");
                }
                told = true;
                time::sleep(AGAIN).await;
            }
        }
    }
}

/// One socket, which lets none in beside it: of several, the kernel would give packets of one connection now
/// to this process and now to the next.
fn bind(listener: &Listener) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(listener.address())?;
    // Each connection is served by the configuration in force when it comes.
    let config = listener
        .http3()
        .map(|Http3(config)| ServerConfig::clone(&config));
    Endpoint::new(
        EndpointConfig::default(),
        config,
        socket,
        Arc::new(TokioRuntime),
    )
}

async fn accept(
    listener: &Arc<Listener>,
    endpoint: &Endpoint,
    worker: usize,
    live: &Arc<Live>,
    drain: &Drain,
) {
    let mut ends = drain.clone();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = ending(&mut ends) => break,
            () = listener.is_closed() => break,
        };
        let Some(incoming) = incoming else { break };
        let Some(config) = listener.http3() else {
            incoming.refuse();
            break;
        };
        admit(listener, incoming, config, worker, live, drain);
    }
    endpoint.set_server_config(None);
}

/// Whoever hasn't shown yet that he gets what is sent to his address is neither served nor recorded: he may
/// have written somebody else's on his packets.
fn admit(
    listener: &Arc<Listener>,
    incoming: Incoming,
    Http3(config): Http3,
    worker: usize,
    live: &Arc<Live>,
    drain: &Drain,
) {
    let peer = incoming.remote_address();
    let admitted = live.current().gate.admit(peer.ip());
    if !incoming.remote_address_validated() {
        if admitted.is_err() {
            incoming.ignore();
        } else if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
        return;
    }
    let door = Door::new(
        live,
        listener.in_force(),
        listener.place(),
        worker,
        peer,
        drain.clone(),
    );
    if let Err(refusal) = admitted {
        door.record(&refusal.to_string(), None);
        return incoming.refuse();
    }
    let Some(place) = door.enter() else {
        return incoming.refuse();
    };
    // The kernel has no queue for these.
    let Some(slot) = listener.free_slot() else {
        door.record("listener_connections", None);
        return incoming.refuse();
    };
    let open = live.current().metrics.connected();
    match incoming.accept_with(config) {
        Ok(connecting) => {
            tokio::spawn(async move {
                visit(door, connecting).await;
                drop((place, slot, open));
            });
        }
        Err(error) => door.record("quic_malformed", Some(error.to_string())),
    }
}

/// The code that an ordinary end has.
pub(super) fn no_error() -> quinn::VarInt {
    NO_ERROR.into()
}
