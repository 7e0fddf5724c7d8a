//! Authorised requests over one kept HTTPS connection, at a steady rate.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    netns::EDGE,
    run::{RigError, Rigged},
    scene::{HOST, PORT, Scene},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::elsewhere;

/// Time between two requests: 200 a second.
const INTERVAL: Duration = Duration::from_millis(5);

/// A connection from the outside host.
pub(crate) struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    request: Vec<u8>,
}

impl Client {
    /// Connects with a good token.
    pub(crate) fn connect(scene: &Scene) -> Rigged<Self> {
        let told = |error: &dyn std::fmt::Display| RigError(format!("the client: {error}"));
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&scene.pki.ca).map_err(|e| told(&e))?;
        roots.add(authority).map_err(|e| told(&e))?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| told(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(HOST).map_err(|e| told(&e))?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(|e| told(&e))?;
        let outside = &scene.wire.outside;
        let socket = outside.within(|| TcpStream::connect((EDGE, PORT)))??;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let token = scene.issuer.token("alice", "orders:read")?;
        let request = format!(
            "GET /orders HTTP/1.1\r\nhost: {HOST}:{PORT}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        Ok(Self {
            stream: BufReader::new(StreamOwned::new(tls, socket)),
            request: request.into_bytes(),
        })
    }

    /// Requests until `stop`; milliseconds from when each was due to the last byte of its answer,
    /// so that one that is late makes those behind it late too.
    pub(crate) fn keep_asking(&mut self, stop: &AtomicBool) -> Rigged<Vec<f64>> {
        elsewhere::stay()?;
        let mut took = Vec::new();
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            due += INTERVAL;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.ask()?;
            took.push(due.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    }

    /// One request, answered by nginx with what it was told.
    fn ask(&mut self) -> Rigged<()> {
        let stream = self.stream.get_mut();
        stream.write_all(&self.request)?;
        stream.flush()?;
        let mut length = None;
        let mut head = String::new();
        loop {
            let before = head.len();
            self.stream.read_line(&mut head)?;
            let line = head[before..].trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
        let length: usize = length.ok_or_else(|| RigError(format!("no length: {head}")))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        if !head.starts_with("HTTP/1.1 200 ") || !body.contains("subject=alice") {
            return Err(RigError(format!("a request was answered {head}{body}")));
        }
        Ok(())
    }
}
