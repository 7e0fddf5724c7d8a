//! Tokens that are good once: which were used, over all workers, reloads, restarts and processes that hand over
//! to each other.
//!
//! What is used is written to a file before the request goes on (`write(2)`: it outlives the process), under a
//! lock that every process takes which has the file open. What is in the file alone was used elsewhere, and is
//! read before anything is judged.

mod format;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

pub use self::format::BootId;
use self::format::{HEAD, Head, RECORD, read_record, record};
use crate::replay::{Name, Use, Used, name_of};

/// Records beyond twice those that count, after which the file is written anew.
const SPARE: usize = 16 * 1024;
/// How long a request waits for another process to let go of the file; it has it for microseconds, or for some
/// 50 ms when it writes a million anew. A start or a stop may wait longer.
const IN_A_REQUEST: Duration = Duration::from_millis(250);
const AT_REST: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_micros(50);
/// After a wait in vain, such as for a process that was stopped, requests are refused at once for so long: whoever
/// waits keeps a thread from serving others.
const HELD_UP: Duration = Duration::from_secs(1);

/// Why a token isn't good for what takes each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UseFault {
    /// It has no `jti`, so that it can't be told from others.
    #[error("token_id_missing")]
    NoId,
    /// It doesn't say when it was issued, so that it can't be told whether a use of it may have been lost.
    #[error("token_issue_time_missing")]
    NoIssueTime,
    /// It was used before.
    #[error("token_used")]
    Again,
    /// The machine went down in between without an orderly stop, and a use may have been lost.
    #[error("token_use_unknown")]
    Unknown,
    /// No more can be remembered.
    #[error("token_uses_full")]
    Full,
    /// It can't be written down.
    #[error("token_uses_failing")]
    Failing,
}

/// What is used, and by when it can't be used any more.
#[derive(Clone, Copy, Debug)]
pub struct Once<'a> {
    /// Value of `iss`.
    pub issuer: &'a str,
    /// Value of `jti`.
    pub token_id: &'a str,
    /// Seconds since the epoch, by the issuer's clock.
    pub issued: u64,
    /// Seconds by which that may be ahead.
    pub leeway: u64,
    /// The last second at which it is good, leeway included.
    pub last: u64,
}

/// The tokens that were used.
#[derive(Debug)]
pub struct Uses {
    path: PathBuf,
    boot: BootId,
    most: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Held while the file is read or written; it stays where the file is exchanged.
    lock: File,
    file: File,
    /// Device and inode of the file.
    identity: (u64, u64),
    /// Bytes of it that were read or written here.
    read: u64,
    used: Used,
    /// Its length when it couldn't be written anew, or 0.
    read_before: u64,
    /// Nobody tries to get the lock before.
    held_up: Option<Instant>,
    /// Uses of what was issued in this second or before may have been lost.
    unknown: u64,
}

/// Held until it is dropped.
struct Exclusive<'f>(&'f File);

