//! Portcullis on lanes: the only file of the benchmark that knows `datapath`.

use std::{
    cmp::Ordering,
    fs,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::{
    TestRun as _, TestRunOptions,
    maps::MapData,
    programs::{ProgramInfo, Xdp},
};
use aya_obj::programs::XdpAttachType;
use datapath::{
    Admitted, AttachmentMode, Claim, Datapath, ListId, MANY_EDITS, Options, Plan, Rules, Truth,
};
use ipnet::IpNet;
use portcullis_tests::{
    bpffs::Bpffs,
    loaded::{Failure, HASH_KEY},
};
use proxy_common::{Gcra, Limit, LimitSetting, Mode, Reason};

use crate::{
    lanes::Lane,
    subject::{Judge, Seen},
};

const LIST: ListId = 1;
const BLOCKED: Claim = Claim::BLOCKED;

/// `XDP_DROP` of linux/bpf.h.
const XDP_DROP: u32 = 1;

/// A limit on every source's packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Packets.
    pub(crate) per_second: u64,
    /// Packets at once.
    pub(crate) burst: u64,
}

/// What becomes of packets that are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// Dropped once they are counted.
    Nowhere,
    /// The network stack gets them.
    ToTheStack,
}

/// A running kernel side with maps of its own.
pub(crate) struct Ours {
    datapath: Datapath,
    program: Xdp,
    truth: Truth,
    /// In order.
    listed: Vec<IpNet>,
    // Last: what is pinned in it must be let go of before it is unmounted.
    _bpffs: Bpffs,
}

impl Ours {
    /// Starts with an empty list, natively attached to these lanes.
    ///
    /// # Errors
    /// When the start fails, an attachment is generic or the program isn't compiled.
    pub(crate) fn start(rate: Rate, onward: Onward, lanes: &[&Lane]) -> Result<Self, Failure> {
        let bpffs = Bpffs::mount()?;
        let source_rate = Gcra::per_second(rate.per_second, rate.burst)
            .ok_or_else(|| format!("no limit can be {rate:?}"))?;
        let options = Options {
            pins: bpffs.pins(),
            interfaces: lanes.iter().map(|lane| lane.inner.clone()).collect(),
            rules: Rules::NONE.with(
                Limit::SourcePackets,
                LimitSetting::new(source_rate, Mode::Enforce),
            ),
            hash_key: HASH_KEY,
            admitted: match onward {
                Onward::Nowhere => Admitted::Drop,
                Onward::ToTheStack => Admitted::Pass,
            },
        };
        let datapath = Datapath::start(options, &Truth::default())?;
        for attachment in datapath.attachments() {
            if attachment.mode != AttachmentMode::Native {
                return Err(format!("{} isn't attached natively", attachment.interface).into());
            }
        }
        let pin = datapath.pins().root().join("program");
        let program = Xdp::from_pin(pin, XdpAttachType::Interface)?;
        if program.info()?.size_jitted() == 0 {
            return Err("the kernel interprets our program: its JIT compiler is off".into());
        }
        Ok(Self {
            datapath,
            program,
            truth: Truth::default(),
            listed: Vec::new(),
            _bpffs: bpffs,
        })
    }

    /// Makes the list hold exactly these entries, and the kernel agree.
    ///
    /// # Errors
    /// When the kernel refuses a write.
    pub(crate) fn set_list(&mut self, mut entries: Vec<IpNet>) -> Result<(), Failure> {
        entries.sort_unstable();
        entries.dedup();
        let edits = difference(&self.listed, &entries);
        let plan = if edits.len() > MANY_EDITS {
            let plan = Plan::rebuild_for(edits.iter().map(|(entry, _)| *entry));
            for (entry, is_added) in edits {
                self.truth.set(entry, LIST, is_added.then_some(BLOCKED));
            }
            plan
        } else {
            let edits = edits.into_iter().map(|(entry, is_added)| match is_added {
                true => self.truth.put(entry, LIST, BLOCKED),
                false => self.truth.remove(entry, LIST),
            });
            Plan::all(edits.collect())
        };
        self.datapath.tables().apply(&plan, &self.truth)?;
        self.listed = entries;
        Ok(())
    }

    /// Makes the list hold exactly the addresses of a file, one a line.
    ///
    /// # Errors
    /// When the file can't be read or parsed, or the kernel refuses a write.
    pub(crate) fn set_list_from(&mut self, file: &Path) -> Result<(), Failure> {
        self.set_list(read_list(file)?)
    }

