//! CSV: which column holds the address, and what stands in it.

use csv::{ReaderBuilder, StringRecord};

use super::{
    format::Format,
    prefix::single,
    read::{FeedError, Found, Item, LineProblem},
};

/// The column that holds the address when nobody names one; `block export` writes it.
const OWN_COLUMN: &str = "prefix";

/// A table with commas between its columns. Lines that begin with `#` are comments, though the
/// last of them before the table may name the columns.
///
/// # Errors
/// When no column is named, or none has that name, and when a quoted field goes on over the end
/// of its line: one stray quote would hide every entry up to the next.
pub(super) fn csv(text: &str, field: Option<&str>, found: &mut Found) -> Result<(), FeedError> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut place = Place {
        rest: text,
        passed: 0,
        line: 1,
        comment: None,
    };
    let mut column = None;
    let mut record = StringRecord::new();
    loop {
        let more = reader.read_record(&mut record).map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            broken(usize::try_from(line).unwrap_or(usize::MAX), "is no CSV")
        })?;
        if !more {
            return Ok(());
        }
        let begins = record.position().map_or(0, csv::Position::byte);
        let (number, line) = place.advance(usize::try_from(begins).unwrap_or(usize::MAX));
        if record.iter().any(|cell| cell.contains('\n')) {
            return Err(broken(number, "has a quoted field that goes over its end"));
        }
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let at = match column {
            Some(at) => at,
            None => {
                let comment = place.comment.and_then(as_record);
                let (at, is_header) = find_column(field, &record, comment.as_ref())?;
                column = Some(at);
                if is_header {
                    continue;
                }
                at
            }
        };
        let item = match record.get(at) {
            Some(cell) => single(cell).map(Item::from),
            None => Err(LineProblem::NoColumn(at.saturating_add(1))),
        };
        found.take(number, line, item);
    }
}

/// Where a record stands. The reader's own positions are those of what precedes a record: ends of
/// lines and comments.
struct Place<'a> {
    rest: &'a str,
    /// Bytes before `rest`.
    passed: usize,
    /// The line that `rest` begins on.
    line: usize,
    /// The last comment that was passed.
    comment: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// The line, by number and text, of the first record from `byte` on.
    fn advance(&mut self, byte: usize) -> (usize, &'a str) {
        self.skip(byte.saturating_sub(self.passed));
        loop {
            let line = self.rest.lines().next().unwrap_or_default();
            let is_comment = line.starts_with('#');
            if is_comment {
                self.comment = line.get(1..);
            }
            if self.rest.is_empty() || !(is_comment || line.is_empty()) {
                return (self.line, line);
            }
            let end = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
            self.skip(end);
        }
    }

    fn skip(&mut self, bytes: usize) {
        let (before, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += before.matches('\n').count();
        self.passed += before.len();
        self.rest = rest;
    }
}

/// A comment as the header it may be.
fn as_record(comment: &str) -> Option<StringRecord> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .from_reader(comment.trim().as_bytes());
    reader.records().next()?.ok()
}

/// Which column is meant, counted from 0, and whether the table's first record only names it.
fn find_column(
    field: Option<&str>,
    first: &StringRecord,
    comment: Option<&StringRecord>,
) -> Result<(usize, bool), FeedError> {
    let name = field.unwrap_or(OWN_COLUMN);
    let named = |record: &StringRecord| record.iter().position(|cell| cell.trim() == name);
    if let Some(at) = named(first) {
        return Ok((at, true));
    }
    if let Some(at) = comment.and_then(named) {
        return Ok((at, false));
    }
    let there = || {
        let cells: Vec<_> = first.iter().map(|cell| cell.trim().to_owned()).collect();
        cells.join(", ")
    };
    let Some(field) = field else {
        return Err(FeedError::FieldNeeded {
            format: Format::Csv,
            there: format!("{}; or a number, from 1", there()),
        });
    };
    match field.parse::<usize>().ok().and_then(|it| it.checked_sub(1)) {
        // A header holds no mark that addresses have; a mistyped address does.
        Some(at) => {
            let is_header = first.get(at).is_some_and(|cell| !cell.contains(['.', ':']));
            Ok((at, is_header))
        }
        None => Err(FeedError::NoSuchField {
            format: Format::Csv,
            field: field.to_owned(),
            there: there(),
        }),
    }
}

