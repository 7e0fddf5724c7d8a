//! Which XDP program an interface runs, asked of `ip`, and by which link, asked of its pin.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use serde_json::Value;

use crate::{
    netns::Namespace,
    run::{RigError, Rigged},
};

/// An attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnInterface {
    /// Kernel's id of the program.
    pub program_id: u64,
    /// In the driver.
    pub native: bool,
}

/// What the interface runs.
///
/// # Errors
/// When there is no such interface.
pub fn xdp_on(namespace: &Namespace, interface: &str) -> Rigged<Option<OnInterface>> {
    let printed = namespace.ip(&format!("-j -d link show dev {interface}"))?;
    let told: Value = serde_json::from_str(&printed)
        .map_err(|error| RigError(format!("{printed:?}: {error}")))?;
    let xdp = &told[0]["xdp"];
    // XDP_ATTACHED_DRV of linux/if_link.h.
    let native = xdp["mode"] == 1;
    Ok(xdp["prog"]["id"]
        .as_u64()
        .map(|program_id| OnInterface { program_id, native }))
}

/// Kernel's id of a pinned link.
///
/// # Errors
/// When there is none.
pub fn link_id(pin: &Path) -> Rigged<u32> {
    let told = |error: &dyn std::fmt::Display| RigError(format!("{}: {error}", pin.display()));
    let link = PinnedLink::from_pin(pin).map_err(|error| told(&error))?;
    let info = FdLink::from(link).info().map_err(|error| told(&error))?;
    Ok(info.id())
}
