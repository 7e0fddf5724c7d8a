//! Can suites that load programs run here?

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
};

/// Why programs can't be loaded by this test process, or `None` where they can.
pub fn why_no_kernel() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root, and loading XDP programs takes root");
    }
    if datapath::is_stub() {
        return Some("built without the eBPF object; run `cargo xtask build` first");
    }
    None
}

/// Whether `test` can run. Where it can't, says why on stderr and in the file that
/// `PORTCULLIS_SKIP_LOG` names, from which `cargo xtask test` counts it as skipped.
pub fn kernel_or_skip(test: &str) -> bool {
    let Some(reason) = why_no_kernel() else {
        return true;
    };
    eprintln!("skipped {test}: {reason}");
    if let Err(error) = log_skip(test, reason) {
        eprintln!("{test}: can't write PORTCULLIS_SKIP_LOG: {error}");
    }
    false
}

fn log_skip(test: &str, reason: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("PORTCULLIS_SKIP_LOG") else {
        return Ok(());
    };
    let mut log = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(log, "{test}: {reason}")
}
