//! Portcullis's decisions. No sockets, no files, no clocks: the same input gives the same answer.
//!
//! ```text
//! wire         HTTP/1.1 as it may stand on the wire
//! host, path   parsed in exactly one way, or refused by name
//! request      the canonical request: what routing, policy, audit and the upstream all see
//! route        which route a request is for; without one it is denied
//! authorise    who may; the only place that makes a Permit
//! ```

mod authorise;
mod host;
mod path;
mod request;
mod route;
mod wire;

pub use authorise::{Denial, Permit, Principal};
pub use host::{CanonicalHost, HostFault};
pub use path::{PathFault, RequestPath};
pub use request::{CanonicalRequest, RequestFault};
pub use route::{
    Access, HostPattern, NoRoute, PathPattern, Route, RouteConflict, RouteMatch, RouteTable,
};
pub use wire::{Follower, WireBounds, WireFault};
