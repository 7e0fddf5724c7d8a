//! Whose program is that?

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use aya::programs::{
    links::{FdLink, PinnedLink},
    loaded_links, loaded_programs,
};

/// Who already runs an XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceOwner {
    /// Kernel's id of the program.
    pub program_id: u32,
    /// Name of the program's function, where it has one.
    pub program_name: Option<String>,
    /// Id of the BPF link that holds it; `None` for a netlink attachment.
    pub link_id: Option<u32>,
    /// Where the link is pinned, so that it outlives its owner.
    pub pin: Option<PathBuf>,
    /// Processes that have the program or the link open: id and name.
    pub processes: Vec<(u32, String)>,
}

impl InterfaceOwner {
    /// What can be found out about a program.
    pub(crate) fn of(program_id: u32) -> Self {
        let program_name = loaded_programs()
            .flatten()
            .find(|program| program.id() == program_id)
            .and_then(|program| program.name_as_str().map(str::to_owned));
        let link_id = loaded_links()
            .flatten()
            .find(|link| link.program_id() == program_id)
            .map(|link| link.id());
        Self {
            program_id,
            program_name,
            link_id,
            pin: link_id.and_then(|link_id| pin_of(link_id, program_id)),
            processes: processes(program_id, link_id),
        }
    }
}

impl fmt::Display for InterfaceOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program_name.as_deref().unwrap_or("unnamed");
        write!(f, "XDP program `{name}` (id {})", self.program_id)?;
        match self.link_id {
            Some(id) => write!(f, ", held by BPF link {id}")?,
            None => write!(f, ", attached over netlink")?,
        }
        if let Some(pin) = &self.pin {
            write!(f, ", pinned as {}", pin.display())?;
        }
        for (at, (pid, name)) in self.processes.iter().enumerate() {
            let joint = if at == 0 { ", owned by" } else { " and" };
            write!(f, "{joint} {name} (pid {pid})")?;
        }
        Ok(())
    }
}

/// Folders of a BPF filesystem that are looked into, one in the other.
const DEEPEST: usize = 5;

/// Where a link is pinned, in any BPF filesystem that is mounted here (proc(5), mountinfo).
fn pin_of(link_id: u32, program_id: u32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let roots = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("bpf ")
            .then(|| place.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    });
    let is_it = |path: &Path| {
        let link = PinnedLink::from_pin(path).ok().map(FdLink::from)?;
        let info = link.info().ok()?;
        (info.id() == link_id && info.program_id() == program_id).then_some(())
    };
    let mut folders: Vec<(PathBuf, usize)> = roots.map(|root| (root, 0)).collect();
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if !is_folder && is_it(&path).is_some() {
                return Some(path);
            }
        }
    }
    None
}

/// Processes with a descriptor of the program or the link, by what proc(5) says of descriptors.
/// Processes that end meanwhile, or may not be looked at, are left out.
fn processes(program_id: u32, link_id: Option<u32>) -> Vec<(u32, String)> {
    let wanted = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let id: u32 = value.trim().parse().ok()?;
        Some(match key {
            "prog_id" => id == program_id,
            "link_id" => Some(id) == link_id,
            _ => false,
        })
    };
    let mut found = Vec::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in ids.filter(|pid| *pid != std::process::id()) {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo"));
        let mut infos = descriptors.into_iter().flatten().flatten();
        let holds = infos.any(|info| {
            let text = fs::read_to_string(info.path()).unwrap_or_default();
            text.lines().any(|line| wanted(line) == Some(true))
        });
        if holds {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push((pid, name.trim().to_owned()));
        }
    }
    found.sort_unstable();
    found
}
