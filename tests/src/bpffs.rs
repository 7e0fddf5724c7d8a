//! A BPF filesystem of the test's own, gone when the test is, however it ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use datapath::Pins;

static MOUNTED: AtomicU32 = AtomicU32::new(0);

/// A mounted bpffs; dropping it unmounts it, which also lets go of everything pinned in it.
#[derive(Debug)]
pub struct Bpffs {
    directory: PathBuf,
}

impl Bpffs {
    /// Mounts one at a new temporary directory.
    ///
    /// # Errors
    /// When the directory can't be made or `mount` refuses.
    pub fn mount() -> io::Result<Self> {
        let name = format!(
            "portcullis-bpffs-{}-{}",
            std::process::id(),
            MOUNTED.fetch_add(1, Ordering::Relaxed)
        );
        Self::mount_at(std::env::temp_dir().join(name))
    }

    /// Mounts one at a directory that doesn't exist yet.
    ///
    /// # Errors
    /// When the directory can't be made or `mount` refuses.
    pub fn mount_at(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "bpf", "bpf"]).arg(&directory);
        if let Err(error) = succeed(&mut mount) {
            fs::remove_dir(&directory)?;
            return Err(error);
        }
        Ok(Self { directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// A pin directory in it, not made yet.
    pub fn pins(&self) -> Pins {
        Pins::new(self.directory.join("portcullis"))
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let undone = succeed(Command::new("umount").arg(&self.directory))
            .and_then(|()| fs::remove_dir(&self.directory));
        if let Err(error) = undone {
            eprintln!("left behind: {}: {error}", self.directory.display());
        }
    }
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}", said.trim())))
}
