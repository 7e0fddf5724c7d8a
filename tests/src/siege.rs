//! Attackers over HTTP/2, one connection after another, and others who want to be served meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    burden::Burden,
    front::Front,
    h2_peer::{Peer, frame::ENHANCE_YOUR_CALM, goaway_of},
    run::{RigError, Rigged},
};

/// Connections of an attacker, one after another.
pub const CONNECTIONS: usize = 10;
/// Pieces that each of them sends at most, of about 16 KiB.
pub const PIECES: usize = 2_000;
/// Processor time that all of them together may cost, in a build without optimisation and with what the
/// others cost who are served meanwhile.
pub const PROCESSOR: Duration = Duration::from_secs(4);
/// Memory that may be resident after them and wasn't before.
pub const MEMORY: u64 = 32 << 20;
/// How long any other client may wait meanwhile.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// Records of connections that were ended for one of these reasons.
pub fn records(front: &Front, reasons: &[&str]) -> Vec<Value> {
    let is_one = |line: &Value| {
        line["kind"] == "connection" && reasons.iter().any(|reason| line["reason"] == *reason)
    };
    front.audit().into_iter().filter(is_one).collect()
}

/// Runs `attack` on one connection after another, and others ask meanwhile; all are served, and the costs
/// are bounded.
///
/// # Errors
/// When the attack or a client can't be run.
pub fn assert_withstands(
    front: &Front,
    attack: impl Fn(&mut Peer) -> Rigged<()> + Sync,
) -> Rigged<()> {
    let before = Burden::of(&front.daemon)?;
    thread::scope(|scope| {
        let attacker = scope
            .spawn(|| (0..CONNECTIONS).try_for_each(|_| attack(&mut Peer::greet(front, &[])?)));
        loop {
            let over = attacker.is_finished();
            let asked = Instant::now();
            let answer = front.curl("/public", &["--http2"])?;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(asked.elapsed() < SERVED_WITHIN, "{:?}", asked.elapsed());
            if over {
                break;
            }
        }
        attacker
            .join()
            .map_err(|_| RigError("the attacker panicked".to_owned()))?
    })?;
    let cost = Burden::of(&front.daemon)?.since(before);
    assert!(cost.processor < PROCESSOR, "{cost:?}");
    assert!(cost.resident < MEMORY, "{cost:?}");
    Ok(())
}

/// A flood of such pieces is ended on every connection with GOAWAY, and recorded with one of these reasons.
///
/// # Errors
/// As of [`assert_withstands`], and when there are no records.
pub fn assert_ended(reasons: &[&str], piece: impl Fn(usize) -> Vec<u8> + Sync) -> Rigged<()> {
    let front = Front::open()?;
    assert_withstands(&front, |peer| {
        assert!(peer.flood(PIECES, &piece)?, "the proxy took it all");
        let heard = peer.hear_out()?;
        assert_eq!(goaway_of(&heard), Some(ENHANCE_YOUR_CALM), "{heard:?}");
        Ok(())
    })?;
    front.audited("a record of each connection", |_| {
        records(&front, reasons).len() == CONNECTIONS
    })?;
    Ok(())
}
