//! Lists with a source as proven.

use std::ops::Range;

use toml::Spanned;

use super::mistake::Prover;
use crate::source::{Definition, Feed};

pub(super) fn feeds(prover: &mut Prover<'_>, written: &[Spanned<Definition>]) -> Vec<Feed> {
    let mut proven: Vec<Feed> = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let definition = written.as_ref();
        let name = &definition.name;
        if proven.iter().any(|earlier| earlier.name() == name) {
            let span = key_span(prover, "name", written.span());
            let problem = "another feed has this already";
            prover.reject(
                &format!("feed[{index}].name"),
                span,
                problem,
                "names are unique",
            );
        }
        match Feed::prove(definition.clone()) {
            Ok(feed) => proven.push(feed),
            Err(flaws) => {
                for flaw in flaws {
                    let span = key_span(prover, flaw.key, written.span());
                    let key = format!("feed[{index}].{}", flaw.key);
                    prover.reject(&key, span, flaw.problem, flaw.mend);
                }
            }
        }
    }
    proven
}

/// Where the value of a key of a table is written; the whole table where it isn't.
fn key_span(prover: &Prover<'_>, key: &str, table: Range<usize>) -> Range<usize> {
    let text = prover.text();
    // The span of a table in an array may be that of its header alone.
    let end = text.get(table.start + 1..).unwrap_or_default();
    let end = end
        .find("\n[")
        .map_or(text.len(), |at| table.start + 1 + at);
    let mut at = table.start;
    for line in text
        .get(table.start..end)
        .unwrap_or_default()
        .split_inclusive('\n')
    {
        if let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            let begin = at + name.len() + 1;
            let value_begin = begin + (value.len() - value.trim_start().len());
            return value_begin..value_begin + value.trim().len();
        }
        at += line.len();
    }
    table.start..end.min(table.end)
}
