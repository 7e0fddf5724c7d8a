//! What must survive `kill -9`: the lists that were made at run time, and what goes with them.
//!
//! ```text
//! clock    endings that survive another boot
//! content  a whole list as one value
//! damage   a file that can't be read is set aside
//! in_pieces  the file, without calls that keep a core for long
//! ```
//!
//! A list is a content, and the entries that were changed since it was written. A change of a few
//! entries writes those; one of many writes the content anew.

mod clock;
mod content;
mod damage;
mod in_pieces;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use redb::{Database, DatabaseError, ReadableDatabase as _, TableDefinition};
use serde::{Deserialize, Serialize};

pub(crate) use clock::{Clock, Ending};
pub(crate) use content::Content;
use in_pieces::InPieces;

/// Key: list and prefix. Value: [`Stored`] as JSON; nothing of what a content holds no more.
const ENTRIES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("entries");
/// Key: list. Value: [`Content`].
const CONTENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("contents");
/// Key: kind and name. Value: what its owner makes of it.
const DOCUMENTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("documents");

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
    #[error("{} is another process's now, which this one hands over to; ask again, and that one answers", path.display())]
    HandedOver { path: PathBuf },
    #[error("no room for {}: {source}; free some on its file system", path.display())]
    Full {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("can't {action} {}: {source}", path.display())]
    Database {
        action: &'static str,
        path: PathBuf,
        source: Box<redb::Error>,
    },
    #[error("{}: {what} can't be read: {problem}", path.display())]
    Nonsense {
        path: PathBuf,
        what: String,
        problem: String,
    },
    #[error("{} is damaged and can't be set aside as {}: {source}", path.display(), aside.display())]
    CantSetAside {
        path: PathBuf,
        aside: PathBuf,
        source: std::io::Error,
    },
}

/// An entry of a list as stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Whether the list is one of trusted prefixes.
    pub(crate) trusted: bool,
    /// Milliseconds since the epoch.
    pub(crate) added_ms: u64,
    /// `None` for good.
    pub(crate) ending: Option<Ending>,
    /// The operator's words.
    pub(crate) reason: Option<String>,
    /// Whether it was meant although it covers what keeps the host reachable.
    #[serde(default)]
    pub(crate) forced: bool,
}

/// What is made durable at once, all or none.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// List, prefix, and what is stored of it from now on.
    pub(crate) entries: Vec<(String, IpNet, Option<Stored>)>,
    /// Lists that are written anew; without a content they are gone.
    pub(crate) contents: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) documents: Vec<Document>,
}

/// Something that is kept for whoever made it, by kind and name.
#[derive(Debug)]
pub(crate) struct Document {
    kind: &'static str,
    name: String,
    value: Option<Vec<u8>>,
}

impl Document {
    pub(crate) fn put(kind: &'static str, name: String, value: Vec<u8>) -> Self {
        Self {
            kind,
            name,
            value: Some(value),
        }
    }

    pub(crate) fn remove(kind: &'static str, name: String) -> Self {
        Self {
            kind,
            name,
            value: None,
        }
    }
}

/// What was stored.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) contents: Vec<(String, Content)>,
    /// Changed since: list, prefix, and what is stored of it; nothing of what is gone.
    pub(crate) entries: Vec<(String, IpNet, Option<Stored>)>,
}

/// A state that could not be read and lies beside the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetAside {
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

/// The database; one process at a time.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    /// `None` while it is opened again after the disk failed it, or another process has it.
    database: Option<Database>,
    /// Whether another process has it.
    handed_over: bool,
    /// Lists with a content, of which entries that go must be told.
    with_content: BTreeSet<String>,
}

