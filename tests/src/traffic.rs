//! Traffic processes that run in the background: senders, and sinks that count.

use std::process::Child;

use serde_json::Value;

use crate::run::{RigError, Rigged};

/// Waits until a traffic process says that it counts.
pub(crate) fn await_counting(child: &mut Child) -> Rigged<()> {
    let mut line = String::new();
    if let Some(stderr) = child.stderr.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line)?;
    }
    if line.trim() != "counting" {
        return Err(RigError(format!("a traffic process did not start: {line}")));
    }
    Ok(())
}

/// A running sender; killed when dropped.
#[derive(Debug)]
pub struct Sender(pub(crate) Child);

impl Sender {
    /// Waits for its end and returns how many datagrams it sent.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(mut self) -> Rigged<u64> {
        let printed = read_out(&mut self.0)?;
        printed
            .trim()
            .parse()
            .map_err(|_| RigError(format!("a sender printed {printed:?}")))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running counter; killed when dropped.
#[derive(Debug)]
pub struct Sink(pub(crate) Child);

impl Sink {
    /// Waits for its end and returns the datagrams by source.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(mut self) -> Rigged<Counted> {
        let printed = read_out(&mut self.0)?;
        serde_json::from_str(&printed)
            .map(Counted)
            .map_err(|error| RigError(format!("a sink printed {printed:?}: {error}")))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Datagrams by source.
#[derive(Clone, Debug)]
pub struct Counted(Value);

impl Counted {
    /// Those from one address.
    pub fn from(&self, source: &str) -> u64 {
        self.0[source].as_u64().unwrap_or(0)
    }
}

fn read_out(child: &mut Child) -> Rigged<String> {
    // Whoever goes on until it is told to end is told so.
    drop(child.stdin.take());
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        std::io::Read::read_to_string(&mut stdout, &mut printed)?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(RigError(format!("a traffic process ended with {status}")));
    }
    Ok(printed)
}
