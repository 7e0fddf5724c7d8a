//! Daemons that hand over to the next process.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    daemon::portcullis,
    front::Front,
    ground::Ground,
    run::{Rigged, succeed},
};

/// A ground with a binary of its own, which a test may replace.
///
/// # Errors
/// When that fails.
pub fn with_binary(ground: Ground) -> Rigged<(Front, PathBuf)> {
    let binary = ground.scratch.join("portcullis");
    copy(&portcullis(), &binary)?;
    Ok((ground.start_binary(binary.clone())?, binary))
}

/// Puts another binary in the place of the running one, as a package manager does.
///
/// # Errors
/// When that fails.
pub fn replace(binary: &Path, script: &str) -> Rigged<()> {
    let fresh = binary.with_extension("new");
    if script.is_empty() {
        copy(&portcullis(), &fresh)?;
    } else {
        let text = binary.with_extension("text");
        fs::write(&text, script)?;
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755))?;
        copy(&text, &fresh)?;
    }
    fs::rename(fresh, binary)?;
    Ok(())
}

/// Copies a program in a process of its own: what this one writes to, the children that its other threads start
/// have open until they are another program, and nothing can be executed that somebody writes to (`ETXTBSY`).
fn copy(from: &Path, to: &Path) -> Rigged<()> {
    succeed(Command::new("cp").arg("--preserve=mode").arg(from).arg(to))?;
    Ok(())
}

/// Writes the configuration anew, with `to` in place of `from`.
///
/// # Panics
/// When `from` isn't in it.
///
/// # Errors
/// When that fails.
pub fn rewrite(front: &mut Front, from: &str, to: &str) -> Rigged<()> {
    assert!(front.ground.text.contains(from), "{from:?}");
    front.ground.text = front.ground.text.replacen(from, to, 1);
    let text = &front.ground.text;
    front.ground.scratch.write("portcullis.toml", text)?;
    Ok(())
}

/// Writes the configuration anew so that whoever takes over finds out that it is no good only when the state is
/// his already: what stands where the admin socket should be is no socket.
///
/// # Errors
/// When that fails.
pub fn fail_late(front: &mut Front) -> Rigged<()> {
    let at = front.ground.scratch.path().display().to_string();
    front.ground.scratch.write("no-socket", "")?;
    rewrite(
        front,
        &format!("{at}/admin.sock"),
        &format!("{at}/no-socket"),
    )
}

/// Records of one step in the life of the daemon, or of those that took over from it.
pub fn steps(front: &Front, step: &str) -> Vec<Value> {
    let all = front.audit().into_iter();
    all.filter(|line| line["step"] == step).collect()
}

/// The proxy serves, lists can be changed, and the change is kept.
///
/// # Panics
/// When it isn't so.
///
/// # Errors
/// When that fails.
pub fn assert_serves(front: &Front, pid: u32, entry: &str) -> Rigged<()> {
    assert_eq!(front.curl("/public", &[])?.status, 200);
    assert_eq!(front.daemon.status()?["pid"], pid);
    assert_eq!(front.daemon.status()?["draining"], false);
    front.daemon.ask(&["block", "add", entry])?;
    let tested = front.daemon.ask(&["block", "test", entry])?;
    assert_eq!(tested["standing"], "blocked", "{tested}");
    Ok(())
}
