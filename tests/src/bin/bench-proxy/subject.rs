//! A proxy under test.

use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    ops::RangeInclusive,
    path::PathBuf,
};

use portcullis_tests::run::Rigged;

use crate::{envoy, floor, haproxy, portcullis, process::Serving, stage::Stage};

/// The proxies, in the order in which they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Portcullis,
    Haproxy,
    Envoy,
    /// Without authentication: the floor.
    Nginx,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Portcullis, Self::Haproxy, Self::Envoy, Self::Nginx];

    /// As it is called in output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "Portcullis",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it asks for tokens.
    pub(crate) const fn authenticates(self) -> bool {
        !matches!(self, Self::Nginx)
    }
}

/// One that runs.
pub(crate) struct Subject {
    /// Which.
    pub(crate) kind: Kind,
    /// Its process.
    pub(crate) serving: Serving,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its access records.
    pub(crate) records: Records,
    /// Requests that were made of it, refused ones too: at least and at most.
    pub(crate) made: RangeInclusive<u64>,
}

impl Subject {
    /// Starts one on its core.
    pub(crate) fn start(kind: Kind, stage: &Stage) -> Rigged<Self> {
        match kind {
            Kind::Portcullis => portcullis::start(stage),
            Kind::Haproxy => haproxy::start(stage),
            Kind::Envoy => envoy::start(stage),
            Kind::Nginx => floor::start(stage),
        }
    }

    /// So many more have been made.
    pub(crate) fn add(&mut self, made: &RangeInclusive<u64>) {
        self.made = self.made.start() + made.start()..=self.made.end() + made.end();
    }
}

/// A file of access records, one a line, read as it grows.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    read: u64,
    found: u64,
}

impl Records {
    /// Of this file, which may not be there yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            found: 0,
        }
    }

    /// How many records of requests to the API there are by now.
    pub(crate) fn requests(&mut self) -> Rigged<u64> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(0);
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let took = std::io::BufRead::read_until(&mut reader, b'\n', &mut line)?;
            // What has no end yet is read when it has one.
            if line.last() != Some(&b'\n') {
                return Ok(self.found);
            }
            self.read += took as u64;
            self.found += u64::from(is_request(&line));
        }
    }

    /// The last of them, for a reader who wants to know what they look like.
    pub(crate) fn last(&self) -> Rigged<String> {
        let mut file = File::open(&self.path)?;
        let behind = self.read.saturating_sub(8_192);
        file.seek(SeekFrom::Start(behind))?;
        let mut text = Vec::new();
        file.take(self.read - behind).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().rev();
        let last = lines.find(|line| is_request(line.as_bytes()));
        Ok(last.unwrap_or_default().to_owned())
    }
}

/// Each proxy has records of other things too; each names the path of a request in quotes.
fn is_request(line: &[u8]) -> bool {
    line.windows(8).any(|window| window == b"\"/orders")
}
