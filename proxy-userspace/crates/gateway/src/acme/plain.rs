//! The plain HTTP listener: it answers an authority that checks a name (RFC 8555, 8.3), sends every other
//! request for a host of ours to the same place over https, and knows nothing else.

use std::{
    convert::Infallible,
    io,
    net::{self, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::CanonicalHost;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};

use super::pending::Pending;
use crate::{
    drain::{Drain, ending, stopping},
    gateway::SourceGate,
    paced::Paced,
    sources::Sources,
};

/// Where tokens are asked for (RFC 8555, 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Most connections at a time, and of one source. Nobody has business here for longer than one short
/// answer; further ones wait in the kernel's queue, or are closed.
const MOST_CONNECTIONS: usize = 1_000;
const MOST_OF_SOURCE: usize = 100;
/// Longest wait for a whole request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request head; hyper needs 8 KiB to work with.
const HEADER_BYTES: usize = 8 * 1024;
/// Longest life of a connection, from the first byte to the last.
const LONGEST: Duration = Duration::from_secs(20);
/// After the kernel has no more descriptors, wait this long before the next accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What it answers.
#[derive(Clone, Debug)]
pub struct PlainSpec {
    /// What an authority is shown.
    pub pending: Arc<Pending>,
    /// Hosts that are ours. Requests for others are sent nowhere: where to is the client's word, which may
    /// be a trap for another one.
    pub hosts: Vec<CanonicalHost>,
}

/// The listener, bound.
pub struct PlainListener {
    socket: TcpListener,
    spec: ArcSwap<PlainSpec>,
    gate: Arc<dyn SourceGate>,
}

impl PlainListener {
    /// Binds `address`.
    ///
    /// # Errors
    /// What the system says, `AddrInUse` above all.
    pub async fn bind(
        address: SocketAddr,
        spec: PlainSpec,
        gate: Arc<dyn SourceGate>,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self::over(socket, spec, gate))
    }

    /// Listens on what somebody else bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_over(
        socket: net::TcpListener,
        spec: PlainSpec,
        gate: Arc<dyn SourceGate>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self::over(TcpListener::from_std(socket)?, spec, gate))
    }

    fn over(socket: TcpListener, spec: PlainSpec, gate: Arc<dyn SourceGate>) -> Self {
        Self {
            socket,
            spec: ArcSwap::from_pointee(spec),
            gate,
        }
    }

    /// Its socket once more, for another process.
    ///
    /// # Errors
    /// What the system says.
    pub fn handle(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Answers otherwise from the next connection on.
    pub fn exchange(&self, spec: PlainSpec) {
        self.spec.store(Arc::new(spec));
    }

    /// Serves until `drain` ends that. Conversations hold their own receiver of it until they end.
    pub async fn serve(self: Arc<Self>, mut drain: Drain) {
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let sources = Sources::new(MOST_OF_SOURCE);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, self.socket.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = ending(&mut drain) => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = sources.enter(peer.ip()) else {
                continue;
            };
            if self.gate.admit(peer.ip()).is_err() {
                continue;
            }
            let (spec, mut drain) = (self.spec.load_full(), drain.clone());
            tokio::spawn(async move {
                // What a peer does here that it shouldn't ends with its connection, and nothing more.
                tokio::select! {
                    _ = time::timeout(LONGEST, converse(stream, spec)) => {}
                    () = stopping(&mut drain) => {}
                }
                drop((place, slot));
            });
        }
    }
}

/// One request, one answer: without a second one, nothing can be smuggled behind the first.
async fn converse(stream: TcpStream, spec: Arc<PlainSpec>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &spec);
        async move { Ok::<_, Infallible>(answer) }
    });
    conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Paced::new(stream, HEADER_TIMEOUT)), service)
        .await
}