    /// Puts one entry in force.
    ///
    /// # Errors
    /// When the kernel refuses a write.
    pub(crate) fn add(&mut self, entry: IpNet) -> Result<(), Failure> {
        let plan = self.truth.put(entry, LIST, BLOCKED);
        self.datapath.tables().apply(&plan, &self.truth)?;
        Ok(())
    }

    /// Takes one entry back.
    ///
    /// # Errors
    /// When the kernel refuses a write.
    pub(crate) fn remove(&mut self, entry: IpNet) -> Result<(), Failure> {
        let plan = self.truth.remove(entry, LIST);
        self.datapath.tables().apply(&plan, &self.truth)?;
        Ok(())
    }

    /// Entries in force.
    pub(crate) fn entries(&self) -> usize {
        self.truth.len()
    }

    /// Whether the program drops this frame. Tells nothing when it has nowhere to let frames go.
    ///
    /// # Errors
    /// When the kernel refuses the run.
    pub(crate) fn drops(&self, frame: &[u8]) -> Result<bool, Failure> {
        let run = self.program.test_run(TestRunOptions {
            data_in: Some(frame),
            ..TestRunOptions::new()
        })?;
        Ok(run.return_value == XDP_DROP)
    }

    /// Memory that the kernel holds for all maps of the program.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub(crate) fn kernel_bytes(&mut self) -> Result<u64, Failure> {
        let info: ProgramInfo = self.program.info()?;
        // The tables are inner maps, which the program's own list of maps leaves out.
        let mut bytes = self.datapath.tables().bytes();
        for id in info.map_ids()?.unwrap_or_default() {
            let map = MapData::from_id(id)?;
            let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
            let told = fs::read_to_string(&path)?;
            bytes += told
                .lines()
                .find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok())
                .ok_or_else(|| format!("{path} has no memlock: {told}"))?;
        }
        Ok(bytes)
    }
}

impl Judge for Ours {
    fn seen(&mut self) -> Result<Option<Seen>, Failure> {
        let mut seen = Seen::default();
        for count in self.datapath.counters()? {
            *match count.reason {
                Reason::Clean => &mut seen.clean,
                Reason::Blocked => &mut seen.blocked,
                Reason::SourcePackets => &mut seen.limited,
                _ => &mut seen.other,
            } += count.packets;
        }
        Ok(Some(seen))
    }
}

/// What must be added (`true`) to a sorted list or taken off it to make it another one.
fn difference(before: &[IpNet], after: &[IpNet]) -> Vec<(IpNet, bool)> {
    let mut edits = Vec::new();
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return edits,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        if order.is_le() {
            let gone = before.next().filter(|_| order.is_lt());
            edits.extend(gone.map(|entry| (*entry, false)));
        }
        if order.is_ge() {
            let fresh = after.next().filter(|_| order.is_gt());
            edits.extend(fresh.map(|entry| (*entry, true)));
        }
    }
}

/// Reads a list: an address or prefix at the start of each line, what follows a blank or `#` is
/// not for us.
fn read_list(file: &Path) -> Result<Vec<IpNet>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let word = line.split(['#', '\t', ' ']).next().unwrap_or_default();
        if word.is_empty() {
            continue;
        }
        let entry = match word.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => word
                .parse::<IpNet>()
                .map_err(|error| format!("{}:{number}: {word}: {error}", file.display()))?,
        };
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_lead_from_one_list_to_the_other_and_name_nothing_else() {
        let list = |hosts: &[u8]| -> Vec<IpNet> {
            hosts
                .iter()
                .map(|host| IpNet::from(IpAddr::from([192, 0, 2, *host])))
                .collect()
        };
        let (before, after) = (list(&[1, 2, 3, 5, 9]), list(&[2, 4, 5, 10, 11]));
        let (gone, fresh): (Vec<_>, Vec<_>) = difference(&before, &after)
            .into_iter()
            .partition(|(_, is_added)| !is_added);
        let entries = |edits: Vec<(IpNet, bool)>| -> Vec<IpNet> {
            edits.into_iter().map(|(entry, _)| entry).collect()
        };
        assert_eq!(entries(gone), list(&[1, 3, 9]));
        assert_eq!(entries(fresh), list(&[4, 10, 11]));
        assert_eq!(difference(&before, &before), []);
    }
}
