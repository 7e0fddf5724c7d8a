//! A TLS connection of our own, of which each handshake is a full one.

use std::{
    fmt::Display,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use portcullis_tests::{
    pki::Pki,
    run::{RigError, Rigged},
    scene::HOST,
};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

/// How long a proxy may keep a client waiting.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which HTTP a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// How a client trusts the certificate of this run.
#[derive(Clone)]
pub(crate) struct Trust {
    one: Arc<ClientConfig>,
    two: Arc<ClientConfig>,
}

impl Trust {
    /// One key exchange and one cipher suite, or each proxy would choose what it likes, and some know
    /// a post-quantum exchange that others don't.
    pub(crate) fn new(pki: &Pki) -> Rigged<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&pki.ca).map_err(told)?;
        roots.add(authority).map_err(told)?;
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(told)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let offering = |protocol: &str| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            Arc::new(config)
        };
        Ok(Self {
            one: offering("http/1.1"),
            two: offering("h2"),
        })
    }
}

/// A connection.
pub(crate) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Connection {
    /// Connects, with the handshake done.
    pub(crate) fn open(address: SocketAddr, trust: &Trust, http: Http) -> Rigged<Self> {
        let (config, due) = match http {
            Http::One => (&trust.one, &b"http/1.1"[..]),
            Http::Two => (&trust.two, &b"h2"[..]),
        };
        let name = ServerName::try_from(HOST).map_err(told)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(told)?;
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        if tls.alpn_protocol() != Some(due)
            || tls.protocol_version() != Some(ProtocolVersion::TLSv1_3)
        {
            return Err(RigError(format!(
                "the handshake came to {:?} and {:?}",
                tls.protocol_version(),
                tls.alpn_protocol()
            )));
        }
        Ok(Self {
            stream: StreamOwned::new(tls, socket),
        })
    }

    /// Says goodbye and waits until the proxy has, too: it has then seen the handshake's end.
    pub(crate) fn close(mut self) -> Rigged<()> {
        self.stream.conn.send_close_notify();
        while self.stream.conn.wants_write() {
            self.stream.conn.write_tls(&mut self.stream.sock)?;
        }
        self.stream.sock.shutdown(std::net::Shutdown::Write)?;
        let mut rest = [0; 4_096];
        // Session tickets may still come, and an alert; what they say is nobody's concern.
        while self.stream.sock.read(&mut rest)? > 0 {}
        Ok(())
    }

    /// Writes all of it at once.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Rigged<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        Ok(())
    }

    /// Adds what is there, or comes first, to `buffer`.
    pub(crate) fn receive(&mut self, buffer: &mut Vec<u8>) -> Rigged<()> {
        // A TLS record.
        const AT_ONCE: usize = 16 * 1024;
        let before = buffer.len();
        buffer.resize(before + AT_ONCE, 0);
        let read = self.stream.read(&mut buffer[before..])?;
        buffer.truncate(before + read);
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }
}

fn told(error: impl Display) -> RigError {
    RigError(format!("the client's TLS: {error}"))
}
