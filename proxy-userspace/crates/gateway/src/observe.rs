//! A listener of its own for those who watch: is the process alive, can it serve, what has it counted. Plain
//! HTTP, for an address that only they reach.

use std::{
    convert::Infallible,
    future, io,
    net::{self, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time};

use crate::drain::{Drain, Stage};

/// Bounds of this listener: few watch, and none of them needs long.
const MOST_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);

/// What Prometheus takes (its text format, version 1.0.0 of OpenMetrics).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What is to be seen. Asked on a thread that may wait.
pub trait Views: Send + Sync + 'static {
    /// Whether requests can be served.
    ///
    /// # Errors
    /// Why they can't.
    fn ready(&self) -> Result<(), String>;

    /// What was counted, as OpenMetrics text.
    fn metrics(&self) -> String;
}

/// The listener, bound.
pub struct Observer(TcpListener);

impl Observer {
    /// Binds `address`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Listens on what somebody else bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_over(socket: net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Self)
    }

    /// Its socket once more, for another process.
    ///
    /// # Errors
    /// What the system says.
    pub fn handle(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// Where it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until another process does, and all that was asked here is answered: whoever watches sees a
    /// stop to its end.
    pub async fn serve(self: Arc<Self>, views: Arc<impl Views>, mut drain: Drain) {
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, self.0.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = handed_over(&mut drain) => break,
            };
            let (stream, _) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (views, mut drain) = (Arc::clone(&views), drain.clone());
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let views = Arc::clone(&views);
                    async move { Ok::<_, Infallible>(answer(views, &request).await) }
                });
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::pin!(serving);
                let all = async {
                    tokio::select! {
                        _ = serving.as_mut() => return,
                        () = handed_over(&mut drain) => serving.as_mut().graceful_shutdown(),
                    }
                    let _ = serving.await;
                };
                let _ = time::timeout(LONGEST, all).await;
                drop(slot);
            });
        }
        let all = slots.acquire_many(MOST_CONNECTIONS as u32);
        let _ = all.await;
    }
}

async fn handed_over(drain: &mut Drain) {
    let handed_over = drain.wait_for(|stage| *stage == Stage::HandedOver);
    if handed_over.await.is_err() {
        // Nobody is there any more who could hand over.
        future::pending().await
    }
}

async fn answer(views: Arc<impl Views>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET it\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, PLAIN, "ok\n"),
        "/readyz" => match asked(move || views.ready()).await {
            Some(Ok(())) => text(StatusCode::OK, PLAIN, "ready\n"),
            Some(Err(why)) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why + "\n"),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "no answer\n"),
        },
        "/metrics" => match asked(move || views.metrics()).await {
            Some(metrics) => text(StatusCode::OK, OPEN_METRICS, metrics),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "no answer\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            PLAIN,
            "there are /healthz, /readyz and /metrics\n",
        ),
    }
}

async fn asked<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(ask).await.ok()
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
