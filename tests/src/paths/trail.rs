//! The audit trail, line by line while it is written.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::accounts::{Accounts, Recorded};
use crate::run::{RigError, Rigged};

/// Between two looks at whether there is more.
const GLANCE: Duration = Duration::from_millis(2);

/// Reads until the end that the trail has once it is `over`.
pub(super) fn follow(trail: &Path, accounts: &Accounts, over: &AtomicBool) -> Rigged<()> {
    let mut reader = BufReader::new(File::open(trail)?);
    let mut line = Vec::new();
    loop {
        // Asked before the look: what is there afterwards is all.
        let is_over = over.load(Ordering::Acquire);
        let read = reader.read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") {
            note(&line, accounts)?;
            line.clear();
        } else if read == 0 && is_over {
            return match line.is_empty() {
                true => Ok(()),
                false => Err(odd(&line)),
            };
        } else if read == 0 {
            thread::sleep(GLANCE);
        }
    }
}

fn note(line: &[u8], accounts: &Accounts) -> Rigged<()> {
    let record: Value = serde_json::from_slice(line).map_err(|_| odd(line))?;
    let text = |key: &str| record[key].as_str();
    match text("kind") {
        Some("request") => {
            let id = text("decision_id").and_then(|id| u128::from_str_radix(id, 16).ok());
            let status = record["status"]
                .as_u64()
                .and_then(|it| u16::try_from(it).ok());
            let recorded = Recorded {
                permitted: text("verdict") == Some("permit"),
                path: text("path").map(str::to_owned),
                status: status.ok_or_else(|| odd(line))?,
            };
            accounts.recorded(id.ok_or_else(|| odd(line))?, recorded);
        }
        Some("connection") if text("reason") == Some("http_malformed") => {
            accounts.recorded_unread();
        }
        Some("lifecycle") => {}
        _ => return Err(odd(line)),
    }
    Ok(())
}

fn odd(line: &[u8]) -> RigError {
    RigError(format!("the trail has {}", line.escape_ascii()))
}