fn broken(line: usize, problem: &str) -> FeedError {
    FeedError::Broken {
        line,
        problem: format!("{problem}; none of the list was taken"),
    }
}

#[cfg(test)]
mod tests {
    use crate::feed::{FeedError, Format, Reading, read};

    fn reading(field: Option<&str>) -> Reading {
        Reading {
            format: Some(Format::Csv),
            field: field.map(str::to_owned),
            ..Reading::default()
        }
    }

    fn lines(text: &str, field: Option<&str>) -> Vec<(usize, String)> {
        let feed = read(text, &reading(field)).expect("a good list");
        let entries = feed.entries.iter();
        entries
            .map(|entry| (entry.line, entry.prefix.to_string()))
            .collect()
    }

    #[test]
    fn a_column_is_found_by_its_name_or_number() {
        let one = [(2, "192.0.2.1/32".to_owned())];
        for (text, field) in [
            ("seen,ip\ntoday,192.0.2.1\n", Some("ip")),
            ("seen,ip\ntoday,192.0.2.1\n", Some("2")),
            ("seen,prefix\r\ntoday,192.0.2.1\r\n", None),
            ("# \"seen\",\"ip\"\n\"to, day\",\"192.0.2.1\"\n", Some("ip")),
            ("#\n\"to, \"\"day\"\"\",192.0.2.1\n", Some("2")),
        ] {
            assert_eq!(lines(text, field), one, "{text}");
        }
    }

    #[test]
    fn comments_and_blank_lines_count_as_lines() {
        let text = "ip,n\n# one\n\n192.0.2.1,1\n# two\n192.0.2.2,2\n";
        let numbers: Vec<_> = lines(text, Some("ip")).iter().map(|it| it.0).collect();
        assert_eq!(numbers, [4, 6]);
    }

    #[test]
    fn which_column_is_never_guessed() {
        let text = "seen,ip\ntoday,192.0.2.1\n";
        let refused = |field| {
            read(text, &reading(field))
                .expect_err("a refusal")
                .to_string()
        };
        assert_eq!(
            refused(None),
            "which field of the csv holds the address? Name one with --field: \
             seen, ip; or a number, from 1"
        );
        assert_eq!(
            refused(Some("address")),
            "the csv has no field \"address\"; there are: seen, ip"
        );
    }

    #[test]
    fn rows_that_hold_no_address_there_are_bad_lines() {
        let text = "ip,n\nx,1\n\"192.0.2.1-192.0.2.9\",2\n";
        let Err(FeedError::BadLines(bad)) = read(text, &reading(Some("1"))) else {
            panic!("taken");
        };
        assert_eq!(bad[0].problem, "is neither an address nor a CIDR");
        assert_eq!(bad[1].number, 3);
        assert!(bad[1].problem.starts_with("is a range"), "{bad:?}");
        let Err(FeedError::BadLines(bad)) = read("n,ip\n1\n", &reading(Some("ip"))) else {
            panic!("taken");
        };
        assert_eq!(bad[0].problem, "has no column 2");
    }

    #[test]
    fn a_first_row_with_a_mistyped_address_is_no_header() {
        let Err(FeedError::BadLines(bad)) = read("300.1.2.3,x\n", &reading(Some("1"))) else {
            panic!("taken");
        };
        assert_eq!(bad[0].number, 1);
    }

    #[test]
    fn a_stray_quote_hides_no_entries() {
        let text = "ip,n\n192.0.2.1,\"a\n192.0.2.2,b\n";
        let lenient = Reading {
            max_bad_lines: 100,
            ..reading(Some("ip"))
        };
        let refused = read(text, &lenient).expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "line 2: has a quoted field that goes over its end; none of the list was taken"
        );
    }
}
