//! The TLS handshake: what a client is asked for depends on the name it asks for.

use std::{io, sync::Arc};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use crate::{acme::is_check, client_certificates::RuleIndex, tls::ServerTls};

/// A handshake with a client, and the rule about client certificates that it was made under; none for an
/// authority that came to check a name and has seen all it needs.
pub(crate) async fn greet<S>(
    tls: &ServerTls,
    stream: S,
) -> io::Result<Option<(TlsStream<S>, RuleIndex)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if tls.challenge.is_none() && tls.asks_all_alike() {
        let rule = tls.rules.of(None);
        let stream = TlsAcceptor::from(tls.config(rule)).accept(stream).await?;
        return Ok(Some((stream, rule)));
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    if let Some(challenge) = tls.challenge.as_ref().filter(|_| is_check(&hello)) {
        let mut stream = start.into_stream(Arc::clone(challenge)).await?;
        // The authority may be gone already.
        let _ = stream.shutdown().await;
        return Ok(None);
    }
    let rule = tls.rules.of(hello.server_name());
    let stream = start.into_stream(tls.config(rule)).await?;
    Ok(Some((stream, rule)))
}
