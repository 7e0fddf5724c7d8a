//! The real `portcullis`, started, asked and stopped.

use std::{
    fs::{self, File},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    netns::Namespace,
    run::{RigError, Rigged, eventually, output, succeed},
    scratch::Scratch,
};

/// How long a daemon may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The binary under test: `PORTCULLIS_BIN`, or the one beside the running program.
pub fn portcullis() -> PathBuf {
    std::env::var_os("PORTCULLIS_BIN").map_or_else(|| sibling("portcullis"), PathBuf::from)
}

/// A program that cargo built beside the running one.
pub fn sibling(name: &str) -> PathBuf {
    let running = std::env::current_exe().unwrap_or_default();
    running
        .ancestors()
        .skip(1)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// Where a daemon runs.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On this host, as it is.
    Here,
    /// In a network of a test's own.
    Within(&'a Namespace),
    /// In a network with nothing but a loopback, and without this host's resolvers and logins: what
    /// keeps this host reachable can't be in a test's way. Only the admin socket leads there.
    Secluded,
}

impl Place<'_> {
    /// A command that runs there.
    fn command(self, program: PathBuf) -> Command {
        match self {
            Self::Here => Command::new(program),
            Self::Within(namespace) => namespace.command(program),
            Self::Secluded => secluded(&program),
        }
    }
}

/// A user who isn't root gets a user namespace as well, in which he is.
fn secluded(program: &Path) -> Command {
    const PREPARE: &str = "ip link set lo up && \
        for file in /etc/resolv.conf /run/systemd/resolve/resolv.conf /run/utmp; do \
        if [ -e $file ]; then mount --bind /dev/null $(readlink -f $file) || exit 1; fi; done && \
        exec \"$@\"";
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--mount", "sh", "-c", PREPARE, "sh"]);
    command.arg(program);
    command
}

/// A running daemon. Dropping it kills it, as a crash would, and all that took over from it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The process that has taken over last.
    heir: Option<u32>,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `portcullis run` and waits until it serves. `socket` is the configuration's
    /// `admin.socket`.
    ///
    /// # Errors
    /// When it ends or isn't ready in time; with what it printed.
    pub fn start(
        scratch: &Scratch,
        config: &Path,
        socket: &Path,
        place: Place<'_>,
    ) -> Rigged<Self> {
        Self::start_binary(portcullis(), scratch, config, socket, place)
    }

    /// As [`Self::start`], another binary.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_binary(
        binary: PathBuf,
        scratch: &Scratch,
        config: &Path,
        socket: &Path,
        place: Place<'_>,
    ) -> Rigged<Self> {
        let log = scratch.join("daemon.log");
        let mut command = place.command(binary);
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .args(["run", "--config"])
            .arg(config)
            .stderr(file)
            .spawn()?;
        let mut daemon = Self {
            child,
            heir: None,
            config: config.to_path_buf(),
            socket: socket.to_path_buf(),
            log,
        };
        let pid = daemon.child.id();
        let mut ended = None;
        let ready = eventually("the daemon is ready", PATIENCE, || {
            ended = daemon.child.try_wait().ok().flatten();
            let up = || Some(daemon.status().ok()?["pid"].as_u64()? == u64::from(pid));
            (ended.is_some() || up() == Some(true)).then_some(())
        });
        if ready.is_err() || ended.is_some() {
            return Err(RigError(format!(
                "portcullis did not start: {}",
                daemon.printed()
            )));
        }
        Ok(daemon)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.heir.unwrap_or(self.child.id())
    }

    /// Has it hand over to another process, and returns that one's id.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn upgrade(&mut self) -> Rigged<u32> {
        let pid = self.ask(&["upgrade"])?["pid"].clone();
        let pid = pid.as_u64().and_then(|pid| u32::try_from(pid).ok());
        self.heir = pid;
        pid.ok_or_else(|| RigError("no process id".to_owned()))
    }

    /// Waits until another process than `before` answers, and returns its id.
    ///
    /// # Errors
    /// When it doesn't in time.
    pub fn await_heir(&mut self, before: u32) -> Rigged<u32> {
        let heir = eventually("another process answers", PATIENCE, || {
            let pid = u32::try_from(self.status().ok()?["pid"].as_u64()?).ok()?;
            (pid != before).then_some(pid)
        })?;
        self.heir = Some(heir);
        Ok(heir)
    }

    /// Processes that run with this configuration: this one, and those that take over or have.
    pub fn processes(&self) -> Vec<u32> {
        let config = self.config.as_os_str().as_bytes();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let runs = |pid: &u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|word| word == config)
        };
        ids.filter(runs).collect()
    }

    /// Waits until a process runs no more.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn await_end(&self, pid: u32) -> Rigged<()> {
        // One that nobody has waited for is a zombie, without words.
        eventually("a process has ended", PATIENCE, || {
            (!self.processes().contains(&pid)).then_some(())
        })
    }

    /// What it has printed to standard error, over all starts of this scratch folder.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A `portcullis` command that asks this daemon, with `--json`.
    pub fn ask_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(portcullis());
        command
            .args(words)
            .arg("--json")
            .arg("--socket")
            .arg(&self.socket);
        command
    }

    /// Asks this daemon and returns its answer.
    ///
    /// # Errors
    /// When the command fails or prints no JSON.
    pub fn ask(&self, words: &[&str]) -> Rigged<Value> {
        let printed = succeed(&mut self.ask_command(words))?;
        serde_json::from_str(&printed).map_err(|error| RigError(format!("{printed:?}: {error}")))
    }

    /// Asks this daemon something that it refuses; returns what it prints.
    ///
    /// # Errors
    /// When the command succeeds.
    pub fn ask_refused(&self, words: &[&str]) -> Rigged<String> {
        let mut command = self.ask_command(words);
        let printed = output(&mut command)?;
        if printed.status.success() {
            return Err(RigError(format!("{command:?} was not refused")));
        }
        let stdout = String::from_utf8_lossy(&printed.stdout).into_owned();
        Ok(stdout + &String::from_utf8_lossy(&printed.stderr))
    }

    /// `portcullis status`.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub fn status(&self) -> Rigged<Value> {
        self.ask(&["status"])
    }

    /// Packets that the kernel counted under a reason, and not merely watched.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub fn packets(&self, reason: &str) -> Rigged<u64> {
        self.counted(reason, false)
    }

    /// Packets that a list or limit would have dropped for a reason, and that passed.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub fn watched(&self, reason: &str) -> Rigged<u64> {
        self.counted(reason, true)
    }

    fn counted(&self, reason: &str, monitored: bool) -> Rigged<u64> {
        let status = self.status()?;
        let reasons = status["reasons"].as_array().into_iter().flatten();
        Ok(reasons
            .filter(|counted| counted["reason"] == reason && counted["monitored"] == monitored)
            .filter_map(|counted| counted["packets"].as_u64())
            .sum())
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Errors
    /// When `kill` fails.
    pub fn signal(&self, signal: &str) -> Rigged<()> {
        succeed(Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]))?;
        Ok(())
    }

    /// Ends it with SIGTERM and waits.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn stop(mut self) -> Rigged<ExitStatus> {
        self.signal("TERM")?;
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn wait(&mut self) -> Rigged<ExitStatus> {
        eventually("the daemon ends", PATIENCE, || {
            self.child.try_wait().ok().flatten()
        })
    }

    /// Ends it as a crash would: SIGKILL.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(mut self) -> Rigged<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for pid in self.processes() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
