//! One small document over HTTPS, under the rules against server-side request forgery: HTTPS
//! only, no redirect, a cap on size and time, and no address inside the network unless listed.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use ipnet::IpNet;
use rustls::ClientConfig;

/// Largest document in bytes.
const LARGEST: usize = 256 * 1024;
/// Longest time from the first packet to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an HTTPS URL with a host.
    #[error("{0:?} is no https:// URL")]
    NotHttps(String),
    /// The host is, or resolves to, an address that may not be asked.
    #[error("{address} is not a public address; list it to allow it")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Connecting, TLS or HTTP failed.
    #[error("{0}")]
    Transport(String),
    /// Anything else than 200; redirects are never followed.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Larger than 256 KiB, or broken off.
    #[error("the document is larger than 256 KiB or broken off: {0}")]
    Body(String),
    /// Slower than 5 s.
    #[error("no whole answer within 5 s")]
    Deadline,
}

/// Which addresses may be asked.
#[derive(Clone, Debug, Default)]
pub struct AddressRule {
    /// Ranges allowed although they aren't public.
    pub allowed: Vec<IpNet>,
}

impl AddressRule {
    /// Whether `address` is public, or listed.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|net| net.contains(&address))
    }
}

/// Neither private, shared, loopback, link-local (cloud metadata is there), multicast nor
/// reserved: the registries of RFC 6890.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || a == 0
                || a >= 224
                || (a == 100 && b & 0xc0 == 64)
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && b & 0xfe == 18))
        }
        IpAddr::V6(v6) => {
            let global_unicast = v6.segments()[0] & 0xe000 == 0x2000;
            let documentation = v6.segments()[0] == 0x2001 && v6.segments()[1] == 0x0db8;
            // 6to4 and Teredo carry an IPv4 address that would escape the rule above.
            let tunnel =
                v6.segments()[0] == 0x2002 || (v6.segments()[0] == 0x2001 && v6.segments()[1] == 0);
            global_unicast && !documentation && !tunnel
        }
    }
}

/// Fetches one URL.
#[derive(Clone, Debug)]
pub struct Fetcher {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Empty<Bytes>>,
}

impl Fetcher {
    /// A fetcher for `url` that trusts what `tls` trusts and asks only where `rule` permits.
    ///
    /// # Errors
    /// [`FetchError::NotHttps`], or [`FetchError::Address`] for a URL with such an address.
    pub fn new(url: &str, tls: ClientConfig, rule: AddressRule) -> Result<Self, FetchError> {
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
            return Err(FetchError::Address { address });
        }
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver { rule });
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(DEADLINE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { uri, client })
    }

    /// The document.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self) -> Result<Bytes, FetchError> {
        tokio::time::timeout(DEADLINE, self.get_whole())
            .await
            .map_err(|_| FetchError::Deadline)?
    }

    async fn get_whole(&self) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(
            header::ACCEPT,
            http::HeaderValue::from_static("application/json"),
        );
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| FetchError::Transport(chain(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok(body
            .map_err(|error| FetchError::Body(error.to_string()))?
            .to_bytes())
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Resolves names as the system does, and refuses a name when any of its addresses may not be
/// asked: the check and the connection use the same answer, so a second answer can't slip in
/// between (DNS rebinding).
#[derive(Clone, Debug)]
struct GuardedResolver {
    rule: AddressRule,
}

impl tower_service::Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let rule = self.rule.clone();
        Box::pin(async move {
            let resolved = tokio::task::spawn_blocking(move || {
                (name.as_str(), 0)
                    .to_socket_addrs()
                    .map(Iterator::collect::<Vec<_>>)
            });
            let addresses = resolved.await.map_err(io::Error::other)??;
            match addresses.iter().find(|a| !rule.permits(a.ip())) {
                Some(refused) => Err(io::Error::other(FetchError::Address {
                    address: refused.ip(),
                })),
                None => Ok(addresses.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(rule: &AddressRule, address: &str) -> bool {
        rule.permits(address.parse().expect("an address"))
    }

    #[test]
    fn only_public_addresses_unless_listed() {
        let rule = AddressRule::default();
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
        ] {
            assert!(!permits(&rule, inside), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(permits(&rule, outside), "{outside}");
        }
        let listed = AddressRule {
            allowed: vec!["127.0.0.1/32".parse().expect("a range")],
        };
        assert!(permits(&listed, "127.0.0.1"));
        assert!(permits(&listed, "::ffff:127.0.0.1"));
        assert!(!permits(&listed, "127.0.0.2"));
    }

    #[test]
    fn refuses_plain_http_and_literal_addresses_inside_the_network() {
        let refuse = |url: &str| {
            let tls = crate::tls::trust_anchors(None).expect("a TLS set-up");
            Fetcher::new(url, tls, AddressRule::default())
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
}
