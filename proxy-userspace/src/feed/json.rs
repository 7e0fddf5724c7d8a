//! JSON: Spamhaus' lines, and arrays or lines of strings or objects.

use serde_json::{Deserializer, Map, Value};

use super::{
    format::Format,
    prefix::single,
    read::{FeedError, Found, Item, LineProblem, numbered},
};

/// The member that holds the address when nobody names one; `block export` writes it.
const OWN_MEMBER: &str = "prefix";

/// One object a line; what has a `type` of `metadata` is none of the list.
pub(super) fn spamhaus(text: &str, found: &mut Found) {
    for (number, line) in numbered(text) {
        let content = line.trim();
        if content.is_empty() {
            continue;
        }
        match serde_json::from_str::<Map<String, Value>>(content) {
            Ok(record) if record.get("type").is_some_and(|kind| kind == "metadata") => {}
            Ok(record) => found.take(number, line, member(&record, "cidr")),
            Err(error) => {
                let problem = LineProblem::NoObject(without_place(&error));
                found.take(number, line, Err::<Item, _>(problem));
            }
        }
    }
}

/// An array, or objects and strings one after another.
///
/// # Errors
/// When the text is no JSON to its end, and when objects leave open which member is meant.
pub(super) fn json(text: &str, field: Option<&str>, found: &mut Found) -> Result<(), FeedError> {
    let mut rest = Rest {
        text,
        at: 0,
        line: 1,
    };
    let mut field = field.map(str::to_owned);
    let in_array = rest.take('[');
    if in_array && rest.take(']') {
        return rest.end();
    }
    while in_array || !rest.is_empty() {
        let (line, shown, value) = rest.value()?;
        let item = match &value {
            Value::String(text) => single(text).map(Item::from),
            Value::Object(record) => {
                let name = match &field {
                    Some(name) => name,
                    None => field.insert(own_member(record)?),
                };
                member(record, name)
            }
            _ => Err(LineProblem::NeitherStringNorObject),
        };
        found.take(line, shown, item);
        if in_array && !rest.take(',') {
            if rest.take(']') {
                break;
            }
            return Err(rest.broken("the array goes on with neither a comma nor its end"));
        }
    }
    rest.end()
}

fn own_member(record: &Map<String, Value>) -> Result<String, FeedError> {
    if record.contains_key(OWN_MEMBER) {
        return Ok(OWN_MEMBER.to_owned());
    }
    let names: Vec<_> = record.keys().map(String::as_str).collect();
    Err(FeedError::FieldNeeded {
        format: Format::Json,
        there: names.join(", "),
    })
}

fn member(record: &Map<String, Value>, name: &str) -> Result<Item, LineProblem> {
    match record.get(name) {
        Some(Value::String(text)) => single(text).map(Item::from),
        _ => Err(LineProblem::NoMember(name.to_owned())),
    }
}

