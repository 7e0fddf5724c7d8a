//! A client's connection: opened when it is needed, and anew when the proxy has ended it.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_tests::{
    pki::Pki,
    run::{RigError, Rigged},
    scene::HOST,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// Where the proxy is, and how its certificate is trusted.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    one: Arc<ClientConfig>,
    two: Arc<ClientConfig>,
}

pub(crate) fn told(error: impl Display) -> RigError {
    RigError(error.to_string())
}

impl Target {
    pub(crate) fn new(address: SocketAddr, pki: &Pki) -> Rigged<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&pki.ca).map_err(told)?;
        roots.add(authority).map_err(told)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(told)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let offering = |protocol: &str| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            Arc::new(config)
        };
        Ok(Self {
            address,
            one: offering("http/1.1"),
            two: offering("h2"),
        })
    }

    async fn connect(&self, http: Http) -> Rigged<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let config = match http {
            Http::One => &self.one,
            Http::Two => &self.two,
        };
        let name = ServerName::try_from(HOST).map_err(told)?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(connector.connect(name, socket).await?)
    }

    async fn open(&self, http: Http) -> Rigged<Sender> {
        let stream = TokioIo::new(self.connect(http).await?);
        match http {
            Http::One => {
                let (sender, connection) = http1::handshake(stream).await.map_err(told)?;
                // Its end shows in the requests on it.
                tokio::spawn(connection.with_upgrades());
                Ok(Sender::One(sender))
            }
            Http::Two => {
                let handshake = http2::handshake(TokioExecutor::new(), stream);
                let (sender, connection) = handshake.await.map_err(told)?;
                tokio::spawn(connection);
                Ok(Sender::Two(sender))
            }
        }
    }
}

/// What requests go into.
pub(crate) type Sent = Request<Full<Bytes>>;

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// How an attempt ended that wasn't answered.
enum Failed {
    /// Nothing of it left: it may be made again elsewhere.
    Unsent(Box<Sent>),
    Sent(RigError),
}

impl Sender {
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Sent) -> Result<Response<Incoming>, Failed> {
        let done = match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Two(sender) => sender.try_send_request(request).await,
        };
        done.map_err(|mut error| match error.take_message() {
            Some(request) => Failed::Unsent(Box::new(request)),
            None => Failed::Sent(RigError(format!("{:?}", error.into_error()))),
        })
    }
}

/// A connection, or the next one in its place.
pub(crate) struct Line {
    target: Target,
    http: Http,
    sender: Mutex<Option<Sender>>,
}

impl Line {
    pub(crate) fn new(target: &Target, http: Http) -> Self {
        Self {
            target: target.clone(),
            http,
            sender: Mutex::default(),
        }
    }

    /// Sends a request, and waits for the head of its answer.
    pub(crate) async fn ask(&self, request: Sent) -> Rigged<Response<Incoming>> {
        let mut request = request;
        loop {
            let mut sender = self.sender().await?;
            match sender.send(request).await {
                Ok(answer) => {
                    // Over HTTP/1.1 the connection is this one's until the answer is read.
                    if self.http == Http::One {
                        *self.sender.lock().await = Some(sender);
                    }
                    return Ok(answer);
                }
                Err(Failed::Sent(error)) => return Err(error),
                Err(Failed::Unsent(back)) => {
                    *self.sender.lock().await = None;
                    request = *back;
                }
            }
        }
    }

    async fn sender(&self) -> Rigged<Sender> {
        let mut kept = self.sender.lock().await;
        if let Some(mut sender) = kept.take()
            && sender.is_ready().await
        {
            if let Sender::Two(shared) = &sender {
                *kept = Some(Sender::Two(shared.clone()));
            }
            return Ok(sender);
        }
        let sender = self.target.open(self.http).await?;
        if let Sender::Two(shared) = &sender {
            *kept = Some(Sender::Two(shared.clone()));
        }
        Ok(sender)
    }
}
