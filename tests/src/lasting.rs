//! Answers that go on and on: services that give them, and clients that take them until somebody ends that.

use std::{
    fs,
    io::{self, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use crate::{
    front::Front,
    run::{RigError, Rigged, eventually},
    scratch::unique_name,
    scripted::{Scripted, Seen},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers `…/silent` with a beginning and then nothing, `…/busy` with more and more as fast as it is taken,
/// `…/late` with nothing at all, and all else at once. Its threads end with the test.
///
/// # Errors
/// When it can't listen.
pub fn service() -> Rigged<Scripted> {
    Scripted::start(answer)
}

fn answer(seen: &Seen, stream: &mut TcpStream) -> io::Result<bool> {
    let target = seen.head[0].split(' ').nth(1).unwrap_or_default();
    let begin = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    match target.rsplit('/').next() {
        Some("late") => {}
        Some("silent") => write!(stream, "{begin}\r\ndata: begun\n\n")?,
        Some("busy") => {
            write!(stream, "{begin}\r\n")?;
            let part = "data: more\n\n".repeat(512);
            while stream.write_all(part.as_bytes()).is_ok() {}
            return Ok(false);
        }
        _ => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            return Ok(true);
        }
    }
    // Until the proxy has had enough.
    let mut nothing = [0];
    let _ = io::Read::read(stream, &mut nothing);
    thread::sleep(Duration::from_millis(10));
    Ok(false)
}

/// curl, taking an answer that goes on.
pub struct Taker {
    curl: Child,
    body: PathBuf,
}

impl Taker {
    /// Asks for a path with a token, and further arguments for curl.
    ///
    /// # Errors
    /// When curl can't be run.
    pub fn begin(front: &Front, path: &str, token: &str, args: &[&str]) -> Rigged<Self> {
        let bearer = format!("Authorization: Bearer {token}");
        Self::begin_as(front, path, &bearer, args)
    }

    /// Asks for a path with a field that says who asks, and further arguments for curl.
    ///
    /// # Errors
    /// When curl can't be run.
    pub fn begin_as(front: &Front, path: &str, field: &str, args: &[&str]) -> Rigged<Self> {
        let body = front.ground.scratch.join(&unique_name());
        let mut curl = front.curl_command();
        curl.args([
            "-N",
            "--max-time",
            "30",
            "-w",
            "%{stderr}%{http_code}",
            "-o",
        ])
        .arg(&body)
        .args(["-H", field])
        .args(args)
        .arg(front.url(path))
        .stderr(Stdio::piped());
        Ok(Self {
            curl: curl.spawn()?,
            body,
        })
    }

    /// Waits until there is something of the answer.
    ///
    /// # Errors
    /// When nothing comes.
    pub fn has_begun(&mut self) -> Rigged<()> {
        eventually("an answer begins", PATIENCE, || {
            fs::metadata(&self.body).ok().filter(|it| it.len() > 0)
        })?;
        Ok(())
    }

    /// Whether it still waits for more.
    ///
    /// # Errors
    /// When curl can't be asked.
    pub fn goes_on(&mut self) -> Rigged<bool> {
        Ok(self.curl.try_wait()?.is_none())
    }

    /// Ends curl.
    ///
    /// # Errors
    /// When it can't be ended.
    pub fn stop(mut self) -> Rigged<()> {
        self.curl.kill()?;
        self.curl.wait()?;
        Ok(())
    }

    /// Waits for the end: curl's own code (0 for an answer that was whole) and the HTTP status.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn ended(self) -> Rigged<(i32, u16)> {
        let ended = self.curl.wait_with_output()?;
        let status = String::from_utf8_lossy(&ended.stderr).parse();
        let status = status.map_err(|_| RigError("curl says no status".to_owned()))?;
        Ok((ended.status.code().unwrap_or(-1), status))
    }
}
