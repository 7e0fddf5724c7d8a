//! The database's file, read and written a piece at a time.
//!
//! A list is one value of 8 MiB and more, which redb writes in one call and then syncs. A kernel that
//! doesn't preempt itself (`CONFIG_PREEMPT_NONE`) gives its core to nobody for up to 7 ms while it
//! copies, and for up to 3 ms while it gathers what is to be synced; between two calls it does.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    os::fd::AsRawFd as _,
    path::Path,
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

/// Bytes of a call: tens of microseconds.
const PIECE: usize = 64 * 1024;

/// Pieces after which the disk begins with them, so that little is left to be synced at once.
const PIECES_AT_ONCE: usize = 16;

/// redb's own way with a file, but for the size of its calls.
#[derive(Debug)]
pub(super) struct InPieces {
    backend: FileBackend,
    file: File,
}

impl InPieces {
    /// The file, made where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(redb::StorageError::from)?;
        let backend = FileBackend::new(file.try_clone().map_err(redb::StorageError::from)?)?;
        Ok(Self { backend, file })
    }

    /// Lets the disk begin with some bytes; what it can't write the next sync tells.
    fn begin_to_sync(&self, offset: u64, length: usize) {
        let (offset, length) = (offset.cast_signed(), length as i64);
        let file = self.file.as_raw_fd();
        // SAFETY: the descriptor is open as long as `self`, and no memory is passed.
        #[expect(unsafe_code, reason = "no crate wraps sync_file_range")]
        let _ = unsafe { libc::sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    }
}

/// Where pieces begin that follow one another from `offset` on.
fn places(offset: u64) -> impl Iterator<Item = u64> {
    (offset..).step_by(PIECE)
}

impl StorageBackend for InPieces {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut pieces = places(offset).zip(out.chunks_mut(PIECE));
        pieces.try_for_each(|(at, piece)| self.backend.read(at, piece))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let many = PIECE * PIECES_AT_ONCE;
        for (begin, part) in (offset..).step_by(many).zip(data.chunks(many)) {
            let mut pieces = places(begin).zip(part.chunks(PIECE));
            pieces.try_for_each(|(at, piece)| self.backend.write(at, piece))?;
            if part.len() == many {
                self.begin_to_sync(begin, many);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spans_pieces_is_read_as_it_was_written_and_nothing_beside_it_changes() {
        let path = std::env::temp_dir().join(format!("in-pieces-{}", std::process::id()));
        let file = InPieces::open(&path).expect("a file");
        let length = 20 * PIECE + 1_000;
        file.set_len(length as u64).expect("a length");
        let written: Vec<u8> = (0..19 * PIECE + 17)
            .map(|at| (at % 251) as u8 + 1)
            .collect();
        file.write(500, &written).expect("written");

        let mut read = vec![0; length];
        file.read(0, &mut read).expect("read");
        assert!(read[..500].iter().all(|byte| *byte == 0));
        assert_eq!(read[500..500 + written.len()], written);
        assert!(read[500 + written.len()..].iter().all(|byte| *byte == 0));
        let past = file.read(500, &mut vec![0; length]);
        assert!(past.is_err(), "past the end there is nothing to read");
        std::fs::remove_file(path).expect("removed");
    }
}
