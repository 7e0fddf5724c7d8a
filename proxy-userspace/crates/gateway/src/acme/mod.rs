//! Certificates that an authority issues by itself (ACME, RFC 8555), renewed before they end.
//!
//! ```text
//! keeper      all of them kept current, one after the other
//!   renewal     when one is due, and when a failed attempt is repeated
//!   account     who asks
//!   order       one certificate, from the names to the chain
//!   directory   how the authority is asked: where, how long, how much
//!   failure     why there is none, told once
//! issued      the certificate of some names, once there is one
//! storage     what survives a restart
//! pending     what an authority is shown that checks a name, while it does
//!   handshake   TLS-ALPN-01: in a handshake of its own
//!   plain       HTTP-01: over plain HTTP, where all else is sent to https
//! ```
//!
//! A listener knows of `issued`, `pending` and `handshake` alone, by way of its certificates.

mod account;
mod directory;
mod failure;
mod handshake;
mod issued;
mod keeper;
mod order;
mod pending;
mod plain;
mod renewal;
mod storage;

pub use failure::AcmeError;
pub(crate) use handshake::{challenge_config, is_check};
pub use issued::Issued;
pub use keeper::{AcmeNews, Attempts, Authority, keep_issued};
pub use pending::{Challenge, Pending};
pub use plain::{PlainListener, PlainSpec};
pub use storage::Storage;
