//! A real HTTPS server of lists that behaves as a test asks it to: well, or as publishers do on a bad
//! day.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    pki::Pki,
    run::{RigError, Rigged},
};

/// The longest that one connection is served.
const LONGEST: Duration = Duration::from_secs(20);

/// What is answered to a question for a path.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200 with this text and this `ETag`; 304 to whoever has it.
    List(String, String),
    /// A status line and fields, without a body.
    Head(String),
    /// A page for people.
    Page(String),
    /// A `Content-Length` that the text doesn't come up to.
    Truncated(String),
    /// A head, and then a byte a second.
    Slow,
    /// A body that doesn't end.
    Endless,
}

/// The running server.
#[derive(Debug)]
pub struct ListServer {
    address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ListServer {
    /// Serves on a loopback port with a certificate.
    ///
    /// # Errors
    /// When the certificate can't be used or no port can be had.
    pub fn start(pki: &Pki) -> Rigged<Self> {
        let broken = |error: &dyn std::fmt::Display| RigError(format!("a list server: {error}"));
        let chain = CertificateDer::pem_slice_iter(&fs::read(&pki.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| broken(&error))?;
        let key =
            PrivateKeyDer::from_pem_slice(&fs::read(&pki.key)?).map_err(|error| broken(&error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| broken(&error))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut server = Self {
            address: listener.local_addr()?,
            answers: Arc::default(),
            heads: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        let (answers, heads) = (Arc::clone(&server.answers), Arc::clone(&server.heads));
        let (stop, config) = (Arc::clone(&server.stop), Arc::new(config));
        server.thread = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (answers, heads) = (Arc::clone(&answers), Arc::clone(&heads));
                let config = Arc::clone(&config);
                // A client that goes away in the middle is what some tests are about.
                thread::spawn(move || serve(stream, config, &answers, &heads));
            }
        }));
        Ok(server)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Sets what is answered from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        lock(&self.answers).insert(path.to_owned(), answer);
    }

    /// Request heads so far.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.heads).clone()
    }
}

impl Drop for ListServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answers: &Mutex<HashMap<String, Answer>>,
    heads: &Mutex<Vec<String>>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(LONGEST))?;
    stream.set_write_timeout(Some(LONGEST))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    lock(heads).push(head.clone());
    let answer = lock(answers).get(&path).cloned();
    respond(&mut stream, answer, &head)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn respond(stream: &mut impl Write, answer: Option<Answer>, head: &str) -> io::Result<()> {
    let mut say = |text: &str| {
        stream.write_all(text.as_bytes())?;
        stream.flush()
    };
    let plain = "Content-Type: text/plain\r\nConnection: close\r\n";
    match answer {
        None => say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Some(Answer::List(text, etag)) => {
            let known = format!("if-none-match: {etag}\r\n");
            if head
                .to_ascii_lowercase()
                .contains(&known.to_ascii_lowercase())
            {
                return say(&format!(
                    "HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\nConnection: close\r\n\r\n"
                ));
            }
            let length = text.len();
            say(&format!(
                "HTTP/1.1 200 OK\r\n{plain}ETag: {etag}\r\nContent-Length: {length}\r\n\r\n{text}"
            ))
        }
        Some(Answer::Head(lines)) => say(&format!(
            "HTTP/1.1 {lines}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )),
        Some(Answer::Page(text)) => {
            let length = text.len();
            say(&format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
            ))
        }
        Some(Answer::Truncated(text)) => {
            let length = text.len() + 100;
            say(&format!(
                "HTTP/1.1 200 OK\r\n{plain}Content-Length: {length}\r\n\r\n{text}"
            ))
        }
        Some(Answer::Slow) => {
            say(&format!("HTTP/1.1 200 OK\r\n{plain}\r\n"))?;
            for _ in 0..LONGEST.as_secs() {
                say("#")?;
                thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        }
        Some(Answer::Endless) => {
            say(&format!("HTTP/1.1 200 OK\r\n{plain}\r\n"))?;
            loop {
                say(&"# more\n".repeat(1_000))?;
            }
        }
    }
}
