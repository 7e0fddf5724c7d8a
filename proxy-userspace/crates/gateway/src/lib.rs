//! Portcullis's request path.
//!
//! ```text
//! workers       a thread for each core
//! listener      accepting connections
//! door          one connection: the lists, TLS, HTTP/1.1 or HTTP/2, its end
//! http3         the same over QUIC, where the program is built with it
//! connection    what the requests of one have in common
//! gateway       what requests meet, as one; live, exchanged as a whole
//! proxied       whose connection a load balancer passes on
//! paced         what a client has to read
//! keepalive     peers that are gone without a word
//! sole          what is written in one part
//! greet         the TLS handshake
//! sources       how many connections each source has
//! wire          HTTP/1.1 judged before it is read
//! frames        HTTP/2 watched while it is read
//! pipeline      the story of one request, stage by stage
//!   client        who asks, where others stand between
//!   authenticate  who is calling: the token, against token, or the certificate
//!   holder        is a token that is bound in the right hands? replay, of what is used once
//!   revocation    tokens that are taken back; tenure, what goes on of what one let in
//!   uses          tokens that are good once
//!   sent          the token as it was sent
//!   api_key       a key that was made for somebody
//!   login         the same for browsers: sent to an issuer, and known by a session after that
//!   forward       the permitted request to the upstream, and its answer back
//!   websocket     bytes in both directions, once that was permitted
//!   refusal       every way to say no, and its status
//!   body, flow, answer  the bodies, up and down; lateness, of either
//!   trace         which trace it is part of
//!   ledger        one audit record a request, however it ends; decision_ids, which names it
//! carry         bytes in both directions, of a WebSocket or a tunnel
//! tcp           the story of one connection that carries no requests
//!   hello         the first message of TLS, read and not answered
//!   ledger        one audit record a connection, however it ends
//!   counts        what is counted of that
//! metrics       what is counted of all that
//! runtimes      how many tasks there are
//! observe       a listener for those who watch
//! inspect       why a token is accepted or refused, told step by step
//! token         is it current, meant for us, and signed by an issuer we trust?
//! introspection  is it good? asked of its issuer
//! fetch         one document over HTTPS, under the rules against SSRF
//! address       which addresses may be asked for one
//! certificates  by name, read again when they change
//! client_certificates  what is asked of clients
//! certificate_identity  who one says that its owner is; distinguished_name, of its subject
//! acme          certificates that an authority issues by itself, and renews
//! validity      how long a certificate is good
//! staple        an issuer's word for a certificate, proven
//! secret_file   files that nobody else may get at
//! stamp         was a file written anew?
//! tls           the server side of TLS, and whom the client side trusts
//! upstream      the services behind the proxy
//! ```
//!
//! Stages don't call each other; only `pipeline` names them all.

mod acme;
mod address;
mod answer;
mod api_key;
mod authenticate;
mod body;
mod carry;
mod certificate_identity;
mod certificates;
mod client;
mod client_certificates;
mod connection;
mod decision_ids;
mod distinguished_name;
mod door;
mod drain;
mod fetch;
mod flow;
mod forward;
mod frames;
mod gateway;
mod greet;
mod holder;
#[cfg(feature = "http3")]
mod http3;
mod inspect;
mod introspection;
mod keepalive;
mod lateness;
mod ledger;
mod listener;
mod live;
mod login;
mod metrics;
mod observe;
mod paced;
mod pipeline;
mod proxied;
mod refusal;
mod replay;
mod revocation;
mod runtimes;
pub mod secret_file;
mod sent;
mod sockets;
mod sole;
mod sources;
mod stamp;
mod staple;
mod tcp;
mod tenure;
mod tls;
mod token;
mod trace;
mod upstream;
mod uses;
mod validity;
mod websocket;
mod wire;
#[cfg(not(feature = "http3"))]
mod without_http3;
mod workers;

pub use acme::{
    AcmeError, AcmeNews, Attempts, Authority, Challenge, Issued, Pending, PlainListener, PlainSpec,
    Storage, keep_issued,
};
pub use address::{AddressRule, NotPublic};
pub use api_key::{ApiKey, ApiKeyId, ApiKeyRules, ApiKeys, KeptHash, KeptKey};
pub use authenticate::Issuers;
pub use certificate_identity::{CertificateIdentity, CertificateSubject};
pub use certificates::{CertificateContents, CertificateFiles, CertificateNews, Certificates};
pub use client_certificates::{
    ClientCertificateError, ClientCertificateFiles, ClientCertificateMode, ClientCertificateRules,
    ClientCertificates,
};
pub use drain::{Drain, Stage};
pub use fetch::{FetchBounds, FetchError, Fetched, Fetcher, Validators};
pub use gateway::{Gateway, SourceGate, SourceRefusal};
pub use holder::Proofs;
#[cfg(feature = "http3")]
pub use http3::Http3;
pub use inspect::{Examined, examine};
pub use introspection::{
    IntrospectionClient, IntrospectionCounts, IntrospectionFault, IntrospectionRules, Introspector,
};
pub use listener::{Listener, ListenerLimits, ListenerSpec, Speaks};
pub use live::Live;
pub use login::{ClientSecret, KeyPlace, LoginMemory, LoginRules, Logins, SessionKeyError};
pub use metrics::Metrics;
pub use observe::{Observer, Views};
pub use proxied::{ProxiedFault, read_header as read_proxy_header};
pub use revocation::{Revocation, Revocations};
pub use runtimes::Runtimes;
pub use rustls::{ClientConfig, pki_types::ServerName};
pub use sockets::Sockets;
pub use stamp::FileStamp;
pub use staple::StapleFault;
pub use tls::{Alpn, ServerTls, TlsError, crypto_provider, server_tls, trust_anchors};
pub use token::{
    Algorithm, ClaimMap, ClaimPath, ClaimValue, Discovery, Issuer, IssuerRules, KeyError, KeyNews,
    KeyReport, KeySet, KeySource, KeyStore, KeyTimes, Passed, ProofFault, ProofRules,
    RequiredClaim, TokenFault, TokenLocation, examine_proof,
};
pub use upstream::{
    Balance, ClientIdentity, Ejection, EndpointRule, EndpointState, HealthCheck, HealthRequest,
    Protocol, Target, Upstream, UpstreamBounds, UpstreamNews, UpstreamRoots, UpstreamSpec,
    UpstreamTls, Upstreams, upstream_client,
};
pub use uses::{BootId, Once, UseFault, Uses};
#[cfg(not(feature = "http3"))]
pub use without_http3::Http3;
pub use workers::Workers;