fn answer<B>(request: &Request<B>, spec: &PlainSpec) -> Response<Full<Bytes>> {
    let Some(host) = host(request) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let path = request.uri().path();
    if !path.starts_with('/') {
        return empty(StatusCode::BAD_REQUEST);
    }
    if let Some(token) = path.strip_prefix(CHALLENGES) {
        let asks = [Method::GET, Method::HEAD].contains(request.method());
        let shown = spec.pending.answer(host.as_str(), token).filter(|_| asks);
        return match shown {
            Some(text) => {
                let mut response = Response::new(Full::from(text));
                let kind = HeaderValue::from_static("application/octet-stream");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            None => empty(StatusCode::NOT_FOUND),
        };
    }
    if !spec.hosts.contains(&host) {
        return empty(StatusCode::NOT_FOUND);
    }
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    // The host is one of ours, in canonical form, and what follows it begins with a slash: whatever a
    // client makes of that, `//` and `/\` included, it stays on this host.
    let location = HeaderValue::try_from(format!("https://{host}{target}"));
    match location {
        Ok(location) => {
            let mut response = empty(StatusCode::PERMANENT_REDIRECT);
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => empty(StatusCode::BAD_REQUEST),
    }
}

/// The one host that a request is for (RFC 9112, 3.2); none if it names none, several, or nonsense.
fn host<B>(request: &Request<B>) -> Option<CanonicalHost> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let (field, further) = (fields.next()?, fields.next());
    if further.is_some() {
        return None;
    }
    let host = CanonicalHost::parse(field.to_str().ok()?).ok()?;
    match request.uri().authority() {
        Some(authority) if CanonicalHost::parse(authority.as_str()).ok()? != host => None,
        _ => Some(host),
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PlainSpec {
        PlainSpec {
            pending: Arc::default(),
            hosts: vec![CanonicalHost::parse("api.example").expect("a host")],
        }
    }

    fn ask(method: &str, target: &str, hosts: &[&str]) -> (u16, Option<String>) {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let request = request.body(()).expect("a request");
        let response = answer(&request, &spec());
        let location = response.headers().get(header::LOCATION);
        let location = location.map(|it| it.to_str().expect("text").to_owned());
        (response.status().as_u16(), location)
    }

    #[test]
    fn a_host_of_ours_is_sent_to_the_same_place_over_https() {
        for (host, target, location) in [
            ("api.example", "/", "https://api.example/"),
            ("API.example.:80", "/a?b=c", "https://api.example/a?b=c"),
            (
                "api.example",
                "//evil.example",
                "https://api.example//evil.example",
            ),
            (
                "api.example",
                "/\\evil.example",
                "https://api.example/\\evil.example",
            ),
            (
                "api.example",
                "http://api.example/x",
                "https://api.example/x",
            ),
        ] {
            let (status, to) = ask("GET", target, &[host]);
            assert_eq!(status, 308, "{host} {target}");
            assert_eq!(to.as_deref(), Some(location), "{host} {target}");
        }
        assert_eq!(ask("POST", "/form", &["api.example"]).0, 308);
    }

    #[test]
    fn any_other_host_is_sent_nowhere() {
        for (host, status) in [
            ("evil.example", 404),
            ("api.example.evil.example", 404),
            ("127.0.0.1", 404),
            ("api.example@evil.example", 400),
            ("evil.example/api.example", 400),
            ("", 400),
        ] {
            assert_eq!(ask("GET", "/", &[host]), (status, None), "{host:?}");
        }
        assert_eq!(ask("GET", "/", &[]), (400, None));
        let two = ["api.example", "evil.example"];
        assert_eq!(ask("GET", "/", &two), (400, None));
        let disagrees = ask("GET", "http://evil.example/", &["api.example"]);
        assert_eq!(disagrees, (400, None));
        assert_eq!(ask("OPTIONS", "*", &["api.example"]), (400, None));
    }

    #[test]
    fn a_token_that_is_pending_is_answered_and_no_other() {
        let spec = spec();
        let _showing = spec.pending.show_answer("api.example", "abc", "abc.thumb");
        let status = |method: &str, host: &str, token: &str| {
            let request = Request::builder()
                .method(method)
                .uri(format!("{CHALLENGES}{token}"))
                .header("host", host)
                .body(())
                .expect("a request");
            answer(&request, &spec).status().as_u16()
        };
        assert_eq!(status("GET", "api.example", "abc"), 200);
        assert_eq!(status("HEAD", "api.example:80", "abc"), 200);
        for (method, host, token) in [
            ("GET", "api.example", "abcd"),
            ("GET", "api.example", ""),
            ("GET", "api.example", "../abc"),
            ("GET", "other.example", "abc"),
            ("POST", "api.example", "abc"),
        ] {
            assert_eq!(status(method, host, token), 404, "{method} {host} {token}");
        }
    }
}
