//! The XDP programs that ours is held against, loaded from the benchmark's own object.

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Map, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{Xdp, XdpMode},
};
use ipnet::IpNet;
use portcullis_tests::loaded::Failure;

use crate::{
    lanes::Lane,
    subject::{Judge, Seen},
};

/// A program of the bench object on a lane.
pub(crate) struct Rival {
    ebpf: Ebpf,
    counts: bool,
}

impl Rival {
    /// Attaches a program of this name in the driver.
    ///
    /// # Errors
    /// When the kernel refuses the object or the attachment, or hasn't compiled the program.
    pub(crate) fn attach(object: &[u8], name: &str, lane: &Lane) -> Result<Self, Failure> {
        let mut ebpf = EbpfLoader::new().load(object)?;
        let program: &mut Xdp = ebpf
            .program_mut(name)
            .ok_or_else(|| format!("the bench object has no program `{name}`"))?
            .try_into()?;
        program.load()?;
        program.attach(&lane.inner, XdpMode::Driver)?;
        if program.info()?.size_jitted() == 0 {
            return Err(format!("the kernel interprets `{name}`: its JIT compiler is off").into());
        }
        let counts = name != "empty";
        Ok(Self { ebpf, counts })
    }

    /// Fills the trie of the textbook design.
    ///
    /// # Errors
    /// When the kernel refuses a write.
    pub(crate) fn list(&mut self, entries: impl Iterator<Item = IpNet>) -> Result<(), Failure> {
        let mut trie: LpmTrie<&mut MapData, u32, u32> = map(&mut self.ebpf, "TRIE")?.try_into()?;
        for entry in entries {
            if let IpNet::V4(prefix) = entry {
                let bits = u32::from(prefix.network()).to_be();
                trie.insert(&Key::new(u32::from(prefix.prefix_len()), bits), 1, 0)?;
            }
        }
        Ok(())
    }
}

impl Judge for Rival {
    fn seen(&mut self) -> Result<Option<Seen>, Failure> {
        if !self.counts {
            return Ok(None);
        }
        let counters: PerCpuArray<&mut MapData, u64> = map(&mut self.ebpf, "SEEN")?.try_into()?;
        let sum = |slot: u32| counters.get(&slot, 0).map(|cpus| cpus.iter().sum::<u64>());
        Ok(Some(Seen {
            clean: sum(0)?,
            blocked: sum(1)?,
            limited: sum(2)?,
            other: sum(3)?,
        }))
    }
}

/// A map of the bench object.
///
/// # Errors
/// When there is none of this name.
pub(crate) fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, Failure> {
    ebpf.map_mut(name)
        .ok_or_else(|| format!("the bench object has no map `{name}`").into())
}
