//! One document over HTTPS, under the rules against server-side request forgery: HTTPS only, no
//! redirect off its host, a cap on size and time, and no address inside the network unless listed.

mod fresh;
mod post;

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;

use self::fresh::freshness;
use crate::address::{AddressRule, GuardedResolver, NotPublic};

/// Redirects that are followed, where any are.
const MOST_REDIRECTS: usize = 3;

/// How long a connection is kept for the next question: shorter than servers keep theirs (Node's 5 s), or one would
/// be sent into a connection that is just being closed.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// What a fetch may come to.
#[derive(Clone, Copy, Debug)]
pub struct FetchBounds {
    /// Largest document in bytes.
    pub largest: usize,
    /// Longest time from the first packet to the last byte.
    pub deadline: Duration,
    /// Whether redirects are followed, up to three, to the same host and port.
    pub redirects: bool,
    /// The `Accept` field.
    pub accept: &'static str,
    /// Most connections that are kept for what is asked next.
    pub kept: usize,
}

impl FetchBounds {
    /// Of a key set: small, quick, and nowhere else.
    pub const KEYS: Self = Self {
        largest: 256 * 1024,
        deadline: Duration::from_secs(5),
        redirects: false,
        accept: "application/json",
        kept: 0,
    };

    /// Of what an issuer answers about one token, within so much time, with so many questions at a time.
    pub fn introspection(deadline: Duration, kept: usize) -> Self {
        Self {
            largest: 64 * 1024,
            deadline,
            redirects: false,
            accept: "application/json",
            kept,
        }
    }
}

/// What a server said of a document, by which it can be asked whether there is another one
/// (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// An answer to a question for a document.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// It is the one that the validators are of.
    Unchanged,
    /// The document.
    Document {
        /// As it came.
        bytes: Bytes,
        /// Of this one.
        validators: Validators,
        /// How long the server says that it is good.
        fresh: Option<Duration>,
    },
}

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an HTTPS URL with a host.
    #[error("{0:?} is no https:// URL")]
    NotHttps(String),
    /// The host is, or resolves to, an address that may not be asked.
    #[error(transparent)]
    Address(#[from] NotPublic),
    /// Connecting, TLS or HTTP failed.
    #[error("{0}")]
    Transport(String),
    /// Anything else than 200.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Not now: 429 or 503 (RFC 9110, section 10.2.3).
    #[error("the server answered {status}{}", .after.map(|after| format!(" and asks to wait {} s", after.as_secs())).unwrap_or_default())]
    Busy {
        /// The status.
        status: StatusCode,
        /// How long it asks to be left alone.
        after: Option<Duration>,
    },
    /// To another host, or once too often.
    #[error("the server answered {status} with a redirect to {to:?}, which is not followed")]
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where to.
        to: String,
    },
    /// A page for people.
    #[error("the server sent {0}, which is no list")]
    Type(String),
    /// Larger than it may be, or broken off.
    #[error("the document is larger than {largest} bytes or broken off: {problem}")]
    Body {
        /// Bytes that it may have.
        largest: usize,
        /// What happened.
        problem: String,
    },
    /// Too slow.
    #[error("no whole answer within {} s", .0.as_secs_f64())]
    Deadline(Duration),
}

impl FetchError {
    /// How long the server asks to be left alone.
    pub fn asks_to_wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } => *after,
            _ => None,
        }
    }
}

/// Fetches one URL.
#[derive(Clone, Debug)]
pub struct Fetcher {
    uri: Uri,
    bounds: FetchBounds,
    client: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>,
}

impl Fetcher {
    /// The URL.
    pub(crate) fn url(&self) -> String {
        self.uri.to_string()
    }

