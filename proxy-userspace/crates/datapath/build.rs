//! Finds the eBPF objects that `cargo xtask build` made, and embeds a stub where there are none.
//!
//! The stub keeps `cargo check`, `clippy` and `test` working without the eBPF toolchain; loading
//! it is a typed error at run time.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["portcullis.bpf.o", "portcullis-trace.bpf.o"] {
        let object = target_dir(&out_dir).join("bpf").join(name);
        println!("cargo::rerun-if-changed={}", object.display());
        let bytes = fs::read(&object).unwrap_or_default();
        fs::write(out_dir.join(name), bytes).expect("OUT_DIR is writable");
    }
}

/// Cargo doesn't tell a build script where the target directory is; it is the ancestor of
/// `OUT_DIR` in which cargo keeps what it knows of rustc.
fn target_dir(out_dir: &Path) -> PathBuf {
    out_dir
        .ancestors()
        .find(|ancestor| ancestor.join(".rustc_info.json").exists())
        .unwrap_or(out_dir)
        .to_path_buf()
}
