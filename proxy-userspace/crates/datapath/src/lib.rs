//! The kernel side of Portcullis as userspace sees it: load the XDP program, attach it, keep its
//! tables true to the lists, and read what it counted.
//!
//! ```text
//! host      is this a machine we can run on?
//! object    the embedded eBPF objects, or the stub
//! pins      what is pinned in bpffs, and whether it may be adopted
//! attach    one interface: adopt, attach natively or generically
//! owner     who is in the way
//! driver    what the driver can't do, and how to mend that
//! interfaces  those that come and go while the daemon runs
//! truth     what the lists add up to, and what a change of one entry changes
//! claim, claims   what a list says of a prefix, and all lists' of one
//! prefixes, family  the claims of one address family; IPv4 and IPv6
//! plan      the writes that a change comes to
//! compile   a whole table in one pass
//! tables, generations, mapping   putting plans and tables into the kernel's memory
//! recover   what an earlier run's tables say
//! rules     scope, limits and samples as the program reads them
//! heartbeat  the daemon's sign of life
//! trace     the program that tells of each stage, for a while
//! counters  what was passed and dropped, and samples of the drops
//! ```

#[cfg(test)]
mod agreement;
mod attach;
mod claim;
mod claims;
mod compile;
mod counters;
mod driver;
mod error;
mod family;
mod generations;
mod heartbeat;
mod host;
mod interfaces;
mod mapping;
mod netlink;
mod object;
mod owner;
mod pins;
mod plan;
mod prefixes;
mod recover;
mod rules;
mod start;
mod tables;
mod trace;
mod truth;

pub use attach::{Attachment, AttachmentMode, AttachmentOrigin, interface_name, interface_names};
pub use claim::{Claim, ListId, Noted, Standing};
pub use counters::{Drop, PinnedCounters, ReasonCount, Samples};
pub use driver::Obstacle;
pub use error::DatapathError;
pub use heartbeat::Heartbeat;
pub use host::{Host, boot_ns};
pub use interfaces::{InterfaceEvent, can_guard};
pub use netlink::{default_gateways, local_addresses};
pub use object::{embedded_object, is_stub};
pub use owner::InterfaceOwner;
pub use pins::{Pins, detach};
pub use plan::{Change, Plan};
pub use recover::pinned_claims;
pub use rules::Rules;
pub use start::{Admitted, Datapath, Options, can_start};
pub use tables::Tables;
pub use trace::Trace;
pub use truth::{MANY_EDITS, Truth};
