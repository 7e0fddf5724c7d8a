//! Writing the audit trail, and saying so when that fails.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use serde::Serialize;

use crate::record::Event;

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
    /// A record could not be written.
    #[error("can't write the audit trail {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An append-only file of JSON lines.
///
/// A line is handed to the kernel before [`Self::record`] returns, so it outlives the process;
/// it reaches the disk when the kernel writes it back.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    sink: Mutex<Sink>,
    failing: AtomicBool,
}

#[derive(Debug)]
struct Sink {
    file: File,
    sequence: u64,
    line: Vec<u8>,
    /// A write failed half-way: the next line must not be glued to its torn start.
    torn: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    sequence: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Journal {
    /// Opens the trail for appending, readable by its owner only. `sequence` counts from 0 at
    /// every opening.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn open(path: &Path) -> Result<Self, AuditError> {
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
            let torn = ends_torn(&mut file)?;
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
                sequence: 0,
                line: Vec::new(),
                torn,
            }),
            failing: AtomicBool::new(false),
        })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`AuditError::Write`]; [`Self::is_failing`] says so until a record is written again.
    pub fn record(&self, event: &Event) -> Result<(), AuditError> {
        // A panic while a line was made leaves the file as it was: nothing to mend.
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let result = sink.append(event);
        self.failing.store(result.is_err(), Ordering::Release);
        result.map_err(|source| AuditError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// Whether the last record could not be written. While it is so, nothing should be admitted
    /// that could not be accounted for.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
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
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.file.sync_data().map_err(|source| AuditError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

impl Sink {
    fn append(&mut self, event: &Event) -> io::Result<()> {
        let line = Line {
            time: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            sequence: self.sequence,
            event,
        };
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        let text = serde_json::to_string(&line)?;
        escape_controls(&text, &mut self.line);
        self.line.push(b'\n');
        self.torn = true;
        self.file.write_all(&self.line)?;
        self.torn = false;
        self.sequence += 1;
        Ok(())
    }
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

/// JSON allows DEL, the C1 controls and the Unicode line separators as they are; terminals and
/// line readers act on them, so they are escaped too. They can only stand inside strings.
fn escape_controls(text: &str, into: &mut Vec<u8>) {
    let mut rest = text;
    // Nearly all lines are plain ASCII, and go over in one piece.
    while let Some(at) = rest.bytes().position(|byte| byte >= 0x7f) {
        into.extend_from_slice(&rest.as_bytes()[..at]);
        let mut characters = rest[at..].chars();
        let Some(character) = characters.next() else {
            return;
        };
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                into.extend(format!("\\u{:04x}", u32::from(character)).bytes());
            }
            plain => into.extend(plain.encode_utf8(&mut [0; 4]).bytes()),
        }
        rest = characters.as_str();
    }
    into.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;
    use crate::record::LifecycleRecord;

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

    /// `/dev/full` answers every write with ENOSPC: a full disk without filling one.
    #[test]
    fn a_full_disk_is_an_error_and_shows() {
        let journal = Journal::open(Path::new("/dev/full")).expect("opens");
        assert!(!journal.is_failing());
        let error = journal.record(&lifecycle("lost")).expect_err("no space");
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert!(journal.is_failing());
    }
}
