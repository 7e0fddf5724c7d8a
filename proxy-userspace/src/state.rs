//! What must survive `kill -9`: the entries that were added at run time, with their endings.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

/// Key: list and prefix. Value: [`Stored`] as JSON.
const ENTRIES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("entries");

/// Why state could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("can't create the state folder {}: {source}; set state.directory to a folder that can be written", path.display())]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} is in use: another portcullis is running with this state.directory; stop it first, or give this one a folder of its own",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("can't {action} {}: {source}", path.display())]
    Database {
        action: &'static str,
        path: PathBuf,
        source: Box<redb::Error>,
    },
    #[error("{}: the entry for {prefix} in {list} can't be read: {source}", path.display())]
    Entry {
        path: PathBuf,
        list: String,
        prefix: String,
        source: serde_json::Error,
    },
}

/// An entry of a list as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Whether the list is one of trusted prefixes.
    pub(crate) trusted: bool,
    /// Milliseconds since the epoch.
    pub(crate) added_ms: u64,
    /// `None` for good.
    pub(crate) ending: Option<Ending>,
    /// The operator's words.
    pub(crate) reason: Option<String>,
}

/// When an entry ends, so told that neither a restart nor a clock that is set moves it: within
/// one boot the boot clock counts, after another boot the wall clock has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    boot_id: String,
    boot_ns: u64,
    pub(crate) unix_ms: u64,
}

impl Ending {
    pub(crate) fn after(duration: Duration, clock: &Clock) -> Self {
        let later = |now_ns: u64| {
            now_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
        };
        Self {
            boot_id: clock.boot_id.clone(),
            boot_ns: later(clock.boot_ns),
            unix_ms: later(clock.unix_ms.saturating_mul(1_000_000)) / 1_000_000,
        }
    }

    /// The ending in nanoseconds of this boot's `CLOCK_BOOTTIME`.
    pub(crate) fn boot_ns(&self, clock: &Clock) -> u64 {
        if self.boot_id == clock.boot_id {
            return self.boot_ns;
        }
        let left_ms = self.unix_ms.saturating_sub(clock.unix_ms);
        clock
            .boot_ns
            .saturating_add(left_ms.saturating_mul(1_000_000))
    }
}

/// The clocks at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    boot_id: String,
    pub(crate) boot_ns: u64,
    pub(crate) unix_ms: u64,
}

impl Clock {
    pub(crate) fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            boot_ns: datapath::boot_ns(),
            unix_ms: since_epoch.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// A change of the stored entries.
pub(crate) enum Edit {
    Put(String, String, Stored),
    Remove(String, String),
}

/// The database; one process at a time.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    database: Database,
}

impl State {
    pub(crate) fn open(directory: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(directory).map_err(|source| StateError::Folder {
            path: directory.to_path_buf(),
            source,
        })?;
        let path = directory.join("state.redb");
        let database = match Database::create(&path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StateError::InUse { path }),
            Err(error) => {
                return Err(StateError::Database {
                    action: "open",
                    path,
                    source: Box::new(error.into()),
                });
            }
        };
        let state = Self { path, database };
        // Made now, so that reading never meets a database without it.
        state.commit(&[])?;
        Ok(state)
    }

    pub(crate) fn read(&self) -> Result<Vec<(String, String, Stored)>, StateError> {
        let rows = || -> Result<Vec<_>, redb::Error> {
            let table = self.database.begin_read()?.open_table(ENTRIES)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                let (list, prefix) = key.value();
                rows.push((list.to_owned(), prefix.to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        };
        rows()
            .map_err(|error| self.failed("read", error))?
            .into_iter()
            .map(
                |(list, prefix, bytes)| match serde_json::from_slice(&bytes) {
                    Ok(stored) => Ok((list, prefix, stored)),
                    Err(source) => Err(StateError::Entry {
                        path: self.path.clone(),
                        list,
                        prefix,
                        source,
                    }),
                },
            )
            .collect()
    }

    /// Makes the edits durable, all or none.
    pub(crate) fn commit(&self, edits: &[Edit]) -> Result<(), StateError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for edit in edits {
                    match edit {
                        Edit::Put(list, prefix, stored) => {
                            let value = serde_json::to_vec(stored).unwrap_or_default();
                            table.insert((list.as_str(), prefix.as_str()), value.as_slice())?;
                        }
                        Edit::Remove(list, prefix) => {
                            table.remove((list.as_str(), prefix.as_str()))?;
                        }
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| self.failed("write", error))
    }

    fn failed(&self, action: &'static str, error: redb::Error) -> StateError {
        StateError::Database {
            action,
            path: self.path.clone(),
            source: Box::new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot_id: &str, boot_s: u64, unix_s: u64) -> Clock {
        Clock {
            boot_id: boot_id.to_owned(),
            boot_ns: boot_s * 1_000_000_000,
            unix_ms: unix_s * 1_000,
        }
    }

    #[test]
    fn within_one_boot_a_set_clock_moves_no_ending() {
        let ending = Ending::after(Duration::from_secs(60), &clock("a", 100, 1_000_000));
        let clock_was_set = clock("a", 130, 5_000_000);
        assert_eq!(ending.boot_ns(&clock_was_set), 160 * 1_000_000_000);
    }

    #[test]
    fn after_another_boot_the_rest_is_kept_by_the_wall_clock() {
        let ending = Ending::after(Duration::from_secs(60), &clock("a", 100, 1_000_000));
        let rebooted = clock("b", 5, 1_000_020);
        assert_eq!(ending.boot_ns(&rebooted), 45 * 1_000_000_000);
        let much_later = clock("b", 5, 2_000_000);
        assert_eq!(ending.boot_ns(&much_later), 5 * 1_000_000_000);
    }

    #[test]
    fn an_ending_beyond_every_clock_does_not_wrap() {
        let ending = Ending::after(Duration::MAX, &clock("a", 100, 1_000_000));
        assert_eq!(ending.boot_ns(&clock("a", 100, 0)), u64::MAX);
    }

    #[test]
    fn entries_survive_and_a_second_daemon_is_refused_by_name() {
        let directory = std::env::temp_dir().join(format!("state-{}", std::process::id()));
        let stored = Stored {
            trusted: false,
            added_ms: 5,
            ending: None,
            reason: Some("flood".to_owned()),
        };
        let state = State::open(&directory).expect("a state");
        let put = |prefix: &str| Edit::Put("manual".to_owned(), prefix.to_owned(), stored.clone());
        state
            .commit(&[put("192.0.2.1/32"), put("192.0.2.2/32")])
            .expect("written");
        let remove = Edit::Remove("manual".to_owned(), "192.0.2.1/32".to_owned());
        state.commit(&[remove]).expect("written");
        let error = State::open(&directory).expect_err("in use").to_string();
        assert!(error.contains("another portcullis is running"), "{error}");
        drop(state);
        let state = State::open(&directory).expect("a state");
        let rows = state.read().expect("rows");
        assert_eq!(
            rows,
            [("manual".to_owned(), "192.0.2.2/32".to_owned(), stored)]
        );
        fs::remove_dir_all(directory).expect("removed");
    }
}
