//! What the text of the sources says about their shape.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Lines after which a file probably has two subjects, and after which it has.
const LONG: usize = 400;
const TOO_LONG: usize = 500;

/// Modules of proxy-ebpf that stages may use: the ground they stand on, none of them a stage.
const GROUND: &[&str] = &["frame", "machine", "observer", "report", "settings"];

/// Complaints about files longer than anyone reads; prints a warning for the nearly so.
pub(super) fn lengths(root: &Path) -> Result<Vec<String>, Failure> {
    let mut complaints = Vec::new();
    for file in rust_files(root).map_err(|e| unreadable(root, &e))? {
        let text = fs::read_to_string(&file).map_err(|e| unreadable(&file, &e))?;
        let lines = text.lines().count();
        let told = format!(
            "{} has {lines} lines",
            file.strip_prefix(root).unwrap_or(&file).display()
        );
        if lines > TOO_LONG {
            complaints.push(format!(
                "{told}, more than {TOO_LONG}: split it where you can name both parts"
            ));
        } else if lines > LONG {
            println!("warning: {told}, more than {LONG}");
        }
    }
    Ok(complaints)
}

/// Complaints about stages of the eBPF pipeline that name each other: only `main.rs` knows
/// the order.
pub(super) fn stages(src: &Path) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    for file in rust_files(src).map_err(|e| unreadable(src, &e))? {
        let text = fs::read_to_string(&file).map_err(|e| unreadable(&file, &e))?;
        let inside = file.strip_prefix(src).unwrap_or(&file);
        let module = inside
            .iter()
            .next()
            .map(Path::new)
            .and_then(Path::file_stem);
        files.push((
            module.unwrap_or_default().to_string_lossy().into_owned(),
            text,
        ));
    }
    Ok(neighbours(&files))
}

/// Judges pairs of module name and text.
fn neighbours(files: &[(String, String)]) -> Vec<String> {
    let modules: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let mut complaints = Vec::new();
    for (module, text) in files.iter().filter(|(name, _)| name != "main") {
        for named in named_modules(text) {
            let foreign = named != module && modules.contains(&named);
            if foreign && !GROUND.contains(&named) {
                complaints.push(format!(
                    "{module} names {named}: only main.rs may name a stage"
                ));
            }
        }
    }
    complaints
}

/// The first segment after every `crate::`, or each of those in `crate::{…}`.
fn named_modules(text: &str) -> Vec<&str> {
    let code: Vec<&str> = text.split("crate::").skip(1).collect();
    let first = |path: &'_ str| {
        path.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(path.len())
    };
    let mut named = Vec::new();
    for path in code {
        match path.strip_prefix('{') {
            None => named.push(&path[..first(path)]),
            Some(group) => {
                let mut depth = 0_u32;
                let mut start = 0;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            let item = group[start..at].trim();
                            named.push(&item[..first(item)]);
                            start = at + 1;
                            if c == '}' {
                                break;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    named
}

/// Every `.rs` file below, except under hidden folders and build output.
fn rust_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    left.push(entry.path());
                }
            } else if name.ends_with(".rs") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(files: &[(&str, &str)]) -> Vec<String> {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        neighbours(&files.iter().map(own).collect::<Vec<_>>())
    }

    #[test]
    fn refuses_a_stage_that_names_another() {
        let complaints = judged(&[
            ("blocked", "use crate::rate::Bucket;"),
            ("rate", ""),
            ("main", "use crate::{blocked, rate};"),
        ]);
        assert_eq!(
            complaints,
            ["blocked names rate: only main.rs may name a stage"]
        );
    }

    #[test]
    fn refuses_a_stage_named_within_a_group() {
        let files = [
            ("trusted", "use crate::{settings::{A, B},\n  rate};"),
            ("rate", ""),
            ("settings", ""),
        ];
        assert_eq!(
            judged(&files),
            ["trusted names rate: only main.rs may name a stage"]
        );
    }

    #[test]
    fn takes_the_ground_stages_stand_on() {
        let files = [
            ("rate", "use crate::{settings::B, rate::own};"),
            ("settings", ""),
        ];
        assert!(judged(&files).is_empty());
    }

    #[test]
    fn refuses_a_file_of_501_lines_and_takes_one_of_500() {
        let dir = std::env::temp_dir().join(format!("xtask-lengths-{}", std::process::id()));
        fs::create_dir_all(dir.join("target")).unwrap();
        fs::write(dir.join("fits.rs"), "\n".repeat(500)).unwrap();
        fs::write(dir.join("target/built.rs"), "\n".repeat(900)).unwrap();
        assert_eq!(lengths(&dir), Ok(Vec::new()));
        fs::write(dir.join("over.rs"), "\n".repeat(501)).unwrap();
        let complaints = lengths(&dir).unwrap();
        assert!(
            complaints[0].starts_with("over.rs has 501 lines"),
            "{complaints:?}"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
