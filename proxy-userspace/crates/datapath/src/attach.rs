//! One interface: adopt our link, attach natively or else generically, name who is in the way.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketType,
        netdevice::{index_to_name, name_to_index},
        socket,
    },
};

use crate::{
    driver::{Driver, Obstacle},
    error::{DatapathError, While as _},
    netlink,
    owner::InterfaceOwner,
    pins::{Pins, pin_error, remove_pin},
};

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentMode {
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// In the network stack, because the driver has no native mode: correct, but slower.
    Generic,
}

impl AttachmentMode {
    /// `native` or `generic`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// How an attachment came about at this start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachmentOrigin {
    /// The link of an earlier run got this run's program, atomically.
    Adopted,
    /// There was none.
    Fresh,
    /// There was none, and native mode was refused for this reason.
    FreshAfterRefusal(String),
}

/// A guarded interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface.
    pub interface: String,
    /// Its index in this network namespace.
    pub ifindex: u32,
    /// Where the program runs.
    pub mode: AttachmentMode,
    /// Kernel's id of the program.
    pub program_id: u32,
    /// How it came about.
    pub origin: AttachmentOrigin,
    /// What keeps it from running as well as it could, and how to mend that.
    pub obstacles: Vec<Obstacle>,
}

impl Attachment {
    /// Whether the interface still runs the program: `portcullis detach`, or the interface's end,
    /// may have come in between.
    pub fn in_force(&self) -> bool {
        netlink::xdp_on(self.ifindex)
            .is_ok_and(|xdp| xdp.is_some_and(|xdp| xdp.program_id == self.program_id))
    }
}

/// An interface that is free for us, or ours already.
pub(crate) struct Candidate {
    interface: String,
    ifindex: u32,
    /// A link of an earlier run that still holds this very interface.
    ours: Option<FdLink>,
}

/// Looks at an interface without changing it.
pub(crate) fn inspect(interface: &str, pins: &Pins) -> Result<Candidate, DatapathError> {
    let ifindex = index_of(interface)?;
    let present = netlink::xdp_on(ifindex).while_trying_to("ask for the interface's program")?;
    let pin = pins.link(interface);
    let pinned = fs::exists(&pin).map_err(|source| pin_error("look for", &pin, source))?;
    let mut candidate = Candidate {
        interface: interface.to_owned(),
        ifindex,
        ours: None,
    };
    if pinned {
        let link = FdLink::from(PinnedLink::from_pin(&pin).while_trying_to("open a pinned link")?);
        let info = link.info().while_trying_to("read a pinned link")?;
        // Otherwise the link outlived an interface of this name that went away.
        if present.is_some_and(|xdp| xdp.program_id == info.program_id()) {
            candidate.ours = Some(link);
            return Ok(candidate);
        }
    }
    match present {
        None => Ok(candidate),
        Some(xdp) => Err(owned(interface, xdp.program_id)),
    }
}

/// Gives a pinned link another program, in one atomic step.
pub(crate) fn swap(program: &mut Xdp, link: FdLink) -> Result<(), DatapathError> {
    let link = XdpLink::try_from(link).while_trying_to("adopt a link")?;
    let id = program
        .attach_to_link(link)
        .while_trying_to("swap the program of a link")?;
    // Only the pin keeps the link from here on.
    drop(program.take_link(id).while_trying_to("adopt a link")?);
    Ok(())
}

/// Puts `program` on the interface and pins the link.
pub(crate) fn attach(
    candidate: Candidate,
    program: &mut Xdp,
    pins: &Pins,
) -> Result<Attachment, DatapathError> {
    let Candidate {
        interface,
        ifindex,
        ours,
    } = candidate;
    let program_id = program
        .info()
        .while_trying_to("read the loaded program")?
        .id();
    let driver = Driver::observe(&interface);
    let origin = match ours {
        Some(link) => {
            swap(program, link)?;
            AttachmentOrigin::Adopted
        }
        None => {
            let pin = pins.link(&interface);
            remove_pin(&pin)?;
            let (link, refusal) = attach_fresh(&interface, ifindex, program, &driver)?;
            drop(link.pin(&pin).while_trying_to("pin a link")?);
            refusal.map_or(AttachmentOrigin::Fresh, AttachmentOrigin::FreshAfterRefusal)
        }
    };
    let mode = match netlink::xdp_on(ifindex).while_trying_to("ask for the interface's program")? {
        Some(xdp) if xdp.native => AttachmentMode::Native,
        _ => AttachmentMode::Generic,
    };
    let mut obstacles = match mode {
        AttachmentMode::Native => driver.obstacles(&interface),
        AttachmentMode::Generic => driver.suspects(&interface),
    };
    obstacles.extend(driver.bottleneck(&interface));
    Ok(Attachment {
        interface,
        ifindex,
        mode,
        program_id,
        origin,
        obstacles,
    })
}

