//! What a machine says on its serial lines, and what to make of it.

use std::{fmt, time::Duration};

use crate::counts::Counts;

/// What process 1 says of itself begins with this; see `init.sh`.
const OWN: &str = "@vm ";

/// One line of process 1.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// The kernel is up and has started us: its release.
    Up(&'a str),
    /// A suite begins.
    Begin(&'a str),
    /// A suite ended, with this status.
    End(&'a str, &'a str),
    /// A test of a suite was skipped, for this reason.
    Skipped(&'a str),
    /// Something the suites need isn't there.
    Broken(&'a str),
    /// The machine's own bound in time has passed.
    Overdue,
    /// All was run.
    Over,
    /// What a suite or a program printed.
    Printed(&'a str),
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let Some(own) = line.strip_prefix(OWN) else {
            return Self::Printed(line);
        };
        let (word, rest) = own.split_once(' ').unwrap_or((own, ""));
        match word {
            "up" => Self::Up(rest),
            "begin" => Self::Begin(rest),
            "end" => {
                let (suite, status) = rest.split_once(' ').unwrap_or((rest, "?"));
                Self::End(suite, status)
            }
            "skipped" => Self::Skipped(rest),
            "broken" => Self::Broken(rest),
            "overdue" => Self::Overdue,
            "over" => Self::Over,
            _ => Self::Printed(line),
        }
    }
}

/// What came of one machine.
#[derive(Debug, Default)]
pub(super) struct Report {
    release: Option<String>,
    boot: Duration,
    run: Duration,
    counts: Counts,
    skips: usize,
    running: Option<String>,
    over: bool,
    complaints: Vec<String>,
}

impl Report {
    /// Takes a line of the suites' console, `at` this time after QEMU was started, and says what
    /// of it an operator wants to read.
    pub(super) fn take(&mut self, line: &str, at: Duration) -> Option<String> {
        self.run = at;
        match Line::read(line) {
            Line::Up(release) => {
                self.release = Some(release.to_owned());
                self.boot = at;
                return Some(format!("vm: up after {:.1} s", at.as_secs_f64()));
            }
            Line::Begin(suite) => {
                self.running = Some(suite.to_owned());
                return Some(format!("vm: {suite}"));
            }
            Line::End(suite, status) => {
                self.running = None;
                if status != "0" {
                    self.complain(format!("{suite} ended with status {status}"));
                }
            }
            Line::Skipped(why) => {
                self.skips += 1;
                self.complain(format!("skipped {why}"));
            }
            Line::Broken(what) => self.complain(what.to_owned()),
            Line::Overdue => self.complain("it ran into its own bound in time".to_owned()),
            Line::Over => self.over = true,
            Line::Printed(text) => {
                self.counts.add_line(text);
                return Some(text.to_owned());
            }
        }
        None
    }

    /// Takes a line of the kernel's own console.
    pub(super) fn take_kernel(&mut self, line: &str) {
        // A soft lockup only says that this host has more to do than to run the machine.
        let bad = ["BUG: ", "Oops: ", "WARNING: CPU", "Kernel panic"];
        if bad.iter().any(|sign| line.contains(sign)) && !line.contains("soft lockup") {
            self.complain(format!("the kernel said: {}", line.trim()));
        }
    }

    /// Adds a reason why this isn't good enough.
    pub(super) fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }

    /// Whether the kernel got as far as our process 1.
    pub(super) fn is_up(&self) -> bool {
        self.release.is_some()
    }

    /// What the suites' closing lines add up to.
    pub(super) fn counts(&self) -> Counts {
        self.counts.with_skip_log(self.skips)
    }

    /// Why the run isn't good enough; none when it is.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = self.complaints.clone();
        if self.release.is_none() {
            complaints.push("the machine didn't boot".to_owned());
            return complaints;
        }
        if let Some(suite) = &self.running {
            complaints.push(format!("it ended in the midst of {suite}"));
        } else if !self.over {
            complaints.push("it ended before all was run".to_owned());
        }
        complaints.extend(self.counts().complaints(true));
        complaints
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(release) = &self.release else {
            return f.write_str("didn't boot");
        };
        write!(
            f,
            "{release}: up after {:.1} s, {} after {:.0} s",
            self.boot.as_secs_f64(),
            self.counts(),
            self.run.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for (second, line) in (3..).zip(lines) {
            report.take(line, Duration::from_secs(second));
        }
        report
    }

    const GOOD: [&str; 6] = [
        "@vm up 6.1.0-56-cloud-amd64",
        "@vm begin kernel_packets",
        "test a ... ok",
        "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        "@vm end kernel_packets 0",
        "@vm over",
    ];

    /// The good run with one line in the place of another.
    fn but(instead_of: &str, line: &str) -> Vec<String> {
        let lines = GOOD.map(|good| if good == instead_of { line } else { good });
        report(&lines).complaints()
    }

    #[test]
    fn a_whole_run_is_reported_with_its_times_and_counts() {
        let report = report(&GOOD);
        assert!(report.complaints().is_empty());
        assert_eq!(
            report.to_string(),
            "6.1.0-56-cloud-amd64: up after 3.0 s, 3 passed, 0 failed, 0 skipped after 8 s"
        );
    }

    #[test]
    fn silence_is_a_machine_that_did_not_boot() {
        assert_eq!(report(&[]).complaints(), ["the machine didn't boot"]);
        assert_eq!(report(&[]).to_string(), "didn't boot");
    }

    #[test]
    fn a_suite_that_never_ends_is_named() {
        assert_eq!(
            report(&GOOD[..4]).complaints(),
            ["it ended in the midst of kernel_packets"]
        );
    }

    #[test]
    fn an_end_between_suites_is_no_good_run() {
        assert_eq!(
            report(&GOOD[..5]).complaints(),
            ["it ended before all was run"]
        );
    }

    #[test]
    fn a_status_counts_even_where_no_test_failed() {
        assert_eq!(
            but("@vm end kernel_packets 0", "@vm end kernel_packets 139"),
            ["kernel_packets ended with status 139"]
        );
    }

    #[test]
    fn a_run_without_a_test_is_no_good_run() {
        assert_eq!(but(GOOD[3], "hello"), ["not one test ran"]);
    }

    #[test]
    fn a_skipped_test_is_no_good_run() {
        let complaints = but("test a ... ok", "@vm skipped a: not root");
        assert_eq!(complaints[0], "skipped a: not root");
        assert!(complaints[1].starts_with("skipped tests"), "{complaints:?}");
    }

    #[test]
    fn a_suite_that_prints_the_sign_alone_is_printing() {
        assert_eq!(Line::read("@vm"), Line::Printed("@vm"));
        assert_eq!(Line::read("@vm else"), Line::Printed("@vm else"));
    }

    #[test]
    fn what_the_kernel_finds_wrong_is_no_good_run() {
        let mut report = report(&GOOD);
        report.take_kernel("[    3.1] veth: loading");
        report.take_kernel("[    9.1] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!");
        assert!(report.complaints().is_empty());
        report.take_kernel("[    9.2] WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1");
        assert_eq!(report.complaints().len(), 1);
    }
}
