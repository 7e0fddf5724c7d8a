//! What can go wrong between userspace and the kernel, and what to do about each.

use std::{fmt, io, path::PathBuf};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};
use proxy_common::table::MOST_CELLS;

use crate::{driver::Obstacle, owner::InterfaceOwner};

/// An error of the kernel side. All but [`DatapathError::Kernel`] are the operator's to mend, and
/// each says how.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The process lacks the rights.
    #[error(
        "not root (uid {uid}): loading and attaching XDP programs needs root; start portcullis with sudo or from its systemd unit"
    )]
    NotRoot {
        /// Effective user id of the process.
        uid: u32,
    },

    /// The running kernel is older than the oldest supported.
    #[error(
        "kernel {found} is too old: Portcullis needs Linux {needed} or newer; upgrade the kernel, or leave out [kernel] to run without XDP"
    )]
    KernelTooOld {
        /// Release of the running kernel.
        found: String,
        /// Oldest release that works.
        needed: &'static str,
    },

    /// There is no BPF filesystem where one is needed.
    #[error(
        "no BPF filesystem at {}: pins would not outlive the daemon; mount one with `mount -t bpf bpf {}`, or set kernel.bpffs to where one is mounted",
        path.display(),
        path.display()
    )]
    NoBpffs {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// This binary was built without the eBPF toolchain.
    #[error(
        "this binary holds no eBPF program (it was built by plain cargo, which embeds a stub); build it with `cargo xtask build`"
    )]
    StubObject,

    /// No interface of that name.
    #[error("no network interface named {name:?}; this host has: {}", existing.join(", "))]
    UnknownInterface {
        /// As configured.
        name: String,
        /// Those that exist.
        existing: Vec<String>,
    },

    /// Another program sits on the interface.
    #[error(
        "{interface} already runs {owner}; Portcullis never replaces a stranger's program: stop what owns it (`bpftool net show dev {interface}`, `ip link set dev {interface} xdp off`) or take {interface} out of kernel.interfaces"
    )]
    InterfaceOwned {
        /// The interface.
        interface: String,
        /// Who is there.
        owner: InterfaceOwner,
    },

    /// The driver took neither a native nor a generic program as a BPF link.
    #[error(
        "{interface} takes no XDP program as a BPF link: {source}{}",
        suspected(suspects)
    )]
    CantAttach {
        /// The interface.
        interface: String,
        /// What the kernel said last.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What may be in the way, and how to mend it.
        suspects: Vec<Obstacle>,
    },

    /// Everything was taken off while the daemon ran.
    #[error(
        "`portcullis detach` took the program off every interface; start portcullis again to guard"
    )]
    Detached,

    /// Pinned objects of another version are still attached.
    #[error(
        "the pins in {} can't be adopted: {difference}; run `portcullis detach` and start again (in between, every packet passes)",
        path.display()
    )]
    IncompatiblePins {
        /// The pin directory.
        path: PathBuf,
        /// What doesn't match.
        difference: String,
    },

    /// No table holds so many cells.
    #[error(
        "the lists come to {cells} table entries, more than a table holds ({}); take the largest list out, or its long prefixes",
        MOST_CELLS
    )]
    ListsTooLarge {
        /// Entries of one address family.
        cells: u64,
    },

    /// A pin directory or pin could not be made, read or removed.
    #[error("can't {action} {}: {source}", path.display())]
    Pin {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The kernel refused something it should have taken.
    #[error("the kernel refused to {action}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn suspected(suspects: &[Obstacle]) -> String {
    suspects.iter().map(|it| format!("; {it}")).collect()
}

impl DatapathError {
    pub(crate) fn kernel(action: &'static str) -> impl FnOnce(KernelRefusal) -> Self {
        move |refusal| Self::Kernel {
            action,
            source: refusal.0,
        }
    }
}

/// Any of aya's errors, so that one closure maps them all.
pub(crate) struct KernelRefusal(Box<dyn std::error::Error + Send + Sync>);

macro_rules! kernel_refusal_from {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for KernelRefusal {
            fn from(error: $error) -> Self {
                Self(Box::new(error))
            }
        }
    )+};
}

kernel_refusal_from!(
    EbpfError,
    MapError,
    PinError,
    aya::programs::links::LinkError,
    io::Error
);

impl From<ProgramError> for KernelRefusal {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError { .. } => Self(Box::new(RefusedLoad(error))),
            other => Self(Box::new(other)),
        }
    }
}

/// A program that the verifier refused. Its log has a line for each instruction; an operator is
/// told the end of it, where the reason stands, and `Debug` has all of it.
#[derive(Debug)]
struct RefusedLoad(ProgramError);

/// Lines of the verifier's log that an operator is told.
const LOG_LINES_TOLD: usize = 8;

impl fmt::Display for RefusedLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProgramError::LoadError {
            io_error,
            verifier_log,
        } = &self.0
        else {
            return self.0.fmt(f);
        };
        write!(f, "{io_error}")?;
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().collect();
        if !lines.is_empty() {
            let told = &lines[lines.len().saturating_sub(LOG_LINES_TOLD)..];
            write!(f, "; the verifier's log ends:\n{}", told.join("\n"))?;
        }
        Ok(())
    }
}

impl std::error::Error for RefusedLoad {}

/// Names what was being done when the kernel refused.
pub(crate) trait While<T> {
    fn while_trying_to(self, action: &'static str) -> Result<T, DatapathError>;
}

impl<T, E: Into<KernelRefusal>> While<T> for Result<T, E> {
    fn while_trying_to(self, action: &'static str) -> Result<T, DatapathError> {
        self.map_err(Into::into)
            .map_err(DatapathError::kernel(action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_told_the_end_of_the_verifiers_log() {
        let log: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        let refused: Result<(), _> = Err(ProgramError::LoadError {
            io_error: io::ErrorKind::PermissionDenied.into(),
            verifier_log: aya_obj::VerifierLog::new(log),
        });
        let message = refused
            .while_trying_to("load the XDP program")
            .expect_err("refused")
            .to_string();
        assert!(
            message.starts_with("the kernel refused to load the XDP program: permission denied"),
            "{message}"
        );
        assert!(message.ends_with("line 4998\nline 4999"), "{message}");
        assert!(!message.contains("line 4000"), "{message}");
    }
}
