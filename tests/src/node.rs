//! Programs of npm's packages, which `cargo xtask setup` brings.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");

/// Where one of the programs in `tests/node` is.
pub fn program(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(name)
}

/// Node with one of the programs in `tests/node`, its input and output piped.
pub fn node(name: &str) -> Command {
    let mut node = Command::new("node");
    node.arg(program(name))
        .current_dir(FOLDER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    node
}
