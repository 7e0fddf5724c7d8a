//! Keys that were made for somebody: whoever has one is he.
//!
//! ```text
//! secret  one of them: drawn, written and read, and what is kept of it
//! source  those of one place, by their ids
//! ```

mod secret;
mod source;

pub use secret::{ApiKey, ApiKeyId, KeptHash};
pub use source::{ApiKeyRules, ApiKeys, KeptKey};
pub(crate) use source::{HeldKey, held_key};

/// Why an API key is refused. The client is never told which of these it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiKeyFault {
    /// Two fields that carry one.
    #[error("api_key_repeated")]
    Repeated,
    /// One in each of two fields that the route's sources have.
    #[error("api_key_in_two_places")]
    TwoPlaces,
    /// Nothing that was ever made by us.
    #[error("api_key_malformed")]
    Malformed,
    /// No source of the route has a key of this id.
    #[error("api_key_unknown")]
    Unknown,
    /// There is a key of this id, and it is another one.
    #[error("api_key_wrong")]
    Wrong,
    /// It is another holder's now, or he may do other things.
    #[error("api_key_changed")]
    Changed,
    /// Its time is over.
    #[error("api_key_expired")]
    Expired,
}
