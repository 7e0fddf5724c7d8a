//! What survives a restart: the account, and each certificate with its key.
//!
//! A certificate and its key are one file, so that nobody ever sees one without the other. A file is
//! written beside its place and moved there, so that there is a whole one at any moment.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

/// Bytes of a digest that tell files apart whose names begin alike.
const TOLD_APART: usize = 4;

/// What belongs to one authority, in a folder of its own: a certificate of a test authority must not be
/// taken for one of the real one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    folder: PathBuf,
}

/// Something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused it.
    #[error(
        "can't {action} {}: {source}; acme.storage must be a folder that this user may write to",
        path.display()
    )]
    System {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is something that nobody can use.
    #[error("{} can't be used: {problem}", path.display())]
    Damaged {
        /// What.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
}

impl Storage {
    /// That of the authority with this directory URL, below `root`.
    pub fn new(root: &Path, directory: &str) -> Self {
        let uri: Option<http::Uri> = directory.parse().ok();
        let host = uri
            .as_ref()
            .and_then(http::Uri::host)
            .unwrap_or("authority");
        let host = host.trim_matches(['[', ']']).replace(':', "_");
        Self {
            folder: root.join(format!("{host}-{}", short_digest(directory))),
        }
    }

    /// Where the account is.
    pub(super) fn account(&self) -> PathBuf {
        self.folder.join("account.json")
    }

    /// Where the certificate of these names is, with its key.
    pub(super) fn certificate(&self, names: &[String]) -> PathBuf {
        let mut sorted = names.to_vec();
        sorted.sort();
        let first = names.first().map_or("", String::as_str);
        let digest = short_digest(&sorted.join(" "));
        self.folder.join(format!("{first}-{digest}.pem"))
    }

    /// A file of it; none if it isn't there.
    pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("read", path, source)),
        }
    }

    /// Puts a file in its place, whole or not at all, for the owner's eyes alone.
    pub(super) fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let fresh = path.with_extension("new");
        self.write(&fresh, bytes)?;
        fs::rename(&fresh, path).map_err(|source| failed("write", path, source))?;
        // The move itself has to be on disk as well.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| failed("write", &self.folder, source))
    }

    /// Whether something could be kept: asked before an authority is, which counts what it issues.
    pub(super) fn probe(&self) -> Result<(), StorageError> {
        let fresh = self.folder.join("probe.new");
        self.write(&fresh, b"")?;
        fs::remove_file(&fresh).map_err(|source| failed("write", &fresh, source))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| failed("create", &self.folder, source))?;
        // One that a crash left might be somebody's to read.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("write", path, error));
            }
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .map_err(|source| failed("write", path, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StorageError {
    StorageError::System {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn short_digest(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter().take(TOLD_APART);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn authorities_and_sets_of_names_have_places_of_their_own() {
        let root = Path::new("/acme");
        let storage = Storage::new(root, "https://ca.example/directory");
        let staging = Storage::new(root, "https://ca.example/staging/directory");
        assert_ne!(storage, staging);
        let one = storage.certificate(&names(&["a.example"]));
        let two = storage.certificate(&names(&["a.example", "b.example"]));
        assert_ne!(one, two);
        assert_eq!(one.parent(), two.parent());
    }

    #[test]
    fn what_is_kept_is_whole_and_for_the_owner_alone() {
        let root = std::env::temp_dir().join(format!("acme-storage-{}", std::process::id()));
        let storage = Storage::new(&root, "https://ca.example/directory");
        let path = storage.certificate(&names(&["a.example"]));
        assert!(Storage::read(&path).expect("nothing yet").is_none());
        storage.probe().expect("it can be written");
        // What a crash left in the middle of a write.
        fs::write(path.with_extension("new"), "half").expect("a file");
        for content in ["first", "second"] {
            storage.keep(&path, content.as_bytes()).expect("it is kept");
            let read = Storage::read(&path).expect("it is there");
            assert_eq!(read.as_deref(), Some(content.as_bytes()));
        }
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(mode(&path) & 0o777, 0o600);
        assert_eq!(mode(&storage.folder) & 0o777, 0o700);
        let left: Vec<_> = fs::read_dir(&storage.folder).expect("a folder").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_dir_all(root).expect("it goes");
    }
}
