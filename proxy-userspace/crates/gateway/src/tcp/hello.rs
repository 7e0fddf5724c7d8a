//! The first message of TLS (RFC 8446, 4.1.2), read and not answered: what it says decides where it goes, and
//! it goes there as it came.

use std::{io, time::Duration};

use rustls::{
    PeerMisbehaved,
    server::{AcceptedAlert, Acceptor},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time};

use super::Greeting;

/// Most bytes of it, with the headers of its records: the largest that one record can hold (RFC 8446, 5.1).
/// Browsers send 2 KiB with a post-quantum key share.
const LARGEST: usize = 5 + 16 * 1024;

/// How much is read at a time.
const PORTION: usize = 4 * 1024;

/// Why it could not be read. The text is the name in the audit trail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloFault {
    /// No TLS, or a message that can't be read in exactly one way.
    #[error("client_hello_malformed")]
    Malformed(rustls::Error, Vec<u8>),
    /// A server name that is no name, or more than one.
    #[error("server_name_invalid")]
    ServerName(Vec<u8>),
    #[error("client_hello_too_large")]
    TooLarge,
    #[error("client_hello_timeout")]
    Timeout,
    /// The client went away in the middle of it, or said nothing at all.
    #[error("client_hello_incomplete")]
    Incomplete(Option<io::Error>),
}

impl HelloFault {
    fn of(error: rustls::Error, alert: AcceptedAlert) -> Self {
        let mut bytes = Vec::new();
        // To memory.
        let _ = { alert }.write_all(&mut bytes);
        match error {
            rustls::Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => {
                Self::ServerName(bytes)
            }
            error => Self::Malformed(error, bytes),
        }
    }

    /// What a library or the system said.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Malformed(error, _) => Some(error.to_string()),
            Self::Incomplete(error) => error.as_ref().map(ToString::to_string),
            Self::ServerName(_) | Self::TooLarge | Self::Timeout => None,
        }
    }

    /// Tells the client, in TLS, where it spoke that. Not waited for: the socket is empty, or the client's
    /// own affair.
    pub(crate) fn alert(&self, client: &TcpStream) {
        if let Self::Malformed(_, alert) | Self::ServerName(alert) = self {
            let _ = client.try_write(alert);
        }
    }
}

/// Reads it, within a time. What came is kept as it came.
pub(crate) async fn read_hello(
    client: &mut TcpStream,
    within: Duration,
) -> Result<Greeting, HelloFault> {
    time::timeout(within, read_untimed(client))
        .await
        .unwrap_or(Err(HelloFault::Timeout))
}

async fn read_untimed(client: &mut TcpStream) -> Result<Greeting, HelloFault> {
    let mut acceptor = Acceptor::default();
    let mut said = Vec::with_capacity(PORTION);
    let mut judged = 0;
    loop {
        let room = (LARGEST - said.len()).min(PORTION);
        if room == 0 {
            return Err(HelloFault::TooLarge);
        }
        let read = (&mut *client).take(room as u64).read_buf(&mut said).await;
        match read {
            Ok(0) => return Err(HelloFault::Incomplete(None)),
            Ok(_) => {}
            Err(error) => return Err(HelloFault::Incomplete(Some(error))),
        }
        while judged < said.len() {
            let mut rest = &said[judged..];
            let before = rest.len();
            // Of memory: an error is the library's, which holds no more than so much.
            acceptor
                .read_tls(&mut rest)
                .map_err(|_| HelloFault::TooLarge)?;
            let taken = before - rest.len();
            if taken == 0 {
                return Err(HelloFault::TooLarge);
            }
            judged += taken;
            let accepted = acceptor
                .accept()
                .map_err(|(error, alert)| HelloFault::of(error, alert))?;
            if let Some(accepted) = accepted {
                let server_name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Greeting {
                    tls: None,
                    certificate: None,
                    server_name,
                    said,
                });
            }
        }
    }
}