impl State {
    /// Opens what an earlier run left and reads it. What can't be read is set aside.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Found, Option<SetAside>), StateError> {
        fs::create_dir_all(directory).map_err(|source| StateError::Folder {
            path: directory.to_path_buf(),
            source,
        })?;
        let path = directory.join("state.redb");
        match damage::guarded(&path, || Self::open_file(&path)) {
            Ok((state, found)) => Ok((state, found, None)),
            Err(error) if damage::is_damage(&error) => {
                let aside = damage::set_aside(&path, &error)?;
                let (state, found) = Self::open_file(&path)?;
                Ok((state, found, Some(aside)))
            }
            Err(error) => Err(error),
        }
    }

    fn open_file(path: &Path) -> Result<(Self, Found), StateError> {
        let mut database = open_database(path)?;
        database
            .check_integrity()
            .map_err(|error| failed(path, "check", error.into()))?;
        let mut state = Self {
            path: path.to_path_buf(),
            database: Some(database),
            handed_over: false,
            with_content: BTreeSet::new(),
        };
        // Made now, so that reading never meets a database without its tables.
        state.commit(Batch::default())?;
        let found = state.read()?;
        let with_content = found.contents.iter().map(|(list, _)| list.clone());
        state.with_content = with_content.collect();
        Ok((state, found))
    }

    fn read(&self) -> Result<Found, StateError> {
        let mut found = Found::default();
        self.each(CONTENTS, |list: &str, bytes| {
            let content = Content::decode(bytes)
                .map_err(|error| self.nonsense(format!("list {list:?}"), &error))?;
            found.contents.push((list.to_owned(), content));
            Ok(())
        })?;
        self.each(ENTRIES, |(list, prefix): (&str, &str), bytes| {
            let what = || format!("the entry for {prefix} in {list}");
            let net = prefix
                .parse()
                .map_err(|error| self.nonsense(what(), &error))?;
            let stored = match bytes {
                [] => None,
                bytes => Some(
                    serde_json::from_slice(bytes).map_err(|error| self.nonsense(what(), &error))?,
                ),
            };
            found.entries.push((list.to_owned(), net, stored));
            Ok(())
        })?;
        Ok(found)
    }

    /// One document.
    pub(crate) fn document(&self, kind: &str, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let read = || -> Result<_, redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let table = database.begin_read()?.open_table(DOCUMENTS)?;
            let value = table.get((kind, name))?;
            Ok(value.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| failed(&self.path, "read", error))
    }

    /// Every document of a kind: name and value.
    pub(crate) fn documents(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let mut found = Vec::new();
        self.each(DOCUMENTS, |(of, name): (&str, &str), bytes| {
            if of == kind {
                found.push((name.to_owned(), bytes.to_vec()));
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn each<K: redb::Key + 'static>(
        &self,
        table: TableDefinition<'_, K, &[u8]>,
        mut take: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let open = || -> Result<_, redb::Error> {
            let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
            let table = database.begin_read()?.open_table(table)?;
            Ok(table.range::<K::SelfType<'_>>(..)?)
        };
        let failed = |error| failed(&self.path, "read", error);
        for row in open().map_err(failed)? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            take(key.value(), value.value())?;
        }
        Ok(())
    }

    /// Lets go of it, for another process. Nothing is read or kept from then on.
    pub(crate) fn hand_over(&mut self) {
        self.database = None;
        self.handed_over = true;
    }

    /// Takes it back when the other process is gone. After a failure it is tried again by the next change.
    pub(crate) fn take_back(&mut self) -> Result<(), StateError> {
        self.handed_over = false;
        self.database = Some(open_database(&self.path)?);
        Ok(())
    }

    /// Makes a batch durable, all or none.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), StateError> {
        if self.handed_over {
            return Err(StateError::HandedOver {
                path: self.path.clone(),
            });
        }
        if self.database.is_none() {
            // The disk failed an earlier commit, after which redb refuses all until it is opened anew.
            self.database = Some(open_database(&self.path)?);
        }
        let written = self.write(&batch);
        if let Err(error) = written {
            self.database = None;
            return Err(failed(&self.path, "write", error));
        }
        for (list, content) in batch.contents {
            match content {
                Some(_) => self.with_content.insert(list),
                None => self.with_content.remove(&list),
            };
        }
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let transaction = database.begin_write()?;
        {
            let mut contents = transaction.open_table(CONTENTS)?;
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut documents = transaction.open_table(DOCUMENTS)?;
            for (list, content) in &batch.contents {
                let (first, last) = ((list.as_str(), ""), (list.as_str(), "g"));
                entries.retain_in(first..last, |_, _| false)?;
                match content {
                    Some(content) => contents.insert(list.as_str(), content.as_slice())?,
                    None => contents.remove(list.as_str())?,
                };
            }
            for (list, prefix, stored) in &batch.entries {
                let prefix = prefix.to_string();
                let key = (list.as_str(), prefix.as_str());
                match stored {
                    Some(stored) => {
                        let value = serde_json::to_vec(stored).unwrap_or_default();
                        entries.insert(key, value.as_slice())?;
                    }
                    None if self.with_content.contains(list) => {
                        entries.insert(key, [].as_slice())?;
                    }
                    None => {
                        entries.remove(key)?;
                    }
                }
            }
            for Document { kind, name, value } in &batch.documents {
                let key = (*kind, name.as_str());
                match value {
                    Some(value) => documents.insert(key, value.as_slice())?,
                    None => documents.remove(key)?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }

    pub(crate) fn nonsense(&self, what: String, problem: &dyn std::error::Error) -> StateError {
        StateError::Nonsense {
            path: self.path.clone(),
            what,
            problem: problem.to_string(),
        }
    }
}

fn open_database(path: &Path) -> Result<Database, StateError> {
    let opened =
        InPieces::open(path).and_then(|file| Database::builder().create_with_backend(file));
    match opened {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StateError::InUse {
            path: path.to_path_buf(),
        }),
        Err(error) => Err(failed(path, "open", error.into())),
    }
}

fn failed(path: &Path, action: &'static str, error: redb::Error) -> StateError {
    let path = path.to_path_buf();
    match error {
        redb::Error::Io(source)
            if matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            StateError::Full { path, source }
        }
        error => StateError::Database {
            action,
            path,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests;
