//! What test programs said in their closing lines, added up.

use std::fmt;

/// What test programs reported, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Adds libtest's closing line, which libtest-mimic writes alike:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some((_, figures)) = line
            .strip_prefix("test result: ")
            .and_then(|l| l.split_once(". "))
        else {
            return;
        };
        for figure in figures.split("; ") {
            let Some((number, word)) = figure.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Adds what other programs reported.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// A test that found it couldn't run returned early: to libtest it passed.
    pub(crate) fn with_skip_log(mut self, lines: usize) -> Self {
        let lines = lines as u64;
        self.passed = self.passed.saturating_sub(lines);
        self.skipped += lines;
        self
    }

    /// Why these counts aren't good enough.
    pub(crate) fn complaints(self, kernel_required: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.failed > 0 {
            complaints.push(format!("failed tests: {}", self.failed));
        }
        if self.passed + self.failed == 0 {
            complaints.push("not one test ran".to_owned());
        }
        if kernel_required && self.skipped > 0 {
            complaints.push(format!(
                "skipped tests with REQUIRE_KERNEL=1: {}",
                self.skipped
            ));
        }
        complaints
    }
}

impl fmt::Display for Counts {
    /// The closing line: `3 passed, 0 failed, 1 skipped`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[&str]) -> Counts {
        let mut counts = Counts::default();
        lines.iter().for_each(|line| counts.add_line(line));
        counts
    }

    #[test]
    fn adds_up_the_closing_lines_of_several_programs() {
        let counts = counted(&[
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.02s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ]);
        assert_eq!(
            counts,
            Counts {
                passed: 7,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn ignores_a_test_that_prints_figures() {
        assert_eq!(
            counted(&["3 passed; 4 failed", "result: ok. 9 passed;"]),
            Counts::default()
        );
    }

    #[test]
    fn a_logged_skip_is_not_a_pass() {
        let counts = counted(&["test result: ok. 5 passed; 0 failed; 0 ignored;"]).with_skip_log(2);
        assert_eq!(
            counts,
            Counts {
                passed: 3,
                failed: 0,
                skipped: 2
            }
        );
    }

    #[test]
    fn a_skip_is_a_failure_only_where_the_kernel_is_required() {
        let counts = Counts {
            passed: 1,
            failed: 0,
            skipped: 1,
        };
        assert!(counts.complaints(false).is_empty());
        assert_eq!(
            counts.complaints(true),
            ["skipped tests with REQUIRE_KERNEL=1: 1"]
        );
    }

    #[test]
    fn a_run_without_a_test_is_a_failure() {
        assert_eq!(Counts::default().complaints(false), ["not one test ran"]);
        assert_eq!(
            Counts {
                failed: 1,
                ..Counts::default()
            }
            .complaints(false),
            ["failed tests: 1"]
        );
    }
}
