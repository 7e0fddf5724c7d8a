//! Telling the audit trail what the daemon does. A record that can't be written is an error on the
//! console; the requests that it makes impossible are refused elsewhere.

use audit::{Event, Journal, LifecycleRecord};

/// Records an event.
pub(crate) fn tell(journal: &Journal, event: &Event) {
    if let Err(error) = journal.record(event) {
        tracing::error!(%error, "audit record lost");
    }
}

/// Records a step in the daemon's life.
pub(crate) fn note(journal: &Journal, step: &str, detail: &str) {
    let record = LifecycleRecord {
        step: step.to_owned(),
        detail: detail.to_owned(),
    };
    tell(journal, &Event::Lifecycle(record));
}
