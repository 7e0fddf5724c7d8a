//! A listener of its own for those who watch: is the process alive, can it serve, what has it counted. Plain
//! HTTP, for an address that only they reach.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time};

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

    /// Where it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, views: Arc<impl Views>) {
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let (stream, _) = match self.0.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let views = Arc::clone(&views);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let views = Arc::clone(&views);
                    async move { Ok::<_, Infallible>(answer(views, &request).await) }
                });
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                let _ = time::timeout(LONGEST, serving).await;
                drop(slot);
            });
        }
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
