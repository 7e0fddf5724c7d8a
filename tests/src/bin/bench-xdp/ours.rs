//! Portcullis on lanes: the only file of the benchmark that knows `datapath`.

use std::{
    collections::HashSet,
    fs,
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
    listed: HashSet<IpNet>,
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
            listed: HashSet::new(),
            _bpffs: bpffs,
        })
    }

    /// Makes the list hold exactly these entries, and the kernel agree.
    ///
    /// # Errors
    /// When the kernel refuses a write.
    pub(crate) fn set_list(&mut self, entries: HashSet<IpNet>) -> Result<(), Failure> {
        let added: Vec<&IpNet> = entries.difference(&self.listed).collect();
        let removed: Vec<&IpNet> = self.listed.difference(&entries).collect();
        let plan = if added.len() + removed.len() > MANY_EDITS {
            for entry in added {
                self.truth.set(*entry, LIST, Some(BLOCKED));
            }
            for entry in removed {
                self.truth.set(*entry, LIST, None);
            }
            Plan::rebuild()
        } else {
            let added = added.into_iter().map(|entry| (entry, true));
            let edits = added.chain(removed.into_iter().map(|entry| (entry, false)));
            Plan::all(
                edits
                    .map(|(entry, is_added)| match is_added {
                        true => self.truth.put(*entry, LIST, BLOCKED),
                        false => self.truth.remove(*entry, LIST),
                    })
                    .collect(),
            )
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

/// Reads a list: an address or prefix at the start of each line, what follows a blank or `#` is
/// not for us.
fn read_list(file: &Path) -> Result<HashSet<IpNet>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut entries = HashSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let word = line.split(['#', '\t', ' ']).next().unwrap_or_default();
        if word.is_empty() {
            continue;
        }
        let entry = word
            .parse::<IpNet>()
            .or_else(|_| word.parse().map(|address: std::net::IpAddr| address.into()))
            .map_err(|error| format!("{}:{number}: {word}: {error}", file.display()))?;
        entries.insert(entry);
    }
    Ok(entries)
}
