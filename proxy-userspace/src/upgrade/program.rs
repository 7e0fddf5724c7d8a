//! What an upgrade starts: the file that lies where this process was started from, with the same words.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// What the kernel adds to the path of a file that is gone (proc(5), /proc/pid/exe).
const GONE: &[u8] = b" (deleted)";

/// A path and what follows it on the command line. The path is remembered from the start: a binary that is
/// renamed to be kept takes its process's idea of a path along.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) words: Vec<OsString>,
}

impl Program {
    /// What this process was started as.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut words = env::args_os();
        let said = words.next().unwrap_or_default();
        Ok(Self {
            path: place(&said, env::current_exe()?),
            words: words.collect(),
        })
    }
}

/// The absolute path that was typed, if it leads to what runs, so that a link that leads to another version by
/// then is followed; otherwise where the kernel says that the file is.
fn place(said: &OsStr, running: PathBuf) -> PathBuf {
    let said = Path::new(said);
    if said.is_absolute() && fs::canonicalize(said).is_ok_and(|led_to| led_to == running) {
        return said.to_path_buf();
    }
    match running.as_os_str().as_bytes().strip_suffix(GONE) {
        Some(path) if !running.exists() => OsString::from_vec(path.to_vec()).into(),
        _ => running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_to_what_runs_is_kept_and_nothing_else_that_was_typed() {
        let running = env::current_exe().expect("a path");
        let link = env::temp_dir().join(format!("program-{}", std::process::id()));
        std::os::unix::fs::symlink(&running, &link).expect("a link");
        assert_eq!(place(link.as_os_str(), running.clone()), link);
        for said in ["portcullis", "./portcullis", "/bin/sh", ""] {
            assert_eq!(place(OsStr::new(said), running.clone()), running, "{said}");
        }
        fs::remove_file(link).expect("removed");
    }

    #[test]
    fn a_file_that_was_replaced_is_where_it_was() {
        let gone = PathBuf::from("/nowhere/portcullis (deleted)");
        let said = OsStr::new("/nowhere/portcullis");
        assert_eq!(place(said, gone), Path::new("/nowhere/portcullis"));
    }
}