/// Without the line that the parser counted: it saw only a part of the text.
fn without_place(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What is still to be read.
struct Rest<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Rest<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        let passed = self.rest().get(..bytes).unwrap_or_default();
        self.line += passed.matches('\n').count();
        self.at += bytes;
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.advance(rest.len() - rest.trim_start().len());
    }

    fn is_empty(&mut self) -> bool {
        self.skip_blanks();
        self.rest().is_empty()
    }

    fn take(&mut self, mark: char) -> bool {
        self.skip_blanks();
        let is_there = self.rest().starts_with(mark);
        if is_there {
            self.advance(mark.len_utf8());
        }
        is_there
    }

    /// The next value, with the line it begins on and the text of that line from there.
    fn value(&mut self) -> Result<(usize, &'a str, Value), FeedError> {
        self.skip_blanks();
        let rest = self.rest();
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Err(self.broken(&without_place(&error))),
            None => return Err(self.broken("the list breaks off")),
        };
        let line = self.line;
        let shown = rest.get(..values.byte_offset()).unwrap_or_default();
        self.advance(values.byte_offset());
        Ok((line, shown.lines().next().unwrap_or_default(), value))
    }

    fn end(mut self) -> Result<(), FeedError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(self.broken("there is more after the end of the array"))
    }

    fn broken(&self, problem: &str) -> FeedError {
        FeedError::Broken {
            line: self.line,
            problem: format!("{problem}; none of the list was taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::feed::{FeedError, Format, Reading, read};

    fn reading(field: Option<&str>) -> Reading {
        Reading {
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

    fn refusal(text: &str, field: Option<&str>) -> String {
        match read(text, &reading(field)).expect_err("a refusal") {
            FeedError::BadLines(bad) => format!("{}: {}", bad[0].number, bad[0].problem),
            other => other.to_string(),
        }
    }

    #[test]
    fn reads_spamhaus_lines_and_passes_over_the_metadata() {
        let text = "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"arin\"}\r\n\
                    {\"cidr\":\"2001:db8::/32\",\"sblid\":\"SBL2\"}\n\
                    {\"type\":\"metadata\",\"timestamp\":1,\"records\":2}\n";
        assert_eq!(
            lines(text, None),
            [
                (1, "192.0.2.0/24".to_owned()),
                (2, "2001:db8::/32".to_owned())
            ]
        );
    }

    #[test]
    fn reads_arrays_and_lines_with_the_line_each_entry_stands_on() {
        let two = [
            (2, "192.0.2.1/32".to_owned()),
            (3, "198.51.100.0/24".to_owned()),
        ];
        for (text, field) in [
            ("[\n\"192.0.2.1\",\n\"198.51.100.0/24\"\n]\n", None),
            (
                "[\n{\"ip\":\"192.0.2.1\"},\n{\"ip\":\"198.51.100.0/24\"}]",
                Some("ip"),
            ),
            (
                "\n{\"ip\":\"192.0.2.1\"}\n{\"ip\":\"198.51.100.0/24\"}",
                Some("ip"),
            ),
            (
                "\n{\"prefix\":\"192.0.2.1\"}\n{\"prefix\":\"198.51.100.0/24\"}",
                None,
            ),
        ] {
            assert_eq!(lines(text, field), two, "{text}");
        }
        assert_eq!(lines("[]", None), []);
    }

    #[test]
    fn objects_without_a_named_field_are_refused_with_their_fields() {
        assert_eq!(
            refusal("[{\"ip\":\"192.0.2.1\",\"seen\":1}]", None),
            "which field of the json holds the address? Name one with --field: ip, seen"
        );
    }

    #[test]
    fn a_list_that_breaks_off_is_refused_whole_however_many_bad_lines_may_be() {
        for (text, problem) in [
            (
                "[\"192.0.2.1\",\n\"192.0.2.2\"",
                "line 2: the array goes on with neither a comma nor its end; none of the list was taken",
            ),
            (
                "[\"192.0.2.1\",",
                "line 1: the list breaks off; none of the list was taken",
            ),
            (
                "[\"192.0.2.1\"] x",
                "line 1: there is more after the end of the array; none of the list was taken",
            ),
            (
                "[\n\"192.0.2",
                "line 2: EOF while parsing a string; none of the list was taken",
            ),
        ] {
            let lenient = Reading {
                max_bad_lines: 1_000,
                ..reading(None)
            };
            let refused = read(text, &lenient).expect_err("a refusal");
            assert_eq!(refused.to_string(), problem, "{text}");
        }
    }

    #[test]
    fn entries_that_are_no_address_are_bad_lines() {
        for (text, field, problem) in [
            ("[\n7]", None, "2: is neither a string nor an object"),
            (
                "[{\"ip\":7}]",
                Some("ip"),
                "1: has no \"ip\" that is a string",
            ),
            (
                "[{\"a\":\"192.0.2.1\"}]",
                Some("ip"),
                "1: has no \"ip\" that is a string",
            ),
            (
                "[\"192.0.2.1-192.0.2.9\"]",
                None,
                "1: is a range, which this format doesn't have; write CIDRs, or use --format range",
            ),
        ] {
            assert_eq!(refusal(text, field), problem);
        }
        let spamhaus = Reading {
            format: Some(Format::SpamhausJson),
            ..reading(None)
        };
        let Err(FeedError::BadLines(bad)) = read("{\"cidr\":1}\nx\n", &spamhaus) else {
            panic!("taken");
        };
        assert_eq!(bad[0].problem, "has no \"cidr\" that is a string");
        assert_eq!(bad[1].problem, "is no JSON object: expected value");
    }
}
