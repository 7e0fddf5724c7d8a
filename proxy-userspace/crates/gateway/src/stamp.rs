//! Noticing that a file was written anew.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::SystemTime};

/// By what a file that was written anew is told from the one before. A file that was moved there is
/// another one though it be older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl FileStamp {
    /// The stamp of a file; none while it isn't there.
    pub fn of(path: &Path) -> Option<Self> {
        let facts = fs::metadata(path).ok()?;
        Some(Self {
            modified: facts.modified().ok(),
            bytes: facts.len(),
            inode: facts.ino(),
        })
    }
}
