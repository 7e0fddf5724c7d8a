//! What scenes have in common: rules and lists that hold while they play.

use datapath::{Claim, ListId, Plan, Rules};
use ipnet::IpNet;
use portcullis_tests::loaded::Failure;
use proxy_common::{Gcra, Mode, Reason};

use crate::{Kernel, Scene};

pub(crate) const fn scene(
    sentence: &'static str,
    play: fn(&mut Kernel) -> Result<(), Failure>,
) -> Scene {
    Scene { sentence, play }
}

/// Would be dropped for good, if its list were enforced.
pub(crate) const WATCHED: Claim = Claim::Blocked {
    until_ns: None,
    mode: Mode::Monitor,
};

/// One unit an hour after a burst, so that the time a test takes earns nothing back.
pub(crate) const fn hourly(burst: u64) -> Gcra {
    const HOUR_NS: u64 = 3_600_000_000_000;
    Gcra {
        emission: HOUR_NS << 10,
        tolerance_ns: HOUR_NS * (burst - 1),
    }
}

/// Plays with these rules in force, and lifts them again.
pub(crate) fn ruled(
    kernel: &mut Kernel,
    rules: Rules,
    play: impl FnOnce(&mut Kernel) -> Result<(), Failure>,
) -> Result<(), Failure> {
    kernel.loaded.datapath.set_rules(&rules)?;
    let played = play(kernel);
    kernel.loaded.datapath.set_rules(&Rules::NONE)?;
    played
}

/// Plays with more on the lists, and takes it off again; fails unless the tables then hold exactly
/// the truth.
pub(crate) fn while_listed(
    kernel: &mut Kernel,
    claims: &[(&str, ListId, Claim)],
    play: impl FnOnce(&mut Kernel) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let apply = |kernel: &mut Kernel, plans: Vec<Plan>| {
        let tables = kernel.loaded.datapath.tables();
        tables.apply(&Plan::all(plans), &kernel.truth)
    };
    let prefix = |text: &str| text.parse::<IpNet>();
    let mut plans = Vec::new();
    for (text, list, claim) in claims {
        plans.push(kernel.truth.put(prefix(text)?, *list, *claim));
    }
    apply(kernel, plans)?;
    let played = play(kernel);
    let mut plans = Vec::new();
    for (text, list, _) in claims {
        plans.push(kernel.truth.remove(prefix(text)?, *list));
    }
    apply(kernel, plans)?;
    match kernel.loaded.datapath.tables().differences(&kernel.truth)? {
        0 => played,
        differing => Err(format!("{differing} words differ from the truth").into()),
    }
}

/// Runs each frame in turn and wants its reason.
pub(crate) fn in_turn(kernel: &Kernel, steps: &[(&[u8], Reason)]) -> Result<(), Failure> {
    for (number, (frame, expected)) in steps.iter().enumerate() {
        kernel
            .loaded
            .expect(frame, *expected)
            .map_err(|error| format!("frame {}: {error}", number + 1))?;
    }
    Ok(())
}
