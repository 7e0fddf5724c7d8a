//! Running programs, and waiting for something to become true.

use std::{
    ffi::OsStr,
    fmt,
    io::Write as _,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A step of the rig that didn't work. Suites and demo end with it.
#[derive(Debug)]
pub struct RigError(pub String);

impl fmt::Display for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RigError {}

impl From<std::io::Error> for RigError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Result of a step of the rig.
pub type Rigged<T> = Result<T, RigError>;

/// Runs a program to its end; its failure is an error with what it printed.
///
/// # Errors
/// When it can't be run or exits non-zero.
pub fn run<I, S>(program: &str, args: I) -> Rigged<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    succeed(Command::new(program).args(args))
}

/// Runs a prepared command to its end; its failure is an error with what it printed.
///
/// # Errors
/// When it can't be run or exits non-zero.
pub fn succeed(command: &mut Command) -> Rigged<String> {
    let output = output(command)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        return Err(RigError(format!(
            "{command:?}: {}: {stdout}{stderr}",
            output.status
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a prepared command to its end, however that is.
///
/// # Errors
/// When it can't be run.
pub fn output(command: &mut Command) -> Rigged<Output> {
    command
        .output()
        .map_err(|error| RigError(format!("{command:?}: {error}")))
}

/// Runs a prepared command to its end with a line on its standard input, however that is.
///
/// # Errors
/// When it can't be run.
pub fn output_of_line(command: &mut Command, line: &str) -> Rigged<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(stdin) = &mut child.stdin {
        writeln!(stdin, "{line}")?;
    }
    Ok(child.wait_with_output()?)
}

/// Waits until `probe` gives something, at most `limit`.
///
/// # Errors
/// When it doesn't in time; `what` says what was waited for.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Rigged<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            return Err(RigError(format!("not within {limit:?}: {what}")));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
