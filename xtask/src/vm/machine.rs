//! QEMU without KVM: started, read line by line, and ended, in bounded time.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{console::Report, kernels::Kernel};
use crate::failure::Failure;

/// From QEMU's start to process 1. Two to four seconds on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// From process 1 to the end; the machine powers off by itself after that.
pub(super) const RUN_LIMIT: Duration = Duration::from_secs(15 * 60);
/// From the last line to the end of QEMU.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);

/// Lines of the kernel's console that are shown when it didn't boot.
const SHOWN_LINES: usize = 40;

/// Boots a kernel with an archive, prints what the suites print, and reports. The kernel's own
/// console is left in `place`.
pub(super) fn run(kernel: &Kernel, archive: &[u8], place: &Path) -> Result<Report, Failure> {
    let told = |e: std::io::Error| Failure::new(format!("{}: {e}", place.display()));
    fs::create_dir_all(place).map_err(told)?;
    let initramfs = place.join("initramfs.cpio");
    fs::write(&initramfs, archive).map_err(told)?;
    let console = place.join("console.log");
    fs::write(&console, "").map_err(told)?;

    let mut command = qemu(&kernel.image, &initramfs, &console);
    let started = Instant::now();
    let child = command.spawn();
    let mut machine = Running(
        child.map_err(|e| Failure::new(format!("qemu-system-x86_64 could not start: {e}")))?,
    );
    let lines = machine.lines();
    let mut report = Report::default();
    let mut limit = BOOT_LIMIT;
    loop {
        let left = limit.saturating_sub(started.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let was_up = report.is_up();
                if let Some(said) = report.take(&line, started.elapsed()) {
                    println!("{said}");
                }
                if !was_up && report.is_up() {
                    limit = started.elapsed() + RUN_LIMIT + POWER_OFF_LIMIT;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                report.complain(format!("nothing came of it in {} s", limit.as_secs()));
                machine.kill();
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    machine.end();
    let said = fs::read(&console).map_err(told)?;
    let said = String::from_utf8_lossy(&said);
    said.lines().for_each(|line| report.take_kernel(line));
    if !report.is_up() {
        let lines: Vec<&str> = said.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            eprintln!("    {}", line.trim_end());
        }
    }
    Ok(report)
}

/// The first serial line is the kernel's, and goes to a file: what it prints would break the
/// lines of the suites in two. The second is theirs, and comes to us.
fn qemu(image: &Path, initramfs: &Path, console: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-nic", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        // A panic ends the machine at once, as `-no-reboot` takes a reboot.
        .args(["-append", "console=ttyS0 panic=-1 oops=panic"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .env_remove("LD_LIBRARY_PATH");
    command
}

/// A running QEMU; it doesn't outlive this.
struct Running(Child);

impl Running {
    /// Its lines as they come, until it closes its output.
    fn lines(&mut self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = self.0.stdout.take() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stdout);
                let mut bytes = Vec::new();
                while reader
                    .read_until(b'\n', &mut bytes)
                    .is_ok_and(|read| read > 0)
                {
                    let line = String::from_utf8_lossy(&bytes);
                    // A terminal line ends with both.
                    let line = line.trim_end_matches(['\r', '\n']).to_owned();
                    if sender.send(line).is_err() {
                        return;
                    }
                    bytes.clear();
                }
            });
        }
        receiver
    }

    /// Lets it end by itself for a while, then ends it.
    fn end(&mut self) {
        let deadline = Instant::now() + POWER_OFF_LIMIT;
        while Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    fn kill(&mut self) {
        // Fails only when it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
