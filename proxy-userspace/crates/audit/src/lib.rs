//! Portcullis's record of every request and decision: one JSON line each, in the order they
//! were decided.
//!
//! ```text
//! record    what a line says
//! journal   writing lines, and saying so when that fails
//! ```

mod journal;
mod record;

pub use journal::{AuditError, Journal};
pub use record::{
    ConnectionRecord, DropRecord, Event, KernelRecord, LifecycleRecord, ListRecord,
    PrincipalRecord, ReasonRecord, RequestRecord, Verdict,
};
