//! Lines of the audit trail that are made, and not yet handed to the kernel.

use std::{
    io,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

/// So many bytes of lines wait no longer to be handed over,
pub(crate) const TOGETHER: usize = 64 * 1024;

/// nor do any that began to wait so long ago.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// Lines that are made and not handed over.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) lines: Vec<u8>,
    pid: u32,
    sequence: u64,
    /// When the first and the last of them were made.
    since: SystemTime,
    last: SystemTime,
    /// The one that is being made.
    line: Vec<u8>,
}

#[derive(Serialize)]
struct Line<'a, E> {
    #[serde(serialize_with = "rfc3339")]
    time: SystemTime,
    /// Of the process: two write while one hands over to the next.
    pid: u32,
    sequence: u64,
    #[serde(flatten)]
    event: &'a E,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            pid: std::process::id(),
            sequence: 0,
            since: SystemTime::UNIX_EPOCH,
            last: SystemTime::UNIX_EPOCH,
            line: Vec::new(),
        }
    }
}

impl Waiting {
    /// Makes the line of an event.
    ///
    /// # Errors
    /// When it has no form in JSON: nothing of it is kept.
    pub(crate) fn append(&mut self, event: &impl Serialize) -> io::Result<()> {
        let line = Line {
            time: SystemTime::now(),
            pid: self.pid,
            sequence: self.sequence,
            event,
        };
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line)?;
        if self.lines.is_empty() {
            self.since = line.time;
        }
        if is_plain(&self.line) {
            self.lines.extend_from_slice(&self.line);
        } else {
            let text = str::from_utf8(&self.line).map_err(io::Error::other)?;
            escape_controls(text, &mut self.lines);
        }
        self.lines.push(b'\n');
        self.sequence += 1;
        self.last = line.time;
        Ok(())
    }

    /// Whether they should be handed over now.
    pub(crate) fn is_due(&self) -> bool {
        let waited = self.last.duration_since(self.since);
        self.lines.len() >= TOGETHER || waited.is_ok_and(|it| it >= LONGEST_WAIT)
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*time))
}

/// Whether it is printable ASCII, as nearly all lines are. Looks at every byte, many at a time.
fn is_plain(line: &[u8]) -> bool {
    !line
        .iter()
        .fold(false, |found, byte| found | (*byte >= 0x7f))
}

/// JSON allows DEL, the C1 controls and the Unicode line separators as they are; terminals and
/// line readers act on them, so they are escaped too. They can only stand inside strings.
fn escape_controls(text: &str, into: &mut Vec<u8>) {
    let mut rest = text;
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
