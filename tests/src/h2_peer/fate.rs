//! What becomes of a request over HTTP/2 that isn't as it should be.

use super::{
    Peer,
    frame::{PROTOCOL_ERROR, headers_only},
    goaway_of, head_on,
    hpack::request,
    reset_of,
};
use crate::{front::Front, run::Rigged};
use Fate::{ConnectionError, Refused, StreamError};

/// What becomes of a request on stream 1.
pub enum Fate {
    /// An answer of the gateway's own: status and reason.
    Refused(u16, &'static str),
    /// The stream ends, and the next request on the connection is served.
    StreamError,
    /// The connection ends.
    ConnectionError,
}

fn assert_fates(front: &Front, cases: &[(Vec<u8>, Fate)]) -> Rigged<()> {
    let connections = || {
        let trail = front.audit().into_iter();
        trail.filter(|line| line["kind"] == "connection")
    };
    for (bytes, fate) in cases {
        let text = String::from_utf8_lossy(bytes);
        let before = connections().count();
        let mut peer = Peer::greet(front, &[])?;
        peer.say(&[bytes])?;
        let heard = match fate {
            ConnectionError => peer.hear_out()?,
            _ => peer.hear_answer(1)?,
        };
        if let Refused(status, reason) = fate {
            let head = head_on(&heard, 1).cloned().unwrap_or_default();
            assert_eq!(head.status, Some(*status), "{text:?}: {heard:?}");
            let record = front.record_of(head.decision.as_deref())?;
            assert_eq!(record["reason"], *reason, "{text:?}: {record}");
            assert_eq!(record["verdict"], "deny", "{text:?}: {record}");
            assert_eq!(record["protocol"], "HTTP/2.0", "{text:?}: {record}");
            continue;
        }
        let code = match fate {
            ConnectionError => goaway_of(&heard),
            _ => reset_of(&heard, 1),
        };
        assert_eq!(code, Some(PROTOCOL_ERROR), "{text:?}: {heard:?}");
        front.audited("a record of it", |_| connections().count() > before)?;
        let record = connections().next_back().unwrap_or_default();
        assert_eq!(record["reason"], "http_malformed", "{text:?}: {record}");
        if matches!(fate, StreamError) {
            peer.say(&[&headers_only(3, &request("GET", "/public", &[]))])?;
            let heard = peer.hear_answer(3)?;
            let status = head_on(&heard, 3).and_then(|head| head.status);
            assert_eq!(status, Some(200), "{text:?}: {heard:?}");
        }
    }
    Ok(())
}

/// Each of these on a connection of its own meets its fate, and the upstream hears of none.
///
/// # Errors
/// When the client can't be run, or nothing is heard or recorded in time.
pub fn assert_refused(cases: &[(Vec<u8>, Fate)]) -> Rigged<()> {
    let front = Front::open()?;
    assert_fates(&front, cases)?;
    let mut heard = front.heard()?;
    // What was asked for after a stream error, to see that the connection goes on.
    let after = cases.iter().filter(|(_, fate)| matches!(fate, StreamError));
    for _ in after {
        let asked = heard.iter().position(|line| line == "GET /public HTTP/1.1");
        assert!(asked.is_some(), "{heard:?}");
        heard.swap_remove(asked.unwrap_or_default());
    }
    assert_eq!(heard, [""; 0]);
    Ok(())
}
