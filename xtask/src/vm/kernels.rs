//! Debian's cloud kernels: which package holds one, fetched and unpacked, never installed. An
//! installed kernel would run the boot loader's scripts and take this host's next boot.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use crate::{
    failure::Failure,
    run::{Invocation, is_root},
    tree::Tree,
};

/// What is left of a package's name between these is the release that `uname -r` prints.
const PREFIX: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-amd64";

/// A series of kernels that Portcullis must run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// The long-term series of Debian 12.
    #[value(name = "6.1")]
    V6_1,
    /// The long-term series of Debian 13, which Debian 12 gets as an update.
    #[value(name = "6.12")]
    V6_12,
}

impl Series {
    fn version(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.version())
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `uname -r` will print it.
    pub(super) release: String,
    /// What QEMU starts.
    pub(super) image: PathBuf,
    /// Its modules: `modules.order` and the tree it names.
    pub(super) modules: PathBuf,
}

/// The newest kernel of a series that this host's package lists name. One that was unpacked
/// before is used as it lies there.
pub(super) fn fetch(tree: &Tree, series: Series) -> Result<Kernel, Failure> {
    let place = tree.target.join("vm/kernels");
    // Lists that name no such kernel, or one that the registry has replaced since, are stale.
    match listed(series).and_then(|package| unpacked(&place, &package)) {
        Ok(kernel) => Ok(kernel),
        Err(failure) if !is_root() => Err(Failure::with_mend(
            failure.to_string(),
            "its package lists may be old; run, as root: apt-get update",
        )),
        Err(_) => {
            Invocation::new("apt-get").args(["update", "-q"]).run()?;
            listed(series).and_then(|package| unpacked(&place, &package))
        }
    }
}

/// The package of the newest kernel of a series.
fn listed(series: Series) -> Result<String, Failure> {
    let names = Invocation::new("apt-cache")
        .args(["pkgnames", &format!("{PREFIX}{series}.")])
        .capture()?;
    newest(names.lines(), series).ok_or_else(|| {
        Failure::with_mend(
            format!("apt-cache knows no package {PREFIX}{series}.*{FLAVOUR}"),
            "Debian 12 has 6.1 in `bookworm` and 6.12 in `bookworm-security` or \
             `bookworm-backports`; add the one that is missing to apt's sources",
        )
    })
}

/// The newest of the packages that hold a signed cloud kernel of a series.
fn newest<'a>(names: impl Iterator<Item = &'a str>, series: Series) -> Option<String> {
    let kernel = |name: &&str| {
        release(name).is_some_and(|release| {
            let rest = release.strip_prefix(series.version());
            rest.is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let newest = names.filter(kernel).max_by_key(|name| numbers(name))?;
    Some(newest.to_owned())
}

/// The release a package holds, if it holds a cloud kernel; those of debug symbols and of
/// unsigned images end otherwise.
fn release(package: &str) -> Option<&str> {
    let release = package.strip_prefix(PREFIX)?;
    release.ends_with(FLAVOUR).then_some(release)
}

/// The numbers in a name, in turn: what tells 6.1.0-9 from 6.1.0-10.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Downloads and unpacks a package unless that was done before.
fn unpacked(place: &Path, package: &str) -> Result<Kernel, Failure> {
    let release = release(package).unwrap_or(package);
    let dir = place.join(release);
    if !dir.exists() {
        let fresh = place.join(format!("{release}.new"));
        let told = |e: io::Error| Failure::new(format!("{}: {e}", fresh.display()));
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(told)?;
        }
        fs::create_dir_all(&fresh).map_err(told)?;
        Invocation::new("apt-get")
            .args(["download", "-q", package])
            .dir(&fresh)
            .run()?;
        let archive = only_package(&fresh).map_err(told)?;
        Invocation::new("dpkg-deb")
            .args(["-x".as_ref(), archive.as_os_str(), fresh.as_os_str()])
            .run()?;
        fs::remove_file(archive).map_err(told)?;
        // Only what is whole gets the name that is looked for.
        fs::rename(&fresh, &dir).map_err(told)?;
    }
    Ok(Kernel {
        release: release.to_owned(),
        image: dir.join(format!("boot/vmlinuz-{release}")),
        modules: dir.join(format!("lib/modules/{release}")),
    })
}

fn only_package(dir: &Path) -> io::Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    Err(io::Error::other("apt-get left no package there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_newest_signed_cloud_kernel_of_a_series() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-amd64",
            "linux-image-6.1.0-58-cloud-amd64-unsigned",
            "linux-image-6.1.0-59-cloud-amd64-dbg",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        let newest = |series| newest(names.into_iter(), series);
        assert_eq!(
            newest(Series::V6_1).as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            newest(Series::V6_12).as_deref(),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
    }

    #[test]
    fn a_series_that_is_not_there_is_not_replaced_by_another() {
        let names = ["linux-image-6.12.117+deb12-cloud-amd64"];
        assert_eq!(newest(names.into_iter(), Series::V6_1), None);
    }

    #[test]
    fn the_release_is_what_uname_prints() {
        assert_eq!(
            release("linux-image-6.12.117+deb12-cloud-amd64"),
            Some("6.12.117+deb12-cloud-amd64")
        );
        assert_eq!(release("linux-image-6.1.0-56-cloud-amd64-dbg"), None);
    }
}
