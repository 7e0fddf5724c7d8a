//! Writing the audit trail, and saying so when that fails.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    mem,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;

use crate::{
    record::{Ended, Event},
    waiting::{TOGETHER, Waiting},
};

/// Why a record could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file could not be opened.
    #[error("can't open the audit trail {}: {source}; set audit.path to a file that can be written", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Records could not be written. They are kept, and written as soon as that is possible.
    #[error("can't write the audit trail {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// So much waits to be written that this record was not kept.
    #[error("can't write the audit trail {}, and no more can be kept until then", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
    },
}

/// Lines that can't be written are kept until they can, as far as they are no more than so many bytes.
const MOST_KEPT: usize = 4 * 1024 * 1024;

/// An append-only file of JSON lines.
///
/// What was handed to the kernel outlives the process; it reaches the disk when the kernel writes it back.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Taken before `waiting`, so that lines are written in the order they were made in.
    sink: Mutex<Sink>,
    waiting: Mutex<Waiting>,
    /// Whether anything waits, for whoever comes by to hand it over.
    has_waiting: AtomicBool,
    failing: AtomicBool,
}

#[derive(Debug)]
struct Sink {
    file: File,
    /// What is being handed over: after a failure, that from the first byte that was not taken.
    lines: Vec<u8>,
    /// A write ended in the middle of a line, the rest of which waits.
    torn: bool,
}

