//! HTTP/3 (RFC 9114) beside a listener's TLS, on the UDP port of the same number. What a request goes through
//! is what all go through.
//!
//! ```text
//! settings  what QUIC connections are served by
//! endpoint  the socket, and who gets in
//! visit     one connection, until its end
//! exchange  one request, and its answer
//! body      a request's body
//! watched   what the library reads, with its frames looked at first
//! ```

mod body;
mod endpoint;
mod exchange;
mod frames;
mod settings;
mod visit;
mod watched;

pub(crate) use body::{BodyError, RequestBody};
pub(crate) use endpoint::keep;
pub use settings::Http3;
