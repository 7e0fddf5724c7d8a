//! The kernel side as the daemon starts it: on which interfaces, told to the log and the trail, and
//! what it still knows when the state is lost.

use std::{convert::Infallible, io, sync::mpsc, time::Duration};

use audit::Journal;
use datapath::{
    Admitted, Attachment, AttachmentMode, AttachmentOrigin, Datapath, DatapathError, Heartbeat,
    Host, Options,
};

use crate::{
    config::KernelConfig,
    lists::{ALLOW, ListError, Lists, RECOVERED, Recovered},
    state::SetAside,
    trail::note,
    watch,
};

/// Why the kernel side could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    #[error(transparent)]
    Kernel(#[from] DatapathError),
    #[error("the system refused randomness: {0}")]
    Randomness(io::Error),
}

/// Documents: interfaces that were added at run time.
pub(crate) const ADDED: &str = "interface";

/// Refuses early what would keep a process from taking over what another one guards.
pub(crate) fn can_take_over(config: &KernelConfig) -> Result<(), DatapathError> {
    let guarded = config.pins.interfaces()?;
    if guarded.is_empty() && !config.required {
        return Ok(());
    }
    datapath::can_start(&config.pins, &config.interfaces)
}

/// Why there is no kernel side, where there is none and the configuration can do without.
///
/// Interfaces that were added at run time are guarded as well; one that isn't there is waited for.
pub(crate) fn start(
    config: Option<KernelConfig>,
    added: &[String],
    lists: &Lists,
    journal: &Journal,
) -> Result<Option<String>, GuardError> {
    let Some(config) = config else {
        let why = "the configuration has no [kernel]";
        tracing::warn!("WORKING WITHOUT THE KERNEL SIDE: {why}; lists are enforced at accept only");
        note(journal, "without_kernel", why);
        return Ok(Some(why.to_owned()));
    };
    let hash_key = || -> Result<[u64; 2], io::Error> { Ok([getrandom::u64()?, getrandom::u64()?]) };
    let hash_key = hash_key().map_err(GuardError::Randomness)?;
    let pins = config.pins.clone();
    let mut interfaces = config.interfaces;
    // One that was added at run time, and is gone or somebody else's now, must not keep the rest from
    // being guarded.
    let mut awaited = Vec::new();
    for interface in added {
        if interfaces.contains(interface) {
            continue;
        }
        match datapath::can_guard(interface, &pins) {
            Ok(()) => interfaces.push(interface.clone()),
            Err(error) => awaited.push((interface, error)),
        }
    }
    let started = Host::observe(&config.bpffs).check().and_then(|()| {
        lists.start_kernel(Options {
            pins: config.pins,
            interfaces,
            rules: config.rules,
            admitted: Admitted::Pass,
            hash_key,
        })
    });
    match started {
        Ok(()) => {
            lists.with_kernel(|datapath| {
                for (interface, error) in &awaited {
                    datapath.await_interface(interface);
                    tracing::error!(interface, %error, "NOT GUARDED: it will be when it can");
                    let detail = format!("{interface}: {error}");
                    note(journal, "interface_unguarded", &detail);
                }
                tell_attachments(datapath, journal);
            });
            Ok(None)
        }
        Err(error) if config.required => Err(error.into()),
        Err(error) => {
            // What an earlier run attached is attached still, and drops by lists nobody changes.
            let stale = match pins.interfaces().unwrap_or_default() {
                guarded if guarded.is_empty() => String::new(),
                guarded => format!(
                    "; AN EARLIER RUN STILL DROPS ON {} BY ITS OWN LISTS: run `portcullis detach`",
                    guarded.join(", ")
                ),
            };
            let why = format!("{error}{stale}");
            tracing::error!(
                "WORKING WITHOUT THE KERNEL SIDE: {why}; lists are enforced at accept only"
            );
            note(journal, "without_kernel", &why);
            Ok(Some(why))
        }
    }
}

fn tell_attachments(datapath: &mut Datapath, journal: &Journal) {
    for attachment in datapath.attachments() {
        tell_attachment(attachment, journal);
    }
    for interface in datapath.released() {
        tracing::warn!(interface, "released: not in kernel.interfaces any more");
        note(journal, "release", interface);
    }
}

/// Tells how an interface is guarded, and what keeps it from being guarded well.
pub(crate) fn tell_attachment(attachment: &Attachment, journal: &Journal) {
    let interface = &attachment.interface;
    let mode = attachment.mode.name();
    let program = attachment.program_id;
    let (step, how) = match &attachment.origin {
        AttachmentOrigin::Adopted => (
            "adopt",
            "took over the attachment of an earlier run".to_owned(),
        ),
        AttachmentOrigin::Fresh => ("attach", "attached".to_owned()),
        AttachmentOrigin::FreshAfterRefusal(why) => (
            "attach",
            format!("attached; native mode was refused: {why}"),
        ),
    };
    if attachment.mode == AttachmentMode::Generic {
        tracing::warn!(
            interface,
            mode,
            program,
            "{how}: GENERIC XDP IS SLOW, use a driver with native XDP"
        );
    } else {
        tracing::info!(interface, mode, program, "{how}");
    }
    note(
        journal,
        step,
        &format!("{interface}: {mode} XDP, program {program}: {how}"),
    );
    for obstacle in &attachment.obstacles {
        tracing::warn!(interface, "{obstacle}");
        note(journal, "obstacle", &format!("{interface}: {obstacle}"));
    }
}

/// What gives signs of life, and how long the kernel goes without, where it waits for them.
pub(crate) fn heartbeat(datapath: &mut Datapath) -> Option<(Heartbeat, Duration)> {
    let after = datapath.rules().fail_open_after?;
    Some((datapath.take_heartbeat()?, after))
}

/// Gives signs of life to what an earlier run left attached, until what this returns is dropped.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn beat_for_an_earlier_run(
    kernel: &KernelConfig,
) -> io::Result<Option<mpsc::Sender<Infallible>>> {
    let Some(after) = kernel.rules.fail_open_after else {
        return Ok(None);
    };
    match Heartbeat::pinned(&kernel.pins) {
        Ok(Some(heartbeat)) => watch::beat(heartbeat, after).map(Some),
        Ok(None) => Ok(None),
        Err(error) => {
            tracing::warn!(%error, "no sign of life before the start is done");
            Ok(None)
        }
    }
}

/// Tells of a state that was damaged, and puts back what the kernel still knows of it.
pub(crate) fn recover(
    set_aside: &SetAside,
    kernel: Option<&KernelConfig>,
    lists: &Lists,
    journal: &Journal,
) {
    let SetAside { path, why } = set_aside;
    let claims = kernel.map_or(Ok(Vec::new()), |kernel| {
        datapath::pinned_claims(&kernel.pins)
    });
    let recovered = claims
        .map_err(ListError::from)
        .and_then(|claims| lists.recover(&claims));
    let put_back = match recovered {
        Ok(Recovered { blocked, trusted }) => format!(
            "{blocked} blocked prefixes of the kernel's tables are on list {RECOVERED:?}, {trusted} trusted ones on {ALLOW:?}"
        ),
        Err(error) => format!("nothing could be put back: {error}"),
    };
    tracing::error!(
        "THE STATE WAS DAMAGED ({why}); it is kept as {}, and a new one is begun: {put_back}",
        path.display()
    );
    let detail = format!("{why}; kept as {}; {put_back}", path.display());
    note(journal, "state_damaged", &detail);
}
