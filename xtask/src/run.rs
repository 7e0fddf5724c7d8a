//! Running other programs.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::failure::Failure;

/// Where Debian keeps programs that an ordinary user's PATH leaves out.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// One command line, kept as data so that a plan of them can be printed, compared and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    /// `None` takes the variable away.
    env: Vec<(&'static str, Option<OsString>)>,
    dir: Option<PathBuf>,
}

impl Invocation {
    /// A program found through PATH, or by its path.
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
        }
    }

    /// The cargo that runs this xtask, so that nested builds use the same toolchain.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Adds arguments.
    #[must_use]
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable for the child.
    #[must_use]
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, Some(value.into())));
        self
    }

    /// Keeps a variable from the child.
    #[must_use]
    pub(crate) fn without_env(mut self, name: &'static str) -> Self {
        self.env.push((name, None));
        self
    }

    /// Sets the child's working directory.
    #[must_use]
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Runs with output to the terminal; anything but status 0 is a failure.
    ///
    /// The child's stdout goes to our stderr: our own stdout carries only what a caller
    /// may want to read, such as the JSON of `bench` or the closing line of `test`.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let status = self
            .command()
            .stdout(io::stderr())
            .status()
            .map_err(|e| self.no_start(&e))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("`{self}` failed ({status})")))
    }

    /// Runs and gives back stdout as text; stderr reaches the terminal.
    pub(crate) fn capture(&self) -> Result<String, Failure> {
        let bytes = self.capture_bytes()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs and gives back stdout; stderr reaches the terminal.
    pub(crate) fn capture_bytes(&self) -> Result<Vec<u8>, Failure> {
        let output = self.command().stderr(Stdio::inherit()).output();
        let output = output.map_err(|e| self.no_start(&e))?;
        if !output.status.success() {
            return Err(Failure::new(format!("`{self}` failed ({})", output.status)));
        }
        Ok(output.stdout)
    }

    /// Runs in silence; stdout followed by stderr when it succeeds.
    pub(crate) fn probe(&self) -> Option<String> {
        let output = self.command().stdin(Stdio::null()).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs, handing each line of stdout over as it comes; says whether the status was 0.
    pub(crate) fn stream(&self, mut line: impl FnMut(&str)) -> Result<bool, Failure> {
        let child = self.command().stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| self.no_start(&e))?;
        if let Some(stdout) = child.stdout.take() {
            let mut reader = BufReader::new(stdout);
            let mut bytes = Vec::new();
            // Lines of bytes, not `lines()`: a test may print what isn't UTF-8.
            while reader
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|read| read > 0)
            {
                line(String::from_utf8_lossy(&bytes).trim_end_matches('\n'));
                bytes.clear();
            }
        }
        let status = child.wait();
        status
            .map(|s| s.success())
            .map_err(|e| Failure::new(format!("waiting for `{self}`: {e}")))
    }

    /// Becomes the program, so that a Ctrl-C meets only it; returns when it can't start.
    pub(crate) fn exec(&self) -> Failure {
        let error = self.command().exec();
        self.no_start(&error)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn no_start(&self, error: &io::Error) -> Failure {
        Failure::new(format!("`{self}` could not start: {error}"))
    }
}

impl fmt::Display for Invocation {
    /// A line that a shell takes as it stands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            if let Some(value) = value {
                write!(f, "{name}={} ", quoted(value))?;
            }
        }
        f.write_str(&quoted(&self.program))?;
        self.args
            .iter()
            .try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The first executable of this name on PATH, or where Debian keeps programs for root.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_DIRS.iter().map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(name))
        .find(|file| {
            file.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Whether this process has root's effective user id.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_uid(&status) == Some(0)
}

/// The second figure of the `Uid:` line (real, effective, saved, filesystem; proc(5)).
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_line_the_shell_takes() {
        let line = Invocation::new("apt-get")
            .env("A", "b c")
            .without_env("D")
            .args(["it's", "x"]);
        assert_eq!(line.to_string(), r"A='b c' apt-get 'it'\''s' x");
    }

    #[test]
    fn tells_effective_from_real_user() {
        assert_eq!(
            effective_uid("Name:\tx\nUid:\t1000\t0\t1000\t1000\n"),
            Some(0)
        );
        assert_eq!(effective_uid("Name:\tx\n"), None);
    }

    #[test]
    fn names_the_command_that_failed() {
        let failure = Invocation::new("false")
            .args(["now"])
            .run()
            .unwrap_err()
            .to_string();
        assert!(failure.starts_with("`false now` failed"), "{failure}");
    }

    #[test]
    fn streams_lines_and_reports_the_status() {
        let mut lines = Vec::new();
        let shell = Invocation::new("sh").args(["-c", "echo one; echo two; exit 3"]);
        assert_eq!(shell.stream(|line| lines.push(line.to_owned())), Ok(false));
        assert_eq!(lines, ["one", "two"]);
    }
}
