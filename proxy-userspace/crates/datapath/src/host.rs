//! Is this a machine the kernel side can run on?

use std::path::{Path, PathBuf};

use rustix::{
    fs::statfs,
    process::geteuid,
    system::uname,
    time::{ClockId, clock_gettime},
};

use crate::error::DatapathError;

/// Oldest kernel that is supported. XDP links came with 5.9, compare-and-swap with 5.12; 6.1 is
/// the oldest that is tested.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
const OLDEST_KERNEL_NAME: &str = "6.1";

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// What matters of the host, gathered once so that the checks can be tested.
#[derive(Clone, Debug)]
pub struct Host {
    /// Effective user id of this process.
    pub uid: u32,
    /// Release string of the running kernel, such as `6.1.0-44-cloud-amd64`.
    pub kernel_release: String,
    /// Where the BPF filesystem should be.
    pub bpffs: PathBuf,
    /// Whether one is there.
    pub bpffs_mounted: bool,
}

impl Host {
    /// Looks at this machine.
    pub fn observe(bpffs: &Path) -> Self {
        Self {
            uid: geteuid().as_raw(),
            kernel_release: uname().release().to_string_lossy().into_owned(),
            bpffs: bpffs.to_path_buf(),
            bpffs_mounted: statfs(bpffs).is_ok_and(|fs| fs.f_type as u32 == BPF_FS_MAGIC),
        }
    }

    /// Whether XDP programs can be loaded, attached and pinned here.
    ///
    /// # Errors
    /// [`DatapathError::NotRoot`], [`DatapathError::KernelTooOld`], [`DatapathError::NoBpffs`],
    /// in this order.
    pub fn check(&self) -> Result<(), DatapathError> {
        if self.uid != 0 {
            return Err(DatapathError::NotRoot { uid: self.uid });
        }
        if parse_release(&self.kernel_release).is_none_or(|version| version < OLDEST_KERNEL) {
            return Err(DatapathError::KernelTooOld {
                found: self.kernel_release.clone(),
                needed: OLDEST_KERNEL_NAME,
            });
        }
        if !self.bpffs_mounted {
            return Err(DatapathError::NoBpffs {
                path: self.bpffs.clone(),
            });
        }
        Ok(())
    }
}

/// Major and minor of a release string.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock in which bans end.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Host {
        Host {
            uid: 0,
            kernel_release: "6.1.0-44-cloud-amd64".to_owned(),
            bpffs: PathBuf::from("/sys/fs/bpf"),
            bpffs_mounted: true,
        }
    }

    fn refusal(host: &Host) -> String {
        host.check().expect_err("refused").to_string()
    }

    #[test]
    fn accepts_the_oldest_supported_kernel() {
        able().check().expect("an able host");
    }

    #[test]
    fn names_the_uid_of_a_user_who_is_not_root() {
        let message = refusal(&Host {
            uid: 1000,
            ..able()
        });
        assert!(message.starts_with("not root (uid 1000)"), "{message}");
        assert!(message.contains("sudo"), "{message}");
    }

    #[test]
    fn names_both_versions_when_the_kernel_is_too_old() {
        for release in ["5.10.0-28-amd64", "6.0.19", "4.19", "odd"] {
            let message = refusal(&Host {
                kernel_release: release.to_owned(),
                ..able()
            });
            assert!(
                message.starts_with(&format!("kernel {release} is too old")),
                "{message}"
            );
            assert!(message.contains("Linux 6.1 or newer"), "{message}");
        }
    }

    #[test]
    fn gives_the_mount_command_when_bpffs_is_absent() {
        let message = refusal(&Host {
            bpffs_mounted: false,
            ..able()
        });
        assert!(
            message.contains("mount -t bpf bpf /sys/fs/bpf"),
            "{message}"
        );
    }
}
