//! What QUIC connections of a listener are served by.

use std::{sync::Arc, time::Duration};

use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig};

use crate::{
    listener::ListenerLimits,
    tls::{ServerTls, TlsError},
};

/// Bytes of a request's body that a client may send before somebody reads them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same of all requests of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of answers that are kept until a client has said that it got them.
const SEND_WINDOW: u64 = 1024 * 1024;
/// Streams in one direction that a client opens: control, and two of QPACK's (RFC 9114, 6.2). Nothing is kept
/// for others.
const ONE_WAY_STREAMS: u32 = 8;

/// How HTTP/3 is served, until a reload says otherwise.
#[derive(Clone, Debug)]
pub struct Http3(pub(crate) Arc<ServerConfig>);

impl Http3 {
    /// With a listener's certificates, and what it asks of clients. TLS 1.3, no early data, and addresses that
    /// are proven by a retry before anything is kept for them (RFC 9000, 8.1.2).
    ///
    /// # Errors
    /// When clients are asked for certificates by host: which host it is about is known too late here.
    pub fn new(tls: &ServerTls, limits: &ListenerLimits) -> Result<Self, TlsError> {
        if !tls.asks_all_alike() {
            let why = "client certificates that are asked for by host can't be had over HTTP/3";
            return Err(TlsError::Invalid(why.to_owned()));
        }
        let config = QuicServerConfig::try_from(tls.quic_config()?)
            .map_err(|error| TlsError::Invalid(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(config));
        let mut transport = TransportConfig::default();
        let silence = limits.body_timeout.max(limits.header_timeout);
        transport
            .max_concurrent_bidi_streams(limits.max_streams.into())
            .max_concurrent_uni_streams(ONE_WAY_STREAMS.into())
            .stream_receive_window(STREAM_WINDOW.into())
            .receive_window(CONNECTION_WINDOW.into())
            .send_window(SEND_WINDOW)
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle(silence)))
            // A service may be silent for longer than that; a peer that is gone doesn't answer.
            .keep_alive_interval(Some(silence / 3));
        config.transport_config(Arc::new(transport));
        // Packets from another address would be another source's, which nobody has judged.
        config.migration(false);
        Ok(Self(Arc::new(config)))
    }
}

/// A peer that is gone without a word.
fn idle(timeout: Duration) -> IdleTimeout {
    let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    VarInt::from_u32(millis).into()
}
