//! Do the replies to a connection arrive that the guarded host itself opens?

use std::process::Stdio;

use crate::{
    run::{RigError, Rigged, succeed},
    scene::{Scene, traffic},
    traffic::await_counting,
};

const PORT: u16 = 7_000;

/// Whether the guarded host can open a TCP connection to an address outside.
///
/// # Errors
/// When either end can't be run.
pub fn can_connect_to(scene: &Scene, outside: &str) -> Rigged<bool> {
    let at = format!("{outside}:{PORT}");
    let mut listener = traffic(&scene.wire.outside)
        .args(["accept", &at])
        .stderr(Stdio::piped())
        .spawn()?;
    let connected = await_counting(&mut listener)
        .and_then(|()| succeed(traffic(&scene.wire.edge).args(["connect", &at])));
    listener.kill()?;
    listener.wait()?;
    let printed = connected?;
    printed
        .trim()
        .parse()
        .map_err(|_| RigError(format!("a client printed {printed:?}")))
}
