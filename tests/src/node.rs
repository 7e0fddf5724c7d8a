//! Programs of npm's packages, which `cargo xtask setup` brings.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// Node with one of the programs in `tests/node`, its input and output piped.
pub fn node(program: &str) -> Command {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("node");
    let mut node = Command::new("node");
    node.arg(folder.join(program))
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    node
}