impl Journal {
    /// Opens the trail for appending, readable by its owner only. `sequence` counts from 0 at
    /// every opening.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        Self::begin(path, ends_torn)
    }

    /// As [`Self::open`], while another process still writes to the same trail. The kernel appends what is
    /// handed over in one piece, behind what came last of either (`O_APPEND`, write(2)); the two are told apart
    /// by `pid`. `torn` is what [`Self::is_torn`] says there: the file may be looked at in the middle of a line
    /// that will be whole.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn open_beside(path: &Path, torn: bool) -> Result<Self, AuditError> {
        Self::begin(path, |_| Ok(torn))
    }

    fn begin(
        path: &Path,
        is_torn: impl FnOnce(&mut File) -> io::Result<bool>,
    ) -> Result<Self, AuditError> {
        let open = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
            }
            let mut file = OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .mode(0o600)
                .open(path)?;
            let torn = is_torn(&mut file)?;
            Ok((file, torn))
        };
        let (file, torn) = open().map_err(|source| AuditError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            sink: Mutex::new(Sink {
                file,
                // The first line must not be glued to a torn one.
                lines: if torn { vec![b'\n'] } else { Vec::new() },
                torn,
            }),
            waiting: Mutex::default(),
            has_waiting: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        })
    }

    /// Appends one record, and hands it to the kernel with all before it.
    ///
    /// # Errors
    /// [`AuditError::Lost`]; [`AuditError::Write`] when it waits, as [`Self::is_failing`] goes on to say until
    /// it is written.
    pub fn record(&self, event: &Event) -> Result<(), AuditError> {
        self.append(event)?;
        self.hand_over()
    }

    /// Appends the record of a request or a tunnel, which may be handed over together with those that follow, within 64 KiB or 1 ms.
    /// Whoever calls this calls [`Self::hand_over`] before he waits for anything.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn post(&self, record: &impl Ended) -> Result<(), AuditError> {
        if self.append(record)? {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Makes a line; whether those that wait should be handed over now.
    fn append(&self, event: &impl Serialize) -> Result<bool, AuditError> {
        // A panic while a line is made leaves those that wait as they were.
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() >= MOST_KEPT {
            return Err(AuditError::Lost {
                path: self.path.clone(),
            });
        }
        waiting.append(event).map_err(|source| AuditError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.has_waiting.store(true, Ordering::Release);
        Ok(waiting.is_due())
    }

    /// Hands all that waits to the kernel. Costs next to nothing when nothing does.
    ///
    /// # Errors
    /// [`AuditError::Write`]: it waits on.
    pub fn hand_over(&self) -> Result<(), AuditError> {
        if !self.has_waiting.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut sink = lock(&self.sink);
        let result = self.write(&mut sink);
        self.failing.store(result.is_err(), Ordering::Release);
        result.map_err(|source| AuditError::Write {
            path: self.path.clone(),
            source,
        })
    }

    fn write(&self, sink: &mut Sink) -> io::Result<()> {
        loop {
            sink.write_all()?;
            let mut waiting = lock(&self.waiting);
            if waiting.lines.is_empty() {
                self.has_waiting.store(false, Ordering::Release);
                return Ok(());
            }
            mem::swap(&mut sink.lines, &mut waiting.lines);
        }
    }

    /// Whether the last records could not be written. While it is so, nothing should be admitted
    /// that could not be accounted for.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Whether the last line was broken off.
    pub fn is_torn(&self) -> bool {
        lock(&self.sink).torn
    }

    /// Where the trail is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forces all records to the disk.
    ///
    /// # Errors
    /// [`AuditError::Write`].
    pub fn sync(&self) -> Result<(), AuditError> {
        self.hand_over()?;
        let sink = lock(&self.sink);
        sink.file.sync_data().map_err(|source| AuditError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

impl Sink {
    /// Writes its lines; what is not taken stays.
    fn write_all(&mut self) -> io::Result<()> {
        let (mut written, mut result) = (0, Ok(()));
        while written < self.lines.len() && result.is_ok() {
            match self.file.write(&self.lines[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        if let Some(last) = self.lines[..written].last() {
            self.torn = *last != b'\n';
        }
        self.lines.drain(..written);
        // What a burst, or a full disk, has made it is not needed for long.
        self.lines.shrink_to(2 * TOGETHER);
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an earlier writer died in the middle of a line.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use serde_json::{Value, json};

    use super::*;
    use crate::record::{DecisionId, LifecycleRecord, RequestRecord, Verdict};

    fn request(path: &str) -> RequestRecord {
        RequestRecord {
            decision_id: DecisionId(42),
            trace_id: 43,
            span_id: 44,
            peer: ([192, 0, 2, 1], 443).into(),
            client: None,
            protocol: "HTTP/1.1",
            tls: "TLSv1_3",
            client_certificate: None,
            method: "GET".to_owned(),
            host: None,
            path: Some(path.to_owned()),
            route: None,
            principal: None,
            verdict: Verdict::Deny,
            reason: "client_gone".into(),
            detail: None,
            status: 0,
            grpc_status: None,
            complete: false,
            request_bytes: 0,
            response_bytes: 0,
            decision_us: 0,
            upstream_us: None,
            total_us: 0,
        }
    }

    fn lifecycle(detail: &str) -> Event {
        Event::Lifecycle(LifecycleRecord {
            step: "start".to_owned(),
            detail: detail.to_owned(),
        })
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("audit-{name}-{}.jsonl", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn one_line_a_record_with_time_sequence_and_kind() {
        let path = scratch("lines");
        let journal = Journal::open(&path).expect("a journal");
        journal.record(&lifecycle("one")).expect("written");
        journal.record(&lifecycle("two")).expect("written");
        let text = fs::read_to_string(&path).expect("a file");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["sequence"], 1);
        assert_eq!(lines[1]["kind"], "lifecycle");
        assert_eq!(lines[1]["detail"], "two");
        let time = lines[0]["time"].as_str().expect("a time");
        humantime::parse_rfc3339(time).expect("RFC 3339");
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn controls_in_what_a_peer_sent_are_escaped() {
        let path = scratch("controls");
        let journal = Journal::open(&path).expect("a journal");
        let hostile = "a\r\nb\u{1b}[31m\u{7f}\u{9b}31m\u{2028}";
        journal.record(&lifecycle(hostile)).expect("written");
        let text = fs::read_to_string(&path).expect("a file");
        assert_eq!(text.lines().count(), 1);
        assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["detail"], hostile);
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_torn_last_line_is_not_glued_to_the_next() {
        let path = scratch("torn");
        fs::write(&path, b"{\"time\":\"20").expect("written");
        let journal = Journal::open(&path).expect("a journal");
        journal.record(&lifecycle("whole")).expect("written");
        let text = fs::read_to_string(&path).expect("a file");
        let whole: Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(whole["detail"], "whole");
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn what_is_posted_is_handed_over_together_in_its_order() {
        let path = scratch("together");
        let journal = Journal::open(&path).expect("a journal");
        // Both within the wait, or the second brings it to an end: neither is lost.
        journal.post(&request("one")).expect("posted");
        journal.post(&request("two")).expect("posted");
        journal.record(&lifecycle("three")).expect("written");
        journal.post(&request("four")).expect("posted");
        journal.hand_over().expect("written");
        let text = fs::read_to_string(&path).expect("a file");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let paths: Vec<&Value> = lines.iter().map(|line| &line["path"]).collect();
        assert_eq!(json!(paths), json!(["one", "two", null, "four"]));
        let kinds: Vec<&Value> = lines.iter().map(|line| &line["kind"]).collect();
        let expected = ["request", "request", "lifecycle", "request"];
        assert_eq!(json!(kinds), json!(expected));
        assert_eq!(lines[3]["decision_id"], "0000000000000000000000000000002a");
        assert_eq!(lines[3]["peer"], "192.0.2.1:443");
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn many_posts_do_not_wait_for_whoever_hands_over() {
        let path = scratch("many");
        let journal = Journal::open(&path).expect("a journal");
        let each = "x".repeat(1000);
        for _ in 0..TOGETHER / 1000 + 1 {
            journal.post(&request(&each)).expect("posted");
        }
        let written = fs::metadata(&path).expect("a file").len();
        assert!(written >= TOGETHER as u64 / 2, "{written}");
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn threads_lose_nothing_and_number_all() {
        let path = scratch("threads");
        let journal = Journal::open(&path).expect("a journal");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for at in 0..1000 {
                        journal.post(&request("x")).expect("posted");
                        if at % 7 == 0 {
                            journal.hand_over().expect("written");
                        }
                    }
                    journal.hand_over().expect("written");
                });
            }
        });
        let text = fs::read_to_string(&path).expect("a file");
        let numbers: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["sequence"].as_u64())
            .map(|number| number.expect("a number"))
            .collect();
        assert_eq!(numbers, (0..4000).collect::<Vec<_>>());
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn two_that_write_at_once_leave_whole_lines_in_an_order_for_each() {
        const LINES: u64 = 2_000;
        let path = scratch("beside");
        let first = Journal::open(&path).expect("a journal");
        first.record(&lifecycle("before")).expect("written");
        let second = Journal::open_beside(&path, first.is_torn()).expect("a journal");
        let write = |journal: &Journal, who: &str| {
            for _ in 0..LINES {
                journal.record(&lifecycle(who)).expect("written");
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| write(&first, "first"));
            scope.spawn(|| write(&second, "second"));
        });
        let text = fs::read_to_string(&path).expect("a file");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        for (who, begin) in [("first", 1), ("second", 0)] {
            let of = lines.iter().filter(|line| line["detail"] == who);
            let found: Vec<u64> = of.filter_map(|line| line["sequence"].as_u64()).collect();
            assert_eq!(found, (begin..begin + LINES).collect::<Vec<_>>(), "{who}");
        }
        assert_eq!(lines[0]["pid"], std::process::id());
        fs::remove_file(path).expect("removed");
    }

    /// `/dev/full` answers every write with ENOSPC: a full disk without filling one.
    #[test]
    fn a_full_disk_is_an_error_and_shows() {
        let journal = Journal::open(Path::new("/dev/full")).expect("opens");
        assert!(!journal.is_failing());
        let error = journal.record(&lifecycle("kept")).expect_err("no space");
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert!(journal.is_failing());
    }

    #[test]
    fn what_could_not_be_written_is_kept_within_bounds_and_written_later() {
        let path = scratch("later");
        let journal = Journal::open(&path).expect("a journal");
        let swap = |file: File| mem::replace(&mut lock(&journal.sink).file, file);
        let full = OpenOptions::new().append(true).open("/dev/full");
        let good = swap(full.expect("opens"));
        let each = "x".repeat(100_000);
        let (mut kept, mut lost) = (0, 0);
        for _ in 0..60 {
            match journal.record(&lifecycle(&each)) {
                Err(AuditError::Write { .. }) => kept += 1,
                Err(AuditError::Lost { .. }) => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(lost > 0 && journal.is_failing());
        swap(good);
        journal.hand_over().expect("written");
        assert!(!journal.is_failing());
        let text = fs::read_to_string(&path).expect("a file");
        assert_eq!(text.lines().count(), kept);
        fs::remove_file(path).expect("removed");
    }
}
