//! Exact bytes to the proxy, and what became of them.

use crate::{front::Front, run::Rigged};

/// A POST to the public route with these lines after Host, and this body.
pub fn post(lines: &str, body: &str) -> String {
    format!("POST /public HTTP/1.1\r\nHost: api.example\r\n{lines}\r\n{body}")
}

/// A GET of this target.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: api.example\r\n\r\n")
}

/// Refused with this status, closed, and recorded with this reason.
///
/// # Errors
/// When the client can't be run, or there is no record.
pub fn assert_refused(front: &Front, bytes: &str, status: u16, reason: &str) -> Rigged<()> {
    let answer = front.raw(bytes.as_bytes())?;
    assert_eq!(answer.status(), status, "{bytes:?}: {answer:?}");
    assert!(answer.closed, "{bytes:?}: {answer:?}");
    let record = front.record_of(answer.decision())?;
    assert_eq!(record["reason"], reason, "{bytes:?}: {record}");
    assert_eq!(record["verdict"], "deny", "{bytes:?}: {record}");
    assert_eq!(record["status"], status, "{bytes:?}: {record}");
    Ok(())
}

/// Each refused like that by one proxy, and nothing of them seen by the upstream.
///
/// # Errors
/// As of [`assert_refused`].
pub fn assert_all_refused(cases: &[(&str, u16, &str)]) -> Rigged<()> {
    let front = Front::open()?;
    for (bytes, status, reason) in cases {
        assert_refused(&front, bytes, *status, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}