impl<'f> Exclusive<'f> {
    fn of(file: &'f File, patience: Duration) -> io::Result<Self> {
        let end = Instant::now() + patience;
        loop {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < end => thread::sleep(BETWEEN_TRIES),
                Err(Errno::WOULDBLOCK) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // It goes with the descriptor at the latest.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

impl Uses {
    /// Opens what earlier processes wrote down, or begins anew. `now` is in seconds since the epoch.
    ///
    /// # Errors
    /// When the file, or the lock beside it, can't be opened, read or written.
    pub fn open(path: &Path, boot: BootId, most: usize, now: u64) -> io::Result<Self> {
        let lock = options().open(path.with_extension("lock"))?;
        let exclusive = Exclusive::of(&lock, AT_REST)?;
        // An empty one was another, which didn't reach the disk.
        let is_new = !path.exists();
        let file = options().open(path)?;
        let (mut kept, head) = read(&lock, file, now)?;
        let length = kept.read;
        match head {
            // Nothing was used before.
            None if is_new => {}
            Some(head) if head.boot == boot || head.settled == length => {
                kept.unknown = kept.unknown.max(head.unknown);
            }
            _ => kept.unknown = now,
        }
        // On the disk before anything is used: a head that says that all is there is true no more.
        let is_as_it_was =
            |head: Head| head.boot == boot && head.settled == 0 && head.unknown == kept.unknown;
        if !head.is_some_and(is_as_it_was) {
            write_anew(path, boot, &mut kept)?;
            kept.file.sync_all()?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
        }
        drop(exclusive);
        Ok(Self {
            path: path.to_path_buf(),
            boot,
            most: AtomicUsize::new(most),
            kept: Mutex::new(kept),
        })
    }

    /// Remembers so many from now on; what is remembered already stays.
    pub fn bound(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many are remembered, and how many can be.
    pub fn held(&self) -> (usize, usize) {
        (self.kept().used.live(), self.most.load(Ordering::Relaxed))
    }

    /// Whether uses of what was issued before some second may have been lost, and before which.
    pub fn unknown_before(&self) -> Option<u64> {
        Some(self.kept().unknown).filter(|unknown| *unknown > 0)
    }

    /// Uses a token. When this returns well it is the only one that does, in whichever process.
    ///
    /// # Errors
    /// Why it isn't good.
    pub fn take(&self, once: &Once<'_>, now: u64) -> Result<(), UseFault> {
        let name = name(once);
        let mut kept = self.kept();
        let done = self.exclusively(&mut kept, now, IN_A_REQUEST, |kept, most| {
            if once.issued <= kept.unknown.saturating_add(once.leeway) && kept.unknown > 0 {
                return Ok(Err(UseFault::Unknown));
            }
            match kept.used.judge(&name, once.last, now, most) {
                Use::Again => return Ok(Err(UseFault::Again)),
                Use::Unknown => return Ok(Err(UseFault::Unknown)),
                Use::Full => return Ok(Err(UseFault::Full)),
                Use::First => {}
            }
            kept.append(&name, once.last)?;
            Ok(Ok(()))
        });
        done.unwrap_or_else(|error| {
            tracing::error!(%error, path = %self.path.display(), "USES OF TOKENS CAN'T BE WRITTEN: what takes each once is refused");
            Err(UseFault::Failing)
        })
    }

    /// Makes all of it durable, at an orderly stop: the next boot knows then that nothing is lost.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn settle(&self, now: u64) -> io::Result<()> {
        let mut kept = self.kept();
        self.exclusively(&mut kept, now, AT_REST, |kept, _| {
            kept.file.sync_data()?;
            let head = Head {
                boot: self.boot,
                settled: kept.read,
                unknown: kept.unknown,
            };
            kept.file.write_all_at(&head.to_bytes(), 0)?;
            kept.file.sync_data()
        })
    }

    /// Acts with the lock, once all is known that others wrote.
    fn exclusively<T>(
        &self,
        kept: &mut Kept,
        now: u64,
        patience: Duration,
        act: impl FnOnce(&mut Kept, usize) -> io::Result<T>,
    ) -> io::Result<T> {
        let lock = kept.lock.try_clone()?;
        if kept.held_up.is_some_and(|until| Instant::now() < until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let exclusive = Exclusive::of(&lock, patience);
        if exclusive.is_err() {
            kept.held_up = Some(Instant::now() + HELD_UP);
        }
        let exclusive = exclusive?;
        kept.catch_up(&self.path, self.boot, now)?;
        let done = act(kept, self.most.load(Ordering::Relaxed));
        let records = usize::try_from(kept.read).unwrap_or(usize::MAX) / RECORD;
        let has_grown = kept.read >= kept.read_before + (SPARE * RECORD) as u64;
        if has_grown
            && records > 2 * kept.used.live() + SPARE
            && let Err(error) = write_anew(&self.path, self.boot, kept)
        {
            // It goes on with the longer one, and tries again when that is longer still.
            tracing::error!(%error, path = %self.path.display(), "the file of used tokens can't be written anew");
            kept.read_before = kept.read;
        }
        drop(exclusive);
        done
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Reads what another process has written since.
    fn catch_up(&mut self, path: &Path, boot: BootId, now: u64) -> io::Result<()> {
        let facts = match fs::metadata(path) {
            Ok(facts) if (facts.dev(), facts.ino()) == self.identity => facts,
            // Another one is in its place, or none, where somebody took it away.
            Ok(_) | Err(_) => {
                let file = options().open(path)?;
                let (mut others, head) = read(&self.lock, file, now)?;
                for (name, last) in self.used.iter() {
                    others.used.insert(*name, last.into());
                }
                others.unknown = head.map_or(0, |head| head.unknown).max(self.unknown);
                *self = others;
                return match head {
                    Some(_) => Ok(()),
                    None => write_anew(path, boot, self),
                };
            }
        };
        if facts.len() < self.read {
            return Err(io::Error::other("somebody has cut it off"));
        }
        if facts.len() > self.read {
            let mut bytes = vec![0; usize::try_from(facts.len() - self.read).unwrap_or(0)];
            self.file.read_exact_at(&mut bytes, self.read)?;
            self.read += self.take_in(&bytes);
        }
        Ok(())
    }

    /// Remembers records as they are in the file; returns how many bytes those have that are whole. What another
    /// process didn't come to the end of was never used.
    fn take_in(&mut self, bytes: &[u8]) -> u64 {
        let whole = bytes.chunks_exact(RECORD);
        let length = bytes.len() - whole.remainder().len();
        for (name, last) in whole.filter_map(read_record) {
            self.used.insert(name, last.into());
        }
        length as u64
    }

    fn append(&mut self, name: &Name, last: u64) -> io::Result<()> {
        let bytes = record(name, u32::try_from(last).unwrap_or(u32::MAX));
        let written = self.file.write_all_at(&bytes, self.read);
        if let Err(error) = written {
            // A part of it would be read as the beginning of the next one.
            self.file.set_len(self.read)?;
            return Err(error);
        }
        self.read += RECORD as u64;
        self.used.insert(*name, last);
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

/// Reads all of a file. What is damaged in it is found by its checksums, and makes the head no head.
fn read(lock: &File, file: File, now: u64) -> io::Result<(Kept, Option<Head>)> {
    let facts = file.metadata()?;
    let mut bytes = vec![0; usize::try_from(facts.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    let (head, records) = bytes.split_at(HEAD.min(bytes.len()));
    let mut kept = Kept {
        lock: lock.try_clone()?,
        file,
        identity: (facts.dev(), facts.ino()),
        read: head.len() as u64,
        used: Used::default(),
        read_before: 0,
        held_up: None,
        unknown: 0,
    };
    kept.used.pass(now);
    let is_whole = records
        .chunks_exact(RECORD)
        .all(|bytes| read_record(bytes).is_some());
    kept.read += kept.take_in(records);
    let head = Head::of(head).filter(|_| is_whole);
    Ok((kept, head))
}

/// Writes the file anew, with what counts and no more, and puts it in the place of the one before.
fn write_anew(path: &Path, boot: BootId, kept: &mut Kept) -> io::Result<()> {
    let beside = path.with_extension("new");
    let file = options().open(&beside)?;
    file.set_len(0)?;
    let head = Head {
        boot,
        settled: 0,
        unknown: kept.unknown,
    };
    let mut bytes = Vec::with_capacity(HEAD + kept.used.live() * RECORD);
    bytes.extend(head.to_bytes());
    for (name, last) in kept.used.iter() {
        bytes.extend(record(name, last));
    }
    file.write_all_at(&bytes, 0)?;
    fs::rename(&beside, path)?;
    let facts = file.metadata()?;
    kept.identity = (facts.dev(), facts.ino());
    kept.read = bytes.len() as u64;
    kept.read_before = 0;
    kept.file = file;
    Ok(())
}

/// Issuers number their tokens each for itself.
fn name(once: &Once<'_>) -> Name {
    let mut hash = Context::new(&SHA256);
    hash.update(&(once.issuer.len() as u64).to_le_bytes());
    hash.update(once.issuer.as_bytes());
    hash.update(once.token_id.as_bytes());
    name_of(&hash.finish())
}

#[cfg(test)]
mod tests;
