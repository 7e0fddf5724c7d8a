//! What stands around a TCP listener: services that speak first, last or not at all, and clients that say
//! exactly what they are told to.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::{
    client_pki::ClientCertificate,
    ground::{Ground, free_address},
    run::{RigError, Rigged},
};

/// How long one read waits for the proxy.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A service over plain TCP. Its threads end with the test.
pub struct Service {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What a service does with a connection, and with what it has heard on it so far.
pub type Serve = dyn Fn(&mut TcpStream, &mut dyn FnMut(&[u8])) -> io::Result<()> + Send + Sync;

impl Service {
    /// Says back what it hears, and ends when its client has ended.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn echo() -> Rigged<Self> {
        Self::start(|stream, hear| {
            let mut bytes = [0; 4096];
            loop {
                let read = stream.read(&mut bytes)?;
                if read == 0 {
                    return stream.shutdown(Shutdown::Write);
                }
                hear(&bytes[..read]);
                stream.write_all(&bytes[..read])?;
            }
        })
    }

    /// Hears what is said until its client has ended, and only then says something.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn last_word(word: &'static str) -> Rigged<Self> {
        Self::start(move |stream, hear| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            hear(&all);
            stream.write_all(word.as_bytes())
        })
    }

    /// Says something, ends its half, and goes on hearing.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn first_word(word: &'static str) -> Rigged<Self> {
        Self::start(move |stream, hear| {
            stream.write_all(word.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            hear(&all);
            Ok(())
        })
    }

    /// One that does as it is told.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start(
        serve: impl Fn(&mut TcpStream, &mut dyn FnMut(&[u8])) -> io::Result<()> + Send + Sync + 'static,
    ) -> Rigged<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let all = Arc::clone(&heard);
        let serve: Arc<Serve> = Arc::new(serve);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (serve, all) = (Arc::clone(&serve), Arc::clone(&all));
                let place = {
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(Vec::new());
                    all.len() - 1
                };
                thread::spawn(move || {
                    let mut hear = |bytes: &[u8]| {
                        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                        all[place].extend_from_slice(bytes);
                    };
                    // What breaks is the test's to notice.
                    let _ = serve(&mut stream, &mut hear);
                });
            }
        });
        Ok(Self { address, heard })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has heard, connection by connection.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A ground with a TCP listener besides, and where that is.
pub struct Tunnels {
    /// The ground, to be altered and started.
    pub ground: Ground,
    /// Where the listener is.
    pub address: SocketAddr,
}

impl Tunnels {
    /// TLS ends there, and goes on to the upstream of this URL; with further lines for listener, upstream and
    /// route.
    ///
    /// # Errors
    /// When the ground can't be made.
    pub fn ending_tls(url: &str, listener: &str, upstream: &str, route: &str) -> Rigged<Self> {
        let ground = Ground::set()?;
        let at = ground.scratch.path().display();
        let listener = format!(
            "protocol = \"tcp\"\ncertificate = \"{at}/server.pem\"\nkey = \"{at}/server.key\"\n{listener}"
        );
        Self::on(ground, &listener, url, upstream, route)
    }

    /// TLS goes through to the upstream of this URL; with further lines for listener and route.
    ///
    /// # Errors
    /// When the ground can't be made.
    pub fn passing(url: &str, listener: &str, route: &str) -> Rigged<Self> {
        let listener = format!("protocol = \"tls-passthrough\"\n{listener}");
        Self::on(Ground::set()?, &listener, url, "", route)
    }

    fn on(
        mut ground: Ground,
        listener: &str,
        url: &str,
        upstream: &str,
        route: &str,
    ) -> Rigged<Self> {
        let address = free_address()?;
        let at = ground.scratch.path().display().to_string();
        let (listener, upstream) = (listener.replace("{at}", &at), upstream.replace("{at}", &at));
        ground.text.push_str(&format!(
            r#"
[[listener]]
address = "{address}"
{listener}

[[upstream]]
name = "service"
url = "{url}"
{upstream}

[[tcp_route]]
name = "service"
listeners = ["{address}"]
upstream = "service"
{route}
"#
        ));
        Ok(Self { ground, address })
    }
}

/// What a client knows of TLS: whom it trusts, and what it shows.
///
/// # Errors
/// When a file can't be read.
pub fn client_config(ca: &Path, shown: Option<&ClientCertificate>) -> Rigged<Arc<ClientConfig>> {
    let read = |path: &Path| -> Rigged<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(&fs::read(path)?).map_err(told)
    };
    let mut roots = RootCertStore::empty();
    roots.add(read(ca)?).map_err(told)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(told)?
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let key = PrivateKeyDer::from_pem_slice(&fs::read(&shown.key)?).map_err(told)?;
            let chain = vec![read(&shown.certificate)?];
            builder.with_client_auth_cert(chain, key).map_err(told)?
        }
    };
    Ok(Arc::new(config))
}

/// A client's end of TLS.
pub type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// A client that asks for this name.
///
/// # Errors
/// When it can't connect.
pub fn tls_client(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Rigged<TlsClient> {
    let name = ServerName::try_from(name.to_owned()).map_err(told)?;
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(told)?;
    Ok(StreamOwned::new(tls, connected(address)?))
}

/// A plain connection, on which no read waits for ever.
///
/// # Errors
/// When it can't connect.
pub fn connected(address: SocketAddr) -> Rigged<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The first bytes of a client that asks for this name.
///
/// # Errors
/// When the library can't make them.
pub fn hello_for(name: &str, config: &Arc<ClientConfig>) -> Rigged<Vec<u8>> {
    let name = ServerName::try_from(name.to_owned()).map_err(told)?;
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(told)?;
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// The same message with another server name of the same length, valid or not.
///
/// # Errors
/// When the message doesn't have that name, or the lengths differ.
pub fn with_server_name(hello: &[u8], from: &str, to: &[u8]) -> Rigged<Vec<u8>> {
    let at = hello
        .windows(from.len())
        .position(|it| it == from.as_bytes());
    let at = at.ok_or_else(|| RigError(format!("{from:?} is not in the message")))?;
    if to.len() != from.len() {
        return Err(RigError("the lengths differ".to_owned()));
    }
    let mut changed = hello.to_vec();
    changed[at..at + to.len()].copy_from_slice(to);
    Ok(changed)
}

/// The same message in records of so many bytes of it each.
pub fn in_records_of(hello: &[u8], bytes: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap_or(0).to_be_bytes();
        [&hello[..3], &length, part].concat()
    };
    hello[5..].chunks(bytes).flat_map(record).collect()
}

/// All that is said until the end, however that comes.
pub fn rest_of(stream: &mut impl io::Read) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut part) {
        all.extend_from_slice(&part[..read]);
    }
    all
}

fn told(error: impl std::fmt::Display) -> RigError {
    RigError(format!("TLS: {error}"))
}
