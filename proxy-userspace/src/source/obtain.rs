//! Getting what a source says, as bytes.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use gateway::{FetchError, Fetched, Validators};
use tokio::task;

use super::definition::{Feed, Source};

/// Why nothing could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObtainError {
    #[error("can't read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is larger than max_bytes, {largest}", path.display())]
    TooLarge { path: PathBuf, largest: u64 },
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error(
        "it has no source to ask; hand its entries over with --input FILE, or - for standard input"
    )]
    OnlyByHand,
    #[error("reading was cut off: {0}")]
    Task(#[from] task::JoinError),
}

/// What a source says.
pub(super) enum Obtained {
    /// The content that the validators are of.
    Unchanged,
    Content {
        bytes: Vec<u8>,
        validators: Validators,
    },
}

/// Asks a feed's source.
pub(super) async fn obtain(feed: &Feed, known: &Validators) -> Result<Obtained, ObtainError> {
    match &feed.source {
        Source::Input => Err(ObtainError::OnlyByHand),
        Source::Url(fetcher) => Ok(match fetcher.get_if_changed(known).await? {
            Fetched::Unchanged => Obtained::Unchanged,
            Fetched::Document {
                bytes, validators, ..
            } => Obtained::Content {
                bytes: bytes.into(),
                validators,
            },
        }),
        Source::File(path) => {
            let (path, largest) = (path.clone(), feed.largest);
            let read = task::spawn_blocking(move || read_file(path, largest));
            Ok(Obtained::Content {
                bytes: read.await??,
                validators: Validators::default(),
            })
        }
    }
}

fn read_file(path: PathBuf, largest: u64) -> Result<Vec<u8>, ObtainError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = File::open(&path)?;
        // Reading a pipe or a device might never end.
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(facts.len().min(largest) as usize);
        file.take(largest.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match read() {
        Ok(Some(bytes)) if bytes.len() as u64 > largest => {
            Err(ObtainError::TooLarge { path, largest })
        }
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(ObtainError::NotAFile { path }),
        Err(source) => Err(ObtainError::Read { path, source }),
    }
}
