//! Why an upstream gave no answer.

use std::io;

use crate::tenure::Over;

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFault {
    #[error("no connection: {0}")]
    Tcp(#[source] io::Error),
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("it doesn't speak HTTP/2, which `protocol` asks for")]
    NotHttp2,
    #[error("HTTP: {0}")]
    Http(#[source] hyper::Error),
    #[error("none within connect_timeout")]
    Timeout,
}

/// Why an upstream gave no answer. The name is that of logs, metrics and audit records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamFault {
    /// No endpoint could be connected to.
    #[error("upstream_unreachable")]
    Unreachable(#[source] ConnectFault),
    /// No head of an answer in time.
    #[error("upstream_timeout")]
    Timeout,
    /// Sent, and then broken off.
    #[error("upstream_broken")]
    Broken(#[source] hyper::Error),
    /// A route names it, the configuration doesn't.
    #[error("upstream_not_configured")]
    NotConfigured,
    /// It changed the protocol, and nobody had asked.
    #[error("upstream_upgrade_unasked")]
    UnaskedUpgrade,
    /// Its name has no address, or none that may be asked.
    #[error("upstream_unresolved")]
    Unresolved,
    /// Every endpoint fails its health check.
    #[error("upstream_unhealthy")]
    Unhealthy,
    /// As many requests as it may have, and as many waiting as may wait.
    #[error("upstream_overloaded")]
    Overloaded,
    /// The client owed the rest of its body for too long.
    #[error("request_body_timeout")]
    ClientStalled,
    /// What let the request in was good no more before there was an answer.
    #[error(transparent)]
    Over(Over),
}
