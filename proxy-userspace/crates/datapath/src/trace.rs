//! Tracing one source: the program that tells of each stage takes the other's place for a while.
//!
//! The swap is one atomic update of each interface's link, there and back, so that no packet goes
//! unjudged and the normal program carries nothing of this. Both share every map.

use std::{
    net::IpAddr,
    os::fd::AsFd as _,
    path::Path,
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::Array,
    programs::{
        ProgramError, Xdp,
        links::{FdLink, PinnedLink},
    },
};
use aya_log::EbpfLogger;
use aya_obj::{Object, programs::XdpAttachType};
use ipnet::IpNet;
use log::{Log, Metadata, Record};
use proxy_common::TraceTarget;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    attach,
    error::{DatapathError, While as _},
    object::embedded_trace_object,
    pins::{Pins, is_pinned},
    start::{Datapath, despite_signals},
};

/// Maps of the traced program alone: they end with the trace.
const OWN_MAPS: [&str; 3] = ["TRACE_TARGET", "TRACE_TAT", "AYA_LOGS"];

/// A running trace: what the stages tell.
pub struct Trace {
    logger: EbpfLogger<Told>,
    lines: Receiver<String>,
    // The program's maps, which the logger reads, belong to it.
    _ebpf: Ebpf,
}

/// Hands on what aya-log reads.
struct Told(Sender<String>);

impl Log for Told {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The other end goes away only together with this one.
        let _ = self.0.send(record.args().to_string());
    }

    fn flush(&self) {}
}

impl Trace {
    /// Waits until a stage has told something, or the time is over, and returns it line by line.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when the ring can't be polled.
    pub fn next_lines(&mut self, patience: Duration) -> Result<Vec<String>, DatapathError> {
        let patience = Timespec::try_from(patience).ok();
        let mut ring = [PollFd::from_borrowed_fd(self.logger.as_fd(), PollFlags::IN)];
        match poll(&mut ring, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(std::io::Error::from(error)).while_trying_to("poll the trace");
            }
        }
        self.logger.flush();
        Ok(self.lines.try_iter().collect())
    }
}

impl Datapath {
    /// Swaps in the traced program, which tells of packets from `target`.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when it can't be loaded or swapped in; what ran before runs on.
    pub fn start_trace(&mut self, target: IpNet) -> Result<Trace, DatapathError> {
        let bytes = embedded_trace_object()?;
        let object = Object::parse(bytes)
            .map_err(aya::EbpfError::ParseError)
            .while_trying_to("parse the traced program")?;
        let mut loader = EbpfLoader::new();
        for name in object.maps.keys() {
            if is_pinned(name) && !OWN_MAPS.contains(&name.as_str()) {
                loader.map_pin_path(name, self.pins().map(name));
            }
        }
        let mut ebpf = loader
            .load(bytes)
            .while_trying_to("load the trace's maps")?;
        let mut wanted: Array<_, TraceTarget> = ebpf
            .map_mut("TRACE_TARGET")
            .ok_or_else(|| aya::maps::MapError::InvalidName {
                name: "TRACE_TARGET".to_owned(),
            })
            .and_then(Array::try_from)
            .while_trying_to("open the trace's target")?;
        wanted
            .set(0, trace_target(target), 0)
            .while_trying_to("set the trace's target")?;
        let (sender, lines) = mpsc::channel();
        let logger = EbpfLogger::init_with_logger(&mut ebpf, Told(sender))
            .map_err(|error| std::io::Error::other(error.to_string()))
            .while_trying_to("open the trace's ring")?;
        let program: &mut Xdp = ebpf
            .program_mut("portcullis_trace")
            .ok_or(ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .while_trying_to("find the traced program")?;
        despite_signals(|| program.load()).while_trying_to("load the traced program")?;
        if let Err(error) = self.swap_in(program) {
            // Some interfaces may run it already; the first error says more than this one's.
            let _ = self.end_trace();
            return Err(error);
        }
        Ok(Trace {
            logger,
            lines,
            _ebpf: ebpf,
        })
    }

    /// Swaps the normal program back in.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when that fails; the traced program then goes on guarding.
    pub fn end_trace(&mut self) -> Result<(), DatapathError> {
        let mut program = Xdp::from_pin(self.pins().program(), XdpAttachType::Interface)
            .while_trying_to("open the pinned program")?;
        self.swap_in(&mut program)
    }

    fn swap_in(&mut self, program: &mut Xdp) -> Result<(), DatapathError> {
        let program_id = program
            .info()
            .while_trying_to("read the loaded program")?
            .id();
        let pins: Pins = self.pins().clone();
        let mut first_error = None;
        for attachment in self.attachments_mut() {
            // One interface that is gone must not keep the others from their program.
            match swap_pinned(program, &pins.link(&attachment.interface)) {
                Ok(()) => attachment.program_id = program_id,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

fn swap_pinned(program: &mut Xdp, pin: &Path) -> Result<(), DatapathError> {
    let link = PinnedLink::from_pin(pin).while_trying_to("open a pinned link")?;
    attach::swap(program, FdLink::from(link))
}

fn trace_target(target: IpNet) -> TraceTarget {
    let (address, length) = match target.network() {
        IpAddr::V4(address) => (
            address.to_ipv6_mapped().to_bits(),
            96 + u32::from(target.prefix_len()),
        ),
        IpAddr::V6(address) => (address.to_bits(), u32::from(target.prefix_len())),
    };
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
    TraceTarget {
        address: halves(address & mask),
        mask: halves(mask),
    }
}
