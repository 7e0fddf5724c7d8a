//! Portcullis's decisions. No sockets, no files, no clocks: the same input gives the same answer.
//!
//! ```text
//! wire         HTTP/1.1 as it may stand on the wire
//! frames       HTTP/2 as it goes over the wire: what a connection may cost
//! host, path   parsed in exactly one way, or refused by name
//! reading      rules that a route may relax, and what a path says to others then
//! request      the canonical request: what routing, policy, audit and the upstream all see
//! pattern      which hosts and paths a route answers for
//! route        which route a request is for; without one it is denied
//! access       who may use a route: everybody, or whoever proves who he is, and by what
//! authorise    who may; the only place that makes a Permit
//! tcp          the same for connections that carry no requests: routes by server name, who may
//! ```

mod access;
mod authorise;
mod frames;
mod host;
mod path;
mod pattern;
mod reading;
mod request;
mod route;
mod tcp;
mod wire;

pub use access::{Access, Credential, Credentials, Holder};
pub use authorise::{Binding, Denial, Permit, Principal, ProvenBy};
pub use frames::{FrameBounds, FrameFault, FrameJudge, Standing, StreamFault};
pub use host::{CanonicalHost, HostFault};
pub use path::{PathFault, RequestPath};
pub use pattern::{HostPattern, PathPattern};
pub use reading::{Relaxation, Relaxations};
pub use request::{CanonicalRequest, RequestFault};
pub use route::{NoRoute, Route, RouteConflict, RouteMatch, RouteTable};
pub use tcp::{
    NamePattern, TcpAccess, TcpDenial, TcpMatch, TcpPermit, TcpRoute, TcpRouteConflict,
    TcpRouteTable,
};
pub use wire::{Follower, WireBounds, WireFault};
