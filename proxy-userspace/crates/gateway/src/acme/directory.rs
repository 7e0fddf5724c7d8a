//! How the authority is asked: HTTPS only, no redirect, a cap on size and time; its own host wherever the
//! operator has put it, any other host that it names at public addresses only.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use ipnet::IpNet;
use rustls::ClientConfig;

use super::failure::retry_after;
use crate::address::{AddressRule, GuardedResolver, NotPublic};

/// Largest answer, a chain of certificates above all.
const LARGEST: usize = 256 * 1024;
/// Longest question, from the first packet to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(30);

type Asking = Client<HttpsConnector<HttpConnector<GuardedResolver>>, BodyWrapper<Bytes>>;

/// The authority's directory, and all that it names.
#[derive(Clone)]
pub(super) struct Directory {
    url: String,
    own: Option<Authority>,
    anywhere: Asking,
    outside: Asking,
    /// How long it asked to be left alone when it said no last.
    asks_to_wait: Arc<Mutex<Option<Duration>>>,
}

impl Directory {
    pub(super) fn new(url: &str, tls: &ClientConfig) -> Self {
        let every: [IpNet; 2] = [
            IpNet::new_assert(IpAddr::from([0; 4]), 0),
            IpNet::new_assert(IpAddr::from([0_u16; 8]), 0),
        ];
        let asking = |allowed: Vec<IpNet>| {
            let rule = AddressRule { allowed };
            let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(rule));
            tcp.enforce_http(false);
            tcp.set_connect_timeout(Some(DEADLINE));
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_only()
                .enable_http1()
                .wrap_connector(tcp);
            Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector)
        };
        let uri: Option<Uri> = url.parse().ok();
        Self {
            url: url.to_owned(),
            own: uri.and_then(|uri| uri.authority().cloned()),
            anywhere: asking(every.to_vec()),
            outside: asking(Vec::new()),
            asks_to_wait: Arc::default(),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How long it asked to be left alone, since this was asked last.
    pub(super) fn asks_to_wait(&self) -> Option<Duration> {
        self.asks_to_wait
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, AskError> {
        let uri = request.uri();
        let is_own = self.own.is_some() && uri.authority() == self.own.as_ref();
        // The connector doesn't resolve literals, so the resolver would never see this one.
        if let Some(Ok(address)) = uri.host().map(|host| host.trim_matches(['[', ']']).parse())
            && !is_own
            && !AddressRule::default().permits(address)
        {
            return Err(NotPublic(address).into());
        }
        let asks = request.method() == Method::POST;
        let client = if is_own {
            &self.anywhere
        } else {
            &self.outside
        };
        let response = client.request(request).await?;
        let status = response.status();
        if status.is_redirection() {
            return Err(AskError::Redirect(status));
        }
        if status.is_client_error() || status.is_server_error() {
            self.note_wait(&response);
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(AskError::Body)?.to_bytes();
        let is_json =
            |kind: &header::HeaderValue| kind.to_str().is_ok_and(|kind| kind.contains("json"));
        // A gateway before the authority doesn't speak its language, and the library reads no problem
        // document where it asks for the directory or a nonce.
        let is_problem = asks && parts.headers.get(header::CONTENT_TYPE).is_some_and(is_json);
        if !status.is_success() && !is_problem {
            return Err(AskError::Status(status));
        }
        Ok(Response::from_parts(parts, Full::new(body)).into())
    }

    fn note_wait(&self, response: &Response<Incoming>) {
        let value = response.headers().get(header::RETRY_AFTER);
        let value = value.and_then(|value| value.to_str().ok());
        let wait = value.and_then(|value| retry_after(value, SystemTime::now()));
        let mut asked = self
            .asks_to_wait
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *asked = wait.max(*asked);
    }
}

impl HttpClient for Directory {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let directory = self.clone();
        Box::pin(async move {
            tokio::time::timeout(DEADLINE, directory.ask(request))
                .await
                .unwrap_or(Err(AskError::Slow))
                .map_err(|error| Error::Other(Box::new(error)))
        })
    }
}

/// Why there was no answer that an authority gives.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Address(#[from] NotPublic),
    #[error(transparent)]
    Transport(#[from] hyper_util::client::legacy::Error),
    #[error("it answered {0} with a redirect, which is not followed")]
    Redirect(StatusCode),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is larger than {LARGEST} bytes or broken off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no whole answer within {} s", DEADLINE.as_secs())]
    Slow,
}
