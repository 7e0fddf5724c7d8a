//! Where things are: the workspace and what is built from it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{failure::Failure, run::Invocation};

/// The workspace's folders. Nothing of ours lies outside them.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// The main workspace's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory for the main workspace.
    pub(crate) target: PathBuf,
}

impl Tree {
    /// Finds the workspace this xtask was built from.
    pub(crate) fn find() -> Result<Self, Failure> {
        // Cargo sets the variable at run time too; a moved checkout is then still found.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| PathBuf::from(dir)),
            None => target_directory(&metadata(&root, &["--no-deps"])?)?,
        };
        Ok(Self { root, target })
    }

    /// The eBPF workspace.
    pub(crate) fn ebpf(&self) -> PathBuf {
        self.root.join("proxy-ebpf")
    }

    /// The benchmark's eBPF workspace.
    pub(crate) fn bench_ebpf(&self) -> PathBuf {
        self.root.join("tests/ebpf")
    }

    /// The workspace of the fuzz targets.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.root.join("fuzz")
    }

    /// Programs of the suites that run npm's packages.
    pub(crate) fn node(&self) -> PathBuf {
        self.root.join("tests/node")
    }

    /// Every workspace, the main one first.
    pub(crate) fn workspaces(&self) -> [PathBuf; 4] {
        [
            self.root.clone(),
            self.ebpf(),
            self.bench_ebpf(),
            self.fuzz(),
        ]
    }

    /// Where tools built for this workspace live, so that nothing goes into a user's home.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// A tool built for this workspace.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    /// The program in Envoy's package from PyPI.
    pub(crate) fn envoy(&self) -> PathBuf {
        self.tools().join("envoy/envoy/_bin/envoy")
    }

    /// Where Python finds aioquic.
    pub(crate) fn aioquic(&self) -> PathBuf {
        self.tools().join("aioquic")
    }

    /// What the main workspace's build leaves for this profile.
    pub(crate) fn built(&self, release: bool, name: &str) -> PathBuf {
        self.target
            .join(if release { "release" } else { "debug" })
            .join(name)
    }
}

/// `cargo metadata` of the workspace in this folder.
pub(crate) fn metadata(dir: &Path, more: &[&str]) -> Result<Value, Failure> {
    let cargo = Invocation::cargo().args(["metadata", "--format-version", "1", "--locked"]);
    let text = cargo.args(more.iter().copied()).dir(dir).capture()?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::new(format!("cargo metadata in {}: {e}", dir.display())))
}

fn target_directory(metadata: &Value) -> Result<PathBuf, Failure> {
    let dir = metadata["target_directory"].as_str().map(PathBuf::from);
    dir.ok_or_else(|| Failure::new("cargo metadata names no target_directory"))
}
