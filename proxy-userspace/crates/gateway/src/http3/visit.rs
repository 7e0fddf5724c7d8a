//! One connection, until its end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h3::{error::ConnectionError, server};
use quinn::{Connecting, crypto::rustls::HandshakeData};
use rustls::pki_types::CertificateDer;
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use super::{
    endpoint::no_error,
    exchange::{Came, exchange},
    watched::Watched,
};
use crate::{
    connection::Connection,
    door::{Door, Session, until},
    drain::ending,
    listener::Speaks,
    tls::ServerTls,
};

/// Requests of a connection that are none; a client that makes so many means no good.
const MOST_MALFORMED: u32 = 100;
/// How long a client has to take the last of what was sent, once nothing follows.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Requests = server::Connection<Watched, Bytes>;

/// From the handshake to the end.
pub(crate) async fn visit(door: Door, connecting: Connecting) {
    let door = Arc::new(door);
    let shared = door.shared();
    let Speaks::Http(tls) = &shared.speaks else {
        return;
    };
    let quic = match time::timeout(shared.limits.handshake_timeout, connecting).await {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => return door.record("tls_handshake_failed", Some(error.to_string())),
        Err(_) => return door.record("tls_handshake_timeout", None),
    };
    let connection = Arc::new(connection(&door, tls, &quic));
    let Some(mut requests) = begin(&door, &quic).await else {
        return quic.close(no_error(), b"");
    };
    serve(&door, &connection, &mut requests).await;
    // A client that was told that nothing follows says goodbye by itself, with all it has got.
    let _ = time::timeout(LAST_WORDS, quic.closed()).await;
    quic.close(no_error(), b"");
    // Ends the connection with whatever hasn't been sent.
    drop(requests);
}

/// Says what is taken. A client that gives no stream to say it on is let go like one that doesn't end its
/// handshake.
async fn begin(door: &Door, quic: &quinn::Connection) -> Option<Requests> {
    let limits = &door.shared().limits;
    let mut builder = server::builder();
    builder
        .max_field_section_size(limits.max_header_bytes as u64)
        .send_grease(false);
    let mut drain = door.drain();
    let begun = tokio::select! {
        begun = time::timeout(limits.handshake_timeout, builder.build(Watched::new(quic.clone()))) => begun,
        () = ending(&mut drain) => return None,
    };
    match begun {
        Ok(Ok(requests)) => return Some(requests),
        Ok(Err(error)) => record(door, &error),
        Err(_) => door.record(
            "http_timeout",
            Some("no stream for settings in time".to_owned()),
        ),
    }
    None
}

/// What a peer breaks off is not worth a record; what it says wrongly is.
fn record(door: &Door, error: &ConnectionError) {
    if matches!(error, ConnectionError::Local { .. }) && !error.is_h3_no_error() {
        door.record("http_malformed", Some(error.to_string()));
    }
}

fn connection(door: &Door, tls: &ServerTls, quic: &quinn::Connection) -> Connection {
    let told = quic.handshake_data();
    let told = told.and_then(|told| told.downcast::<HandshakeData>().ok());
    let shown = quic.peer_identity();
    let shown = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let server_name = told.as_ref().and_then(|told| told.server_name.as_deref());
    let session = Session {
        server_name,
        certificates: shown.as_deref().map(Vec::as_slice),
        version: "TLSv1_3",
    };
    door.connection(tls, tls.rules.of(server_name), session, None)
}

/// Requests, until the client or the drain ends that, or none comes for too long.
async fn serve(door: &Arc<Door>, connection: &Arc<Connection>, requests: &mut Requests) {
    let limits = door.shared().limits;
    let mut drain = connection.drain.clone();
    let mut open = JoinSet::new();
    let (mut malformed, mut is_last) = (0, false);
    let mut rest = Instant::now();
    loop {
        let idle_until = rest + limits.header_timeout;
        let accepted = tokio::select! {
            accepted = requests.accept() => accepted,
            Some(done) = open.join_next(), if !open.is_empty() => {
                rest = Instant::now();
                malformed += u32::from(matches!(done, Ok(Came::Malformed)));
                if malformed > MOST_MALFORMED {
                    door.record("http3_excessive_malformed", None);
                    return;
                }
                // The library waits for a client that says that it is done, too.
                if is_last && open.is_empty() {
                    return;
                }
                continue;
            }
            () = until(ending(&mut drain), connection), if !is_last => {
                is_last = true;
                // Those that have begun go on; others are to be made elsewhere (RFC 9114, 5.2).
                if requests.shutdown(0).await.is_err() || open.is_empty() {
                    return;
                }
                continue;
            }
            () = time::sleep_until(idle_until), if open.is_empty() => {
                let _ = requests.shutdown(0).await;
                return;
            }
        };
        match accepted {
            Ok(Some(resolver)) => {
                open.spawn(exchange(resolver, Arc::clone(door), Arc::clone(connection)));
            }
            Ok(None) => break,
            Err(error) => {
                record(door, &error);
                // There is nobody any more to answer.
                return;
            }
        }
    }
    while open.join_next().await.is_some() {}
}
