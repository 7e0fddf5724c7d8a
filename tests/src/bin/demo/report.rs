//! What was expected and what was seen.

use std::fmt::{self, Write as _};

/// One line of the closing table.
struct Row {
    act: u32,
    what: String,
    expected: String,
    saw: String,
    as_expected: bool,
}

/// All of them, printed as they come.
#[derive(Default)]
pub(crate) struct Report {
    act: u32,
    rows: Vec<Row>,
}

impl Report {
    /// Begins the next act.
    pub(crate) fn act(&mut self, title: &str) {
        self.act += 1;
        println!("\nAct {}: {title}", self.act);
    }

    /// Says what is being done.
    pub(crate) fn tell(&self, what: impl fmt::Display) {
        println!("    {what}");
    }

    /// Notes one thing that was to be seen.
    pub(crate) fn expect(
        &mut self,
        what: &str,
        expected: impl fmt::Display,
        saw: impl fmt::Display,
        as_expected: bool,
    ) {
        let row = Row {
            act: self.act,
            what: what.to_owned(),
            expected: expected.to_string(),
            saw: saw.to_string(),
            as_expected,
        };
        let mark = mark(as_expected);
        println!(
            "  {mark} {what}: expected {}, saw {}",
            row.expected, row.saw
        );
        self.rows.push(row);
    }

    /// Notes something that was to be equal.
    pub(crate) fn expect_equal<T: fmt::Display + PartialEq>(
        &mut self,
        what: &str,
        expected: T,
        saw: T,
    ) {
        let as_expected = expected == saw;
        self.expect(what, expected, saw, as_expected);
    }

    /// Whether nothing differed, and something was looked at.
    pub(crate) fn all_as_expected(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.as_expected)
    }

    /// The closing table.
    pub(crate) fn table(&self) -> String {
        let cells: Vec<[String; 5]> = std::iter::once(["act", "what", "expected", "saw", ""])
            .map(|head| head.map(str::to_owned))
            .chain(self.rows.iter().map(|row| {
                [
                    row.act.to_string(),
                    row.what.clone(),
                    row.expected.clone(),
                    row.saw.clone(),
                    mark(row.as_expected).to_owned(),
                ]
            }))
            .collect();
        let width = |column: usize| {
            let widths = cells.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut table = String::new();
        for row in &cells {
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(table, "{cell:<width$}  ");
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
        table
    }
}

fn mark(as_expected: bool) -> &'static str {
    if as_expected { "ok" } else { "DIFFERS" }
}
