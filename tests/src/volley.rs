//! Who gets through: a short volley of datagrams from each source.

use std::time::Duration;

use crate::{
    run::{RigError, Rigged},
    scene::Scene,
};

const PPS: u32 = 500;
const LENGTH: Duration = Duration::from_millis(200);
/// What a volley takes, and room for the senders to start on a busy machine.
const COUNTED: Duration = Duration::from_millis(900);

/// What came of a volley.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every datagram arrived.
    Passed,
    /// None did.
    Dropped,
    /// Some did.
    Mixed {
        /// Datagrams sent.
        sent: u64,
        /// Datagrams that a socket got.
        received: u64,
    },
}

/// Sends from every source at once to one address of the guarded host.
///
/// # Errors
/// When traffic can't be sent or counted.
pub fn volley<const N: usize>(scene: &Scene, to: &str, sources: [&str; N]) -> Rigged<[Outcome; N]> {
    let sink = scene.count_at(to, COUNTED)?;
    let mut senders = Vec::new();
    for source in sources {
        senders.push(scene.send_to(to, source, PPS, LENGTH)?);
    }
    let mut sent = Vec::new();
    for sender in senders {
        sent.push(sender.finish()?);
    }
    let received = sink.finish()?;
    let mut outcomes = [Outcome::Dropped; N];
    for ((outcome, source), sent) in outcomes.iter_mut().zip(sources).zip(sent) {
        if sent == 0 {
            return Err(RigError(format!("nothing was sent from {source}")));
        }
        *outcome = match received.from(source) {
            0 => Outcome::Dropped,
            all if all == sent => Outcome::Passed,
            received => Outcome::Mixed { sent, received },
        };
    }
    Ok(outcomes)
}

/// Sends one datagram from each of many sources, all of which the outside host owns.
///
/// # Errors
/// When one can't be sent.
pub fn one_from_each(scene: &Scene, to: &str, sources: &[String]) -> Rigged<()> {
    let mut command = crate::scene::traffic(&scene.wire.outside);
    command
        .arg("once")
        .arg(format!("{to}:{}", crate::scene::SINK_PORT));
    crate::run::succeed(command.args(sources))?;
    Ok(())
}
