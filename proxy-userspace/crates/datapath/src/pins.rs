//! What is pinned in bpffs, so that drops outlive the daemon, and whether it may be adopted.
//!
//! ```text
//! <bpffs>/<name>/maps/COUNTERS …   one pin a map
//! <bpffs>/<name>/links/eth0 …      one pin an interface; eth0.100 is pinned as eth0:100
//! <bpffs>/<name>/program           the program, for operators and tools
//! ```

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData, MapInfo};
use aya_obj::Object;
use proxy_common::{ABI_VERSION, Settings};

use crate::{
    attach::{await_release, held_by},
    error::{DatapathError, While as _},
};

/// The pin directory of one Portcullis.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// Whether pins from an earlier run can serve this one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// Nothing is pinned.
    Nothing,
    /// Every map is pinned, of the right shape and ABI version.
    Adoptable {
        /// Key of the limiter's hash that the earlier run drew.
        hash_key: [u64; 2],
    },
    /// Something differs; the text says what.
    Incompatible(String),
}

impl Pins {
    /// Pins under this directory, which must lie in a BPF filesystem.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        // bpffs takes no dots in names (`bpf_lookup` in kernel/bpf/inode.c), which interfaces of
        // VLANs have; interfaces can't have a colon (`dev_valid_name` in net/core/dev.c).
        self.root.join("links").join(interface.replace('.', ":"))
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.root.join("program")
    }

    /// Makes the directories, readable by root only.
    pub(crate) fn create(&self) -> Result<(), DatapathError> {
        for path in [self.root.join("maps"), self.root.join("links")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| pin_error("create", &path, source))?;
        }
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))
            .map_err(|source| pin_error("set the mode of", &self.root, source))
    }

    /// Interfaces with a pinned link.
    pub fn interfaces(&self) -> Result<Vec<String>, DatapathError> {
        let links = names_in(&self.root.join("links"))?;
        Ok(links.iter().map(|link| link.replace(':', ".")).collect())
    }

    /// Holds what is pinned against the object that is to be loaded. aya would reuse a pinned map
    /// without looking at its type or sizes.
    pub(crate) fn adoption(&self, object: &Object) -> Result<Adoption, DatapathError> {
        let pinned = names_in(&self.root.join("maps"))?;
        if pinned.is_empty() {
            return Ok(Adoption::Nothing);
        }
        for (name, wanted) in object.maps.iter().filter(|(name, _)| is_pinned(name)) {
            let path = self.map(name);
            if !pinned.contains(name) {
                return Ok(Adoption::Incompatible(format!("map {name} is not pinned")));
            }
            let found = MapInfo::from_pin(&path).while_trying_to("read a pinned map")?;
            let found_type = found
                .map_type()
                .while_trying_to("read a pinned map's type")?;
            let facts = [
                ("type", wanted.map_type(), found_type as u32),
                ("key size", wanted.key_size(), found.key_size()),
                ("value size", wanted.value_size(), found.value_size()),
                ("capacity", wanted.max_entries(), found.max_entries()),
                ("flags", wanted.map_flags(), found.map_flags()),
            ];
            for (fact, wanted, found) in facts {
                if wanted != found {
                    return Ok(Adoption::Incompatible(format!(
                        "map {name} has {fact} {found}, this binary needs {wanted}"
                    )));
                }
            }
        }
        let settings = MapData::from_pin(self.map("SETTINGS"))
            .and_then(Map::from_map_data)
            .and_then(Array::<MapData, Settings>::try_from)
            .and_then(|settings| settings.get(&0, 0))
            .while_trying_to("read the pinned settings")?;
        if settings.abi_version != ABI_VERSION {
            return Ok(Adoption::Incompatible(format!(
                "ABI version {}, this binary has {ABI_VERSION}",
                settings.abi_version
            )));
        }
        Ok(Adoption::Adoptable {
            hash_key: settings.hash_key,
        })
    }

    /// Removes every pin, links first: from then on nothing is dropped.
    pub(crate) fn remove_all(&self) -> Result<(), DatapathError> {
        for interface in self.interfaces()? {
            remove_pin(&self.link(&interface))?;
        }
        for name in names_in(&self.root.join("maps"))? {
            remove_pin(&self.map(&name))?;
        }
        remove_pin(&self.program())?;
        for path in [
            self.root.join("links"),
            self.root.join("maps"),
            self.root.clone(),
        ] {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(pin_error("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a map of the object is one that outlives the daemon: the compiler's own, such as
/// `.rodata`, are constants of one program.
pub(crate) fn is_pinned(map: &str) -> bool {
    !map.starts_with('.')
}

/// Detaches Portcullis from every interface and removes its pins; returns the interfaces.
///
/// # Errors
/// [`DatapathError::Pin`] when a pin can't be read or removed.
pub fn detach(pins: &Pins) -> Result<Vec<String>, DatapathError> {
    let interfaces = pins.interfaces()?;
    let held: Vec<_> = interfaces
        .iter()
        .filter_map(|interface| Some((interface, held_by(&pins.link(interface))?)))
        .collect();
    pins.remove_all()?;
    for (interface, program_id) in held {
        await_release(interface, program_id);
    }
    Ok(interfaces)
}

/// Removes a pin; one that is gone already is no error.
pub(crate) fn remove_pin(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(pin_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn pin_error(action: &'static str, path: &Path, source: io::Error) -> DatapathError {
    DatapathError::Pin {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn names_in(directory: &Path) -> Result<Vec<String>, DatapathError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(pin_error("read", directory, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| pin_error("read", directory, error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
