//! Formats of one entry a line. In all of them `#` and `;` begin comments and blank lines are
//! nothing.

use super::{
    prefix::{PrefixProblem, ends, parse_prefix, single, single_or_span, span},
    read::{Found, Item, LineProblem, numbered},
};

/// What is left of a line without its comment.
pub(super) fn content(line: &str) -> &str {
    line.split(['#', ';']).next().unwrap_or_default().trim()
}

fn each(text: &str, found: &mut Found, parse: impl Fn(&str, &str) -> Result<Item, LineProblem>) {
    for (number, line) in numbered(text) {
        let content = content(line);
        // The name before a range may hold what elsewhere begins a comment.
        if !content.is_empty() {
            found.take(number, line, parse(content, line));
        }
    }
}

/// Addresses and CIDRs.
pub(super) fn plain(text: &str, found: &mut Found) {
    each(text, found, |content, _| alone(content));
}

fn alone(content: &str) -> Result<Item, LineProblem> {
    let prefix = single(content);
    if content.contains(char::is_whitespace) && prefix != Err(LineProblem::Range) {
        return Err(LineProblem::MoreThanAddress);
    }
    prefix.map(Item::from)
}

/// An address, and perhaps on how many lists it is.
pub(super) fn ipsum(text: &str, found: &mut Found) {
    each(text, found, |content, _| counted(content));
}

/// An address and a count, or an address alone.
pub(super) fn counted(content: &str) -> Result<Item, LineProblem> {
    if ends(content).is_some() {
        return Err(LineProblem::Range);
    }
    let mut words = content.split_whitespace();
    let address = words.next().unwrap_or_default();
    let score = match words.next().map(str::parse) {
        None => None,
        Some(Ok(score)) => Some(score),
        Some(Err(_)) => return Err(LineProblem::MoreThanCount),
    };
    if words.next().is_some() {
        return Err(LineProblem::MoreThanCount);
    }
    Ok(Item {
        score,
        ..Item::from(single(address)?)
    })
}

/// A CIDR and its record's number, which begins after a semicolon and so is a comment.
pub(super) fn spamhaus(text: &str, found: &mut Found) {
    plain(text, found);
}

/// Ranges, and addresses and CIDRs among them.
pub(super) fn range(text: &str, found: &mut Found) {
    each(text, found, |content, line| {
        if ends(content).is_none()
            && parse_prefix(content) == Err(PrefixProblem::NotAPrefix)
            && let Some((first, last)) = ends(line)
        {
            return span(first, last).map(Item::from);
        }
        single_or_span(content).map(Item::from)
    });
}

#[cfg(test)]
mod tests {
    use crate::feed::{FeedError, Format, Reading, read};

    fn prefixes(format: Format, text: &str) -> Vec<String> {
        let reading = Reading {
            format: Some(format),
            ..Reading::default()
        };
        let feed = read(text, &reading).expect("a good list");
        let prefixes = feed.entries.iter().map(|entry| entry.prefix.to_string());
        prefixes.collect()
    }

    fn problems(format: Format, text: &str) -> Vec<(usize, String)> {
        let reading = Reading {
            format: Some(format),
            ..Reading::default()
        };
        let Err(FeedError::BadLines(bad)) = read(text, &reading) else {
            panic!("{text:?} was taken");
        };
        bad.into_iter()
            .map(|bad| (bad.number, bad.problem))
            .collect()
    }

    #[test]
    fn reads_plain_addresses_and_cidrs_with_comments() {
        let list =
            "\u{feff}# a list\r\n192.0.2.1\r\n\r\n 198.51.100.0/24 ; a range\n2001:db8::/32#x\n";
        assert_eq!(
            prefixes(Format::Plain, list),
            ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]
        );
    }

    #[test]
    fn reads_ipsum() {
        assert_eq!(
            prefixes(
                Format::Ipsum,
                "# IPsum\n#\n77.90.185.20\t10\n16.5.0.132\t8\n"
            ),
            ["77.90.185.20/32", "16.5.0.132/32"]
        );
    }

    #[test]
    fn reads_spamhaus_drop() {
        let drop = "; Spamhaus DROP List\n192.0.2.0/24 ; SBL123\n2001:db8::/32 ; SBL456\n";
        assert_eq!(
            prefixes(Format::Spamhaus, drop),
            ["192.0.2.0/24", "2001:db8::/32"]
        );
    }

    #[test]
    fn reads_ranges_with_names_that_look_like_comments() {
        let list = "# p2p\nA #1; Inc:192.0.2.0-192.0.2.3\n192.0.2.8 - 192.0.2.9 # two\n192.0.2.77 # x:192.0.2.1-192.0.2.5\n";
        assert_eq!(
            prefixes(Format::Range, list),
            ["192.0.2.0/30", "192.0.2.8/31", "192.0.2.77/32"]
        );
    }

    #[test]
    fn a_range_in_a_format_without_ranges_is_a_bad_line_that_says_so() {
        for format in [Format::Plain, Format::Ipsum, Format::Spamhaus] {
            for text in [
                "192.0.2.1-192.0.2.9",
                "192.0.2.1 - 192.0.2.9",
                "2001:db8::1-2001:db8::2",
            ] {
                let problem = "is a range, which this format doesn't have; write CIDRs, or use --format range";
                assert_eq!(problems(format, text), [(1, problem.to_owned())], "{text}");
            }
        }
    }

    #[test]
    fn reports_each_bad_line_with_its_number() {
        let text = "192.0.2.1\n300.1.2.3\n# fine\n192.0.2.3 and more\n10.0.0.0/33\n0.0.0.0/0\n";
        let expected = [
            (2, "is neither an address nor a CIDR"),
            (4, "has more on it than an address or CIDR"),
            (5, "is neither an address nor a CIDR"),
            (6, "is too wide: at most /8 for IPv4 and /16 for IPv6"),
        ];
        let expected = expected.map(|(number, problem)| (number, problem.to_owned()));
        assert_eq!(problems(Format::Plain, text), expected);
        for text in ["192.0.2.1 x", "192.0.2.1 7 8", "192.0.2.1 -7"] {
            let problem = "has more on it than an address and a count".to_owned();
            assert_eq!(problems(Format::Ipsum, text), [(1, problem)]);
        }
    }
}