/// The program that a pinned link holds on its interface, if it still does.
pub(crate) fn held_by(pin: &Path) -> Option<u32> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    Some(link.info().ok()?.program_id())
}

/// Waits until the interface no longer runs the program of a link whose last pin was removed.
/// bpffs lets go of what was pinned only after an RCU grace period (`bpf_free_inode` in
/// kernel/bpf/inode.c): some milliseconds, in which a start would meet its predecessor as a
/// stranger.
pub(crate) fn await_release(interface: &str, program_id: u32) {
    const LIMIT: Duration = Duration::from_secs(2);
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        let present = index_of(interface)
            .ok()
            .and_then(|ifindex| netlink::xdp_on(ifindex).ok()?);
        if present.is_none_or(|xdp| xdp.program_id != program_id) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A new link, and why it isn't native where it isn't.
fn attach_fresh(
    interface: &str,
    ifindex: u32,
    program: &mut Xdp,
    driver: &Driver,
) -> Result<(FdLink, Option<String>), DatapathError> {
    let mut refusal = None;
    for mode in [XdpMode::Driver, XdpMode::Skb] {
        let error = match program.attach_to_if_index(ifindex, mode) {
            Ok(id) => {
                let link = program.take_link(id).while_trying_to("take a link")?;
                match FdLink::try_from(link) {
                    Ok(link) => return Ok((link, refusal)),
                    // A netlink attachment, which can't be pinned; dropping it detached it.
                    Err(error) => Box::<dyn std::error::Error + Send + Sync>::from(error),
                }
            }
            Err(error) if is_busy(&error) => {
                let present =
                    netlink::xdp_on(ifindex).while_trying_to("ask for the interface's program")?;
                match present {
                    Some(xdp) => return Err(owned(interface, xdp.program_id)),
                    // `dev_xdp_attach` in net/core/dev.c, the only other cause.
                    None => "an interface above it, such as its bridge, runs one already".into(),
                }
            }
            Err(error) => Box::from(error),
        };
        if mode == XdpMode::Skb {
            return Err(DatapathError::CantAttach {
                interface: interface.to_owned(),
                source: error,
                suspects: driver.suspects(interface),
            });
        }
        refusal = Some(root_cause(error.as_ref()));
    }
    unreachable!("the last mode either attaches or returns its error")
}

fn is_busy(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if matches!(error.io_error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::AlreadyExists))
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn owned(interface: &str, program_id: u32) -> DatapathError {
    DatapathError::InterfaceOwned {
        interface: interface.to_owned(),
        owner: InterfaceOwner::of(program_id),
    }
}

pub(crate) fn index_of(interface: &str) -> Result<u32, DatapathError> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(io::Error::from)
        .while_trying_to("open a socket")?;
    name_to_index(socket, interface).map_err(|_unknown| DatapathError::UnknownInterface {
        name: interface.to_owned(),
        existing: interface_names(),
    })
}

/// Whether there is no interface of this index any more. When the system can't tell, such as for want
/// of a file descriptor, it isn't: its program must stay. A renamed one isn't either.
pub(crate) fn is_gone(ifindex: u32) -> bool {
    let name = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map(|socket| index_to_name(socket, ifindex));
    matches!(name, Ok(Err(Errno::NODEV | Errno::NXIO)))
}

/// The name of an interface of this network namespace; its index where it is gone.
pub fn interface_name(ifindex: u32) -> String {
    let name = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| index_to_name(socket, ifindex));
    name.unwrap_or_else(|_| format!("interface {ifindex}"))
}

/// Interfaces of this network namespace; `/proc/self/net` follows it, `/sys/class/net` need not.
pub fn interface_names() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}
