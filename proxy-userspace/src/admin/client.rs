//! The command line's end of the admin socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use super::{LONGEST_LINE, Reply, Request, protocol::json_line};

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no portcullis answers at {}: {source}; start it with `portcullis run`, or give its admin.socket with --socket",
        path.display()
    )]
    NotRunning { path: PathBuf, source: io::Error },
    #[error("may not use {}: {source}; run this as root, or list your uid in admin.allowed_uids", path.display())]
    Forbidden { path: PathBuf, source: io::Error },
    #[error("the daemon broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("the daemon's answer can't be read: {0}; is it of another version?")]
    Unreadable(#[from] serde_json::Error),
    #[error(
        "the request is longer than {LONGEST_LINE} bytes, the most that the daemon reads; import the file in parts"
    )]
    TooLong,
}

/// Asks the daemon one thing.
pub(crate) fn ask(path: &Path, request: &Request) -> Result<Reply, ClientError> {
    let mut answer = None;
    ask_on(path, request, |reply| {
        answer = Some(reply);
        false
    })?;
    answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// Asks the daemon one thing that it answers with many replies, until `more` says that it was the
/// last.
pub(crate) fn ask_on(
    path: &Path,
    request: &Request,
    mut more: impl FnMut(Reply) -> bool,
) -> Result<(), ClientError> {
    let line = json_line(request)?;
    if u64::try_from(line.len()).is_ok_and(|length| length > LONGEST_LINE) {
        return Err(ClientError::TooLong);
    }
    let mut stream = UnixStream::connect(path).map_err(|source| {
        let path = path.to_path_buf();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Forbidden { path, source }
        } else {
            ClientError::NotRunning { path, source }
        }
    })?;
    match stream.write_all(&line) {
        // A daemon that refuses this user answers without hearing the question.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let mut reader = BufReader::new(stream);
    loop {
        let mut answer = String::new();
        reader.by_ref().take(LONGEST_LINE).read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if !more(serde_json::from_str(&answer)?) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Manner;

    #[test]
    fn a_request_that_the_daemon_would_not_read_whole_is_not_sent() {
        let request = Request::Remove {
            list: "x".repeat(64 << 20),
            prefixes: Vec::new(),
            manner: Manner::default(),
        };
        let refused = ask(Path::new("/nowhere"), &request).expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "the request is longer than 67108864 bytes, the most that the daemon reads; \
             import the file in parts"
        );
    }
}
