//! A mistake in the configuration: where it is, what it is, how to mend it.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

/// One mistake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    file: PathBuf,
    /// Counted from 1; `None` when it concerns the whole file.
    line: Option<usize>,
    key: Option<String>,
    value: Option<String>,
    problem: String,
    mend: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            f.write_str(key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}; {}", self.problem, self.mend)
    }
}

/// One or more mistakes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(crate) fn one(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Mistake {
    pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self {
            file: file.to_path_buf(),
            line: None,
            key: None,
            value: None,
            problem: format!("can't be read: {error}"),
            mend: "give the configuration's path with --config".to_owned(),
        }
    }

    /// What the TOML parser found: syntax, a wrong type, an unknown or a missing key.
    pub(crate) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_of(text, &span));
        let written = line.and_then(|line| text.lines().nth(line - 1));
        let (key, value) = match written.and_then(|line| line.split_once('=')) {
            Some((key, value)) => (Some(key.trim()), Some(value.trim())),
            None => (written.map(str::trim), None),
        };
        let message = error.message();
        let (problem, mend) = match message.split_once(", expected ") {
            Some((problem, expected)) => (
                problem.replace("field", "key"),
                format!("expected {expected}"),
            ),
            None => (
                message.replace('\n', " ").replace("field", "key"),
                "docs/configuration.md lists every key with its type".to_owned(),
            ),
        };
        Self {
            file: file.to_path_buf(),
            line,
            key: key.filter(|key| !key.is_empty()).map(str::to_owned),
            value: value.map(str::to_owned),
            problem,
            mend,
        }
    }
}

/// Gathers mistakes while a configuration is proven.
pub(crate) struct Prover<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<(usize, Mistake)>,
}

impl<'a> Prover<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            mistakes: Vec::new(),
        }
    }

    /// The file as it is written.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Notes a mistake in the value at `span`.
    pub(crate) fn reject(
        &mut self,
        key: &str,
        span: Range<usize>,
        problem: impl fmt::Display,
        mend: impl fmt::Display,
    ) {
        let value = self.text.get(span.clone()).map(str::to_owned);
        let line = line_of(self.text, &span);
        self.mistakes.push((
            line,
            Mistake {
                file: self.file.to_path_buf(),
                line: Some(line),
                key: Some(key.to_owned()),
                value,
                problem: problem.to_string(),
                mend: mend.to_string(),
            },
        ));
    }

    /// File, line, key and value of what stands at `span`.
    pub(crate) fn place(&self, key: &str, span: Range<usize>) -> String {
        let line = line_of(self.text, &span);
        let value = self.text.get(span).unwrap_or_default();
        format!("{}:{line}: {key} = {value}", self.file.display())
    }

    /// Notes a key that is missing from the whole file.
    pub(crate) fn missing(&mut self, key: &str, mend: &str) {
        self.mistakes.push((
            0,
            Mistake {
                file: self.file.to_path_buf(),
                line: None,
                key: Some(key.to_owned()),
                value: None,
                problem: "is missing".to_owned(),
                mend: mend.to_owned(),
            },
        ));
    }

    /// The result, unless there was a mistake.
    pub(crate) fn finish<T>(mut self, proven: T) -> Result<T, Mistakes> {
        if self.mistakes.is_empty() {
            return Ok(proven);
        }
        self.mistakes.sort_by_key(|(line, _)| *line);
        Err(Mistakes(
            self.mistakes
                .into_iter()
                .map(|(_, mistake)| mistake)
                .collect(),
        ))
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.get(..span.start).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}