    /// A fetcher for `url` that trusts what `tls` trusts and asks only where `rule` permits.
    ///
    /// # Errors
    /// [`FetchError::NotHttps`], or [`FetchError::Address`] for a URL with such an address.
    pub fn new(
        url: &str,
        tls: ClientConfig,
        rule: AddressRule,
        bounds: FetchBounds,
    ) -> Result<Self, FetchError> {
        let uri: Uri = url
            .parse()
            .map_err(|_| FetchError::NotHttps(url.to_owned()))?;
        let host = uri
            .host()
            .filter(|_| uri.scheme_str() == Some("https"))
            .ok_or_else(|| FetchError::NotHttps(url.to_owned()))?;
        // The connector doesn't resolve literals, so the resolver would never see this one.
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>()
            && !rule.permits(address)
        {
            return Err(NotPublic(address).into());
        }
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(rule));
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(bounds.deadline));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .pool_max_idle_per_host(bounds.kept)
            .build(connector);
        Ok(Self {
            uri,
            bounds,
            client,
        })
    }

    /// The document.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self) -> Result<Bytes, FetchError> {
        match self.get_if_changed(&Validators::default()).await? {
            Fetched::Document { bytes, .. } => Ok(bytes),
            // A server that says so without having been asked.
            Fetched::Unchanged => Err(FetchError::Status(StatusCode::NOT_MODIFIED)),
        }
    }

    /// The document, unless it is the one that the validators are of.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get_if_changed(&self, known: &Validators) -> Result<Fetched, FetchError> {
        let deadline = self.bounds.deadline;
        tokio::time::timeout(deadline, self.follow(known))
            .await
            .map_err(|_| FetchError::Deadline(deadline))?
    }

    /// What is answered to a form that is sent there (POST), once more where a connection broke: no redirect is
    /// followed, and questions change nothing.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn ask(
        &self,
        authorization: &HeaderValue,
        form: &Bytes,
    ) -> Result<Bytes, FetchError> {
        let asked = async {
            match self.ask_once(authorization, form).await {
                Err(FetchError::Transport(_)) => self.ask_once(authorization, form).await,
                answered => answered,
            }
        };
        let deadline = self.bounds.deadline;
        tokio::time::timeout(deadline, asked)
            .await
            .map_err(|_| FetchError::Deadline(deadline))?
    }

    async fn ask_once(
        &self,
        authorization: &HeaderValue,
        form: &Bytes,
    ) -> Result<Bytes, FetchError> {
        let mut request = self.request(&self.uri, form.clone());
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        let authorization = authorization.clone();
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, authorization);
        match self.read(self.send(request).await?).await? {
            Fetched::Document { bytes, .. } => Ok(bytes),
            Fetched::Unchanged => Err(FetchError::Status(StatusCode::NOT_MODIFIED)),
        }
    }

    async fn follow(&self, known: &Validators) -> Result<Fetched, FetchError> {
        let mut uri = self.uri.clone();
        let mut left = if self.bounds.redirects {
            MOST_REDIRECTS
        } else {
            0
        };
        loop {
            let response = self.get_from(&uri, known).await?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return self.read(response).await;
            }
            let to = field(&response, &header::LOCATION).unwrap_or_default();
            match on_host(&uri, &to).filter(|_| left > 0) {
                Some(next) => uri = next,
                None => return Err(FetchError::Redirect { status, to }),
            }
            left -= 1;
        }
    }

    async fn get_from(
        &self,
        uri: &Uri,
        known: &Validators,
    ) -> Result<Response<Incoming>, FetchError> {
        let mut request = self.request(uri, Bytes::new());
        for (name, value) in [
            (header::IF_NONE_MATCH, &known.etag),
            (header::IF_MODIFIED_SINCE, &known.last_modified),
        ] {
            let value = value.as_deref().and_then(|value| value.parse().ok());
            if let Some(value) = value {
                request.headers_mut().insert(name, value);
            }
        }
        self.send(request).await
    }

    fn request(&self, uri: &Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = uri.clone();
        let accept = HeaderValue::from_static(self.bounds.accept);
        request.headers_mut().insert(header::ACCEPT, accept);
        request
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, FetchError> {
        self.client
            .request(request)
            .await
            .map_err(|error| FetchError::Transport(chain(&error)))
    }

    /// The body of an answer, up to the largest that there may be.
    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, FetchError> {
        let largest = self.bounds.largest;
        let body = Limited::new(response.into_body(), largest).collect().await;
        let body = body.map_err(|error| FetchError::Body {
            largest,
            problem: chain(error.as_ref()),
        })?;
        Ok(body.to_bytes())
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Fetched, FetchError> {
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Fetched::Unchanged),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let after = field(&response, &header::RETRY_AFTER);
                let after = after.and_then(|seconds| seconds.parse().ok());
                return Err(FetchError::Busy {
                    status,
                    after: after.map(Duration::from_secs),
                });
            }
            _ => return Err(FetchError::Status(status)),
        }
        if let Some(kind) = field(&response, &header::CONTENT_TYPE)
            && kind.to_ascii_lowercase().starts_with("text/html")
        {
            return Err(FetchError::Type(kind));
        }
        let validators = Validators {
            etag: field(&response, &header::ETAG),
            last_modified: field(&response, &header::LAST_MODIFIED),
        };
        let fresh = freshness(response.headers());
        Ok(Fetched::Document {
            bytes: self.whole(response).await?,
            validators,
            fresh,
        })
    }
}

fn field(response: &Response<Incoming>, name: &HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// Where a redirect leads, if that is on the same host and port over HTTPS: an absolute URL, or a
/// path from the root.
fn on_host(from: &Uri, to: &str) -> Option<Uri> {
    let to: Uri = to.parse().ok()?;
    let mut parts = to.clone().into_parts();
    if parts.authority.is_none() && to.path().starts_with('/') && !to.path().starts_with("//") {
        parts.scheme = from.scheme().cloned();
        parts.authority = from.authority().cloned();
    }
    let to = Uri::from_parts(parts).ok()?;
    let port = |uri: &Uri| uri.port_u16().unwrap_or(443);
    let is_same = to.scheme_str() == Some("https")
        && to.host().is_some_and(|host| from.host() == Some(host))
        && port(&to) == port(from)
        && to.authority().is_some_and(|it| !it.as_str().contains('@'));
    is_same.then_some(to)
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_plain_http_and_literal_addresses_inside_the_network() {
        let refuse = |url: &str| {
            let tls = crate::tls::trust_anchors(None).expect("a TLS set-up");
            Fetcher::new(url, tls, AddressRule::default(), FetchBounds::KEYS)
                .expect_err("refused")
                .to_string()
        };
        for url in ["http://idp.example/jwks", "ftp://a/b", "/jwks", "https://"] {
            assert!(refuse(url).contains("is no https:// URL"), "{url}");
        }
        for url in ["https://169.254.169.254/", "https://[::1]/jwks"] {
            assert!(refuse(url).contains("is not a public address"), "{url}");
        }
    }

    #[test]
    fn a_redirect_is_followed_to_the_same_host_and_port_alone() {
        let from: Uri = "https://lists.example/drop.txt".parse().expect("a URL");
        let to = |location| on_host(&from, location).map(|to| to.to_string());
        assert_eq!(
            to("/v2/drop.txt?a=b").as_deref(),
            Some("https://lists.example/v2/drop.txt?a=b")
        );
        let absolute = "https://lists.example:443/x";
        assert_eq!(to(absolute).as_deref(), Some(absolute));
        for elsewhere in [
            "http://lists.example/x",
            "https://lists.example:8443/x",
            "https://lists.example.evil.example/x",
            "https://user@lists.example/x",
            "//evil.example/x",
            "https://169.254.169.254/",
            "relative",
            "",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
    }
}
