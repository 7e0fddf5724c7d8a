//! Portcullis's record of every request and decision: one JSON line each, in the order they
//! were decided.
//!
//! ```text
//! record    what a line says
//! journal   writing lines, and saying so when that fails
//! waiting   lines that are made, to be written together
//! ```

mod journal;
mod record;
mod waiting;

pub use journal::{AuditError, Journal};
pub use record::{
    ConnectionRecord, DecisionId, DropRecord, Ended, Event, KernelRecord, LifecycleRecord,
    ListRecord, PrincipalRecord, ReasonRecord, RequestRecord, TunnelRecord, Verdict,
};
