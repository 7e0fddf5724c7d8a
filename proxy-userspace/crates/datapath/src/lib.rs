//! The kernel side of Portcullis as userspace sees it: load the XDP program, attach it, keep its
//! tables true to the lists, and read what it counted.
//!
//! ```text
//! host      is this a machine we can run on?
//! object    the embedded eBPF object, or the stub
//! pins      what is pinned in bpffs, and whether it may be adopted
//! attach    one interface: adopt, attach natively or generically, name who is in the way
//! truth     what the lists add up to, and what a change of one entry changes
//! trie      the claims of one address family, and the cells they add up to
//! tables    writing that into the kernel's tries
//! counters  what was passed and dropped, and samples of the drops
//! ```

mod attach;
mod counters;
mod error;
mod host;
mod netlink;
mod object;
mod pins;
mod start;
mod tables;
mod trie;
mod truth;

pub use attach::{Attachment, AttachmentMode, AttachmentOrigin, interface_names};
pub use counters::{Drop, PinnedCounters, ReasonCount, Samples};
pub use error::{DatapathError, InterfaceOwner};
pub use host::{Host, boot_ns};
pub use object::{embedded_object, is_stub};
pub use pins::{Pins, detach};
pub use start::{Datapath, Limits, Options};
pub use tables::Tables;
pub use truth::{Change, Claim, ListId, Standing, Truth};
