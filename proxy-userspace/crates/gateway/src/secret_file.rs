//! Files that nobody but their owner may get at.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Why what is in one can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It isn't there, or can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
    /// Others may read or change it; its mode.
    #[error("its mode {0:04o} lets others than its owner at it; chmod 600 it")]
    Exposed(u32),
}

impl SecretFileError {
    /// How to mend it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Read(_) => "check the path and its permissions",
            Self::Exposed(_) => "nobody else is to read or change it",
        }
    }
}

/// What is in a file.
///
/// # Errors
/// See [`SecretFileError`].
pub fn read(path: &Path) -> Result<String, SecretFileError> {
    read_open(&mut File::open(path)?)
}

/// What is in a file that is open already.
///
/// # Errors
/// See [`SecretFileError`].
pub fn read_open(file: &mut File) -> Result<String, SecretFileError> {
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed(mode));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}
