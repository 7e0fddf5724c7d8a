//! Portcullis's request path.
//!
//! ```text
//! listener      accept, ask the lists, TLS, HTTP/1.1 or HTTP/2; drain at the end
//! sources       how many connections each source has
//! wire          HTTP/1.1 judged before it is read
//! pipeline      the story of one request, stage by stage
//!   authenticate  who is calling: the bearer token, against token, keys
//!   forward       the permitted request to the upstream, and its answer back
//!   websocket     bytes in both directions, once that was permitted
//!   refusal       every way to say no, and its status
//!   ledger        one audit record a request, however it ends
//! keys          JWKS by file or URL, kept current
//! fetch         one document over HTTPS, under the rules against SSRF
//! address       which addresses may be asked for one
//! certificates  by name, read again when they change
//! stamp         was a file written anew?
//! tls, upstream server and client sides of the wire
//! ```
//!
//! Stages don't call each other; only `pipeline` names them all.

mod address;
mod authenticate;
mod certificates;
mod fetch;
mod forward;
mod keys;
mod ledger;
mod listener;
mod pipeline;
mod refusal;
mod sources;
mod stamp;
mod tls;
mod token;
mod upstream;
mod websocket;
mod wire;

pub use address::{AddressRule, NotPublic};
pub use authenticate::Issuers;
pub use certificates::{CertificateFiles, Certificates};
pub use fetch::{FetchBounds, FetchError, Fetched, Fetcher, Validators};
pub use keys::{KeyError, KeySet, KeySource, KeyStore};
pub use listener::{Listener, ListenerLimits};
pub use pipeline::{Gateway, SourceGate, SourceRefusal};
pub use stamp::FileStamp;
pub use tls::{ServerTls, TlsError, crypto_provider, server_tls, trust_anchors};
pub use token::{Algorithm, Issuer, IssuerRules};
pub use upstream::{Upstream, UpstreamOptions, Upstreams};
