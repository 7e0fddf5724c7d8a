//! A state file that can't be read: told from a disk that fails, and set aside.

use std::{
    any::Any,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{Clock, SetAside, StateError};

/// Runs what reads the file. redb panics on some damage when it is built for debugging.
pub(super) fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, StateError>,
) -> Result<T, StateError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        Err(StateError::Nonsense {
            path: path.to_path_buf(),
            what: "its structure".to_owned(),
            problem: words_of(panic.as_ref()).to_owned(),
        })
    })
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason was given")
}

/// Whether it is the file that is wrong, and not its folder or disk.
pub(super) fn is_damage(error: &StateError) -> bool {
    match error {
        StateError::Nonsense { .. } => true,
        StateError::Database { source, .. } => match source.as_ref() {
            redb::Error::Io(source) => matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ),
            redb::Error::Corrupted(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::RepairAborted => true,
            _ => false,
        },
        _ => false,
    }
}

/// Moves the file beside itself, where somebody may look at it later.
pub(super) fn set_aside(path: &Path, why: &StateError) -> Result<SetAside, StateError> {
    let aside = PathBuf::from(format!(
        "{}.damaged-{}",
        path.display(),
        Clock::now().unix_ms
    ));
    fs::rename(path, &aside).map_err(|source| StateError::CantSetAside {
        path: path.to_path_buf(),
        aside: aside.clone(),
        source,
    })?;
    Ok(SetAside {
        path: aside,
        why: why.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::state::{Batch, Content, State, Stored};

    /// A state with a content of some size and a few entries.
    fn filled(directory: &Path) {
        let (mut state, ..) = State::open(directory).expect("a state");
        let note = Stored {
            trusted: false,
            added_ms: 5,
            ending: None,
            reason: None,
            forced: false,
        };
        let host = |n: u32| IpNet::from(std::net::IpAddr::from(n.to_be_bytes()));
        let entries = (0..20_000).map(|n| (host(n * 9_973), &note, n));
        let batch = Batch {
            contents: vec![("feed".to_owned(), Some(Content::collect(entries).encode()))],
            entries: vec![("manual".to_owned(), host(7), Some(note.clone()))],
            ..Batch::default()
        };
        state.commit(batch).expect("room");
    }

    #[test]
    fn a_file_damaged_anywhere_is_read_right_or_set_aside_and_never_half_read() {
        let directory = std::env::temp_dir().join(format!("damage-{}", std::process::id()));
        filled(&directory);
        let path = directory.join("state.redb");
        let whole = fs::read(&path).expect("a file");
        let mut set_aside = 0;
        let mut try_with = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            let (state, found, aside) = State::open(&directory).expect("a state, old or new");
            drop(state);
            match aside {
                None => {
                    let counts = (found.contents[0].1.items.len(), found.entries.len());
                    assert_eq!(counts, (20_000, 1));
                }
                Some(aside) => {
                    assert!(found.contents.is_empty() && found.entries.is_empty());
                    assert_eq!(fs::read(&aside.path).expect("kept").len(), bytes.len());
                    fs::remove_file(aside.path).expect("removed");
                    set_aside += 1;
                }
            }
        };
        let used = whole
            .iter()
            .rposition(|byte| *byte != 0)
            .unwrap_or_default();
        for place in (0..used).step_by(used / 60) {
            let mut damaged = whole.clone();
            damaged[place] = !damaged[place];
            try_with(&damaged);
        }
        for length in [1, 100, 4_096, used / 2] {
            try_with(&whole[..length]);
        }
        try_with(b"this was a state once");
        assert!(set_aside > 20, "{set_aside}");
        fs::remove_dir_all(directory).expect("removed");
    }
}
