//! Which hosts and paths a route answers for.

use crate::{host::CanonicalHost, path::RequestPath};

/// Which hosts a route answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This one.
    Exact(CanonicalHost),
}

/// Which paths a route answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path only.
    Exact(RequestPath),
    /// This path and what lies below it; `/api` covers `/api/x`, not `/apix`.
    Prefix(RequestPath),
}

impl PathPattern {
    /// A prefix. `/api/` and `/api` cover the same paths, so they are one pattern: two routes
    /// that differ in the slash alone are a conflict, not a riddle.
    pub fn prefix(path: RequestPath) -> Self {
        Self::Prefix(path.without_trailing_slash())
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == path,
            Self::Prefix(prefix) => {
                let prefix = prefix.as_str().trim_end_matches('/');
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Exact before prefix, long before short.
    pub(crate) fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(path) => (true, path.as_str().len()),
            Self::Prefix(path) => (false, path.as_str().trim_end_matches('/').len()),
        }
    }
}
