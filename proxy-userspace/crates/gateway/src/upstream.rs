//! The services behind the proxy, each with a pool of kept connections.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;

/// Body of a request on its way to an upstream.
pub(crate) type UpstreamBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// Bounds of one upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamOptions {
    /// Longest wait for a TCP connection.
    pub connect_timeout: Duration,
    /// Longest wait from the sent request to the head of the answer.
    pub response_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Most unused connections that are kept.
    pub max_idle: usize,
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamFault {
    #[error("upstream_unreachable")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("upstream_timeout")]
    Timeout,
    #[error("upstream_broken")]
    Broken(#[source] hyper_util::client::legacy::Error),
    #[error("upstream_not_configured")]
    NotConfigured,
    #[error("upstream_upgrade_unasked")]
    UnaskedUpgrade,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Upstream {
    base: Uri,
    client: Client<HttpsConnector<HttpConnector>, UpstreamBody>,
    options: UpstreamOptions,
}

impl Upstream {
    /// A pool of connections to `base`: scheme `http` or `https` and an authority, no path.
    /// `tls` says whom to trust when it is `https`.
    pub fn new(base: Uri, tls: ClientConfig, options: UpstreamOptions) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.max_idle)
            .build(connector);
        Self {
            base,
            client,
            options,
        }
    }

    /// Where `target` (origin form) is on this upstream.
    pub(crate) fn uri_of(&self, target: &str) -> Result<Uri, http::Error> {
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target)?);
        Ok(Uri::from_parts(parts)?)
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, UpstreamFault> {
        let answer = self.client.request(request);
        match tokio::time::timeout(self.options.response_timeout, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(UpstreamFault::Unreachable(error)),
            Ok(Err(error)) => Err(UpstreamFault::Broken(error)),
            Err(_) => Err(UpstreamFault::Timeout),
        }
    }
}

/// The upstreams by their configured names.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(BTreeMap<String, Upstream>);

impl FromIterator<(String, Upstream)> for Upstreams {
    fn from_iter<I: IntoIterator<Item = (String, Upstream)>>(upstreams: I) -> Self {
        Self(upstreams.into_iter().collect())
    }
}

impl Upstreams {
    pub(crate) fn get(&self, name: &str) -> Result<&Upstream, UpstreamFault> {
        self.0.get(name).ok_or(UpstreamFault::NotConfigured)
    }
}
