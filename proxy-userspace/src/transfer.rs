//! Lists from files to the daemon, and from the daemon to files. Files are read here, so that
//! what others wrote is parsed by a command and not by the daemon.

use std::{borrow::Cow, error::Error, fs, io, path::Path, process::ExitCode, time::Duration};

use serde_json::json;

use crate::{
    admin::{BadLineReport, LONGEST_LINE, Reply, Request, ask, ask_on},
    block::{manner, operator},
    bulk::yield_to_requests,
    cli::{Export, Import},
    feed::{BadLine, FeedError, Reading, read, unpack, write},
    lists::{Entry, Filter, LIFELINES},
    millis, print,
    progress::Progress,
    render, show,
};

/// Bytes of a file that are read at once.
const PIECE: usize = 64 * 1024;

/// Reads a file and puts what it holds on a list, or says what would come of that.
pub(crate) fn import(
    wish: Import,
    list: String,
    ttl: Option<Duration>,
    trusted: bool,
) -> Result<ExitCode, Box<dyn Error>> {
    yield_to_requests();
    let name = wish.file.display().to_string();
    let progress = Progress::begin(&format!("reading {name}"));
    let text = read_text(&wish.file)?;
    let reading = Reading {
        format: wish.format,
        field: wish.field,
        min_score: wish.min_score,
        max_bad_lines: wish.max_bad_lines,
    };
    let feed = match read(&text, &reading) {
        Ok(feed) => feed,
        Err(FeedError::BadLines(bad)) => {
            drop(progress);
            let lines = reports(bad);
            return show(wish.daemon.output, Reply::BadLines { lines });
        }
        Err(error) => return Err(format!("{name}: {error}").into()),
    };
    let timed = feed.entries.iter().filter_map(|entry| {
        let left = entry.left?;
        Some((entry.prefix, millis(left)))
    });
    let for_ttl = feed.entries.iter().filter(|entry| entry.left.is_none());
    let request = Request::Import {
        list,
        trusted,
        timed: timed.collect(),
        prefixes: for_ttl.map(|entry| entry.prefix).collect(),
        ttl_ms: ttl.map(millis),
        reason: wish.reason,
        operator: operator(),
        manner: manner(wish.manner),
    };
    let count = feed.entries.len();
    progress.stage(format!(
        "{count} entries read, the daemon puts them in force"
    ));
    let reply = ask(&wish.daemon.socket, &request)?;
    drop(progress);
    let bad = reports(feed.bad);
    if !wish.daemon.output.json {
        if !bad.is_empty() {
            eprint!("{}", render::left_out(&bad));
        }
        if feed.below_score > 0 {
            let left_out = feed.below_score;
            eprintln!("{left_out} entries were left out for their score");
        } else if wish.min_score.is_some() && feed.entries.iter().all(|it| it.score.is_none()) {
            let format = feed.format;
            eprintln!("{format} gives no scores, so --min-score left nothing out");
        }
        return show(wish.daemon.output, reply);
    }
    if matches!(reply, Reply::Error { .. }) {
        return show(wish.daemon.output, reply);
    }
    let mut told = serde_json::to_value(&reply)?;
    if let Some(told) = told.as_object_mut() {
        told.insert("format".to_owned(), json!(feed.format.name()));
        told.insert("below_score".to_owned(), json!(feed.below_score));
        told.insert("bad_lines".to_owned(), serde_json::to_value(&bad)?);
    }
    print(&format!("{told}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes lists as others read them.
pub(crate) fn export(wish: &Export, trusted: bool) -> Result<ExitCode, Box<dyn Error>> {
    let Export {
        list,
        format,
        output: file,
        daemon,
    } = wish;
    let format = *format;
    let request = Request::List {
        filter: Filter {
            list: list.clone(),
            trusted: Some(trusted),
            ..Filter::default()
        },
        after: None,
        limit: None,
    };
    let progress = Progress::begin("waiting for the daemon");
    let mut entries = Vec::new();
    let mut refusal = None;
    ask_on(&daemon.socket, &request, |reply| match reply {
        Reply::Entries {
            entries: page,
            more,
            ..
        } => {
            // What keeps this host reachable says nothing to another one, unless it is asked for.
            let own = |entry: &Entry| list.is_none() && entry.list == LIFELINES;
            entries.extend(page.into_iter().filter(|entry| !own(entry)));
            progress.stage(format!("{} entries received", entries.len()));
            more
        }
        other => {
            refusal = Some(other);
            false
        }
    })?;
    drop(progress);
    if let Some(refusal) = refusal {
        return show(daemon.output, refusal);
    }
    let written = write(&entries, format);
    let Some(file) = file else {
        tell_losses(&written.lost);
        print(&written.text)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::write(file, &written.text)
        .map_err(|error| format!("can't write {}: {error}", file.display()))?;
    let count = entries.len();
    if daemon.output.json {
        let told = json!({
            "exported": count,
            "format": format.name(),
            "file": file.display().to_string(),
            "lost": written.lost,
        });
        print(&format!("{told}\n"))?;
    } else {
        tell_losses(&written.lost);
        print(&format!("{count} entries written to {}\n", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_losses(lost: &[String]) {
    for loss in lost {
        eprintln!("portcullis: {loss}");
    }
}

fn reports(bad: Vec<BadLine>) -> Vec<BadLineReport> {
    bad.into_iter()
        .map(|line| BadLineReport {
            number: line.number,
            text: line.text,
            problem: line.problem,
        })
        .collect()
}

/// The text of a file, unpacked; no more of it than the daemon could be told.
pub(crate) fn read_text(file: &Path) -> Result<String, String> {
    let read = if file == Path::new("-") {
        read_in_pieces(io::stdin())
    } else {
        fs::File::open(file).and_then(read_in_pieces)
    };
    let bytes = read.map_err(|error| format!("can't read {}: {error}", file.display()))?;
    let unpacked = match unpack(&bytes, LONGEST_LINE)
        .map_err(|error| format!("{} {error}", file.display()))?
    {
        Cow::Borrowed(_) => None,
        Cow::Owned(unpacked) => Some(unpacked),
    };
    String::from_utf8(unpacked.unwrap_or(bytes))
        .map_err(|error| format!("{} is no text: {error}", file.display()))
}

/// At most what the daemon could be told and one byte. In pieces: a call that reads megabytes keeps
/// its core for milliseconds on a kernel that doesn't preempt itself.
fn read_in_pieces(mut file: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let left = LONGEST_LINE + 1 - bytes.len() as u64;
        let room = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
        match file.read(&mut piece[..room]) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
