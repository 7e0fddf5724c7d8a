//! What `ipset save` prints.

use std::{collections::HashSet, time::Duration};

use super::{
    prefix::single_or_span,
    read::{Found, Item, LineProblem, numbered},
};

/// `add SET ENTRY …` of every set that holds addresses or networks.
pub(super) fn ipset(text: &str, found: &mut Found) {
    let mut of_others = HashSet::new();
    for (number, line) in numbered(text) {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut words = Words(content);
        let (command, set) = (words.next(), words.next());
        match (command, set) {
            (Some("create"), Some(set)) => {
                let kind = words.next().unwrap_or_default();
                if !kind.contains(":ip") && !kind.contains(":net") {
                    of_others.insert(set);
                }
            }
            (Some("flush" | "destroy"), _) | (Some("COMMIT"), None) => {}
            // Ports, hardware addresses and sets of sets.
            (Some("add"), Some(set)) if of_others.contains(set) => {}
            (Some("add"), Some(_)) => found.take(number, line, added(words)),
            _ => found.take(number, line, Err::<Item, _>(LineProblem::NoAdd)),
        }
    }
}

fn added(mut words: Words<'_>) -> Result<Item, LineProblem> {
    let entry = words.next().ok_or(LineProblem::NoAdd)?;
    if entry.contains(',') {
        return Err(LineProblem::Compound);
    }
    let mut left = None;
    while let Some(word) = words.next() {
        match word {
            "nomatch" => return Err(LineProblem::Exception),
            "comment" => drop(words.next()),
            "timeout" => {
                let seconds = words.next().unwrap_or_default();
                left = match seconds.parse::<u32>() {
                    // For good.
                    Ok(0) => None,
                    Ok(seconds) => Some(Duration::from_secs(seconds.into())),
                    Err(_) => return Err(LineProblem::Timeout(seconds.to_owned())),
                };
            }
            _ => {}
        }
    }
    Ok(Item {
        left,
        ..Item::from(single_or_span(entry)?)
    })
}

/// The words of a line; what stands in quotes is one.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, rest) = quoted.split_once('"').unwrap_or((quoted, ""));
            self.0 = rest;
            return Some(word);
        }
        let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::feed::{FeedError, Format, Reading, read};

    #[test]
    fn reads_addresses_networks_ranges_and_what_is_left_of_timeouts() {
        let text = "create a hash:net family inet timeout 0 comment\n\
                    add a 192.0.2.1 timeout 99 comment \"nomatch # 1\"\n\
                    add a 198.51.100.0/24 timeout 0\n\
                    create p bitmap:port range 0-1024\n\
                    add p 22\n\
                    create b bitmap:ip range 192.0.2.0-192.0.2.255\n\
                    add b 192.0.2.8-192.0.2.9 packets 1 bytes 2\n";
        let feed = read(text, &Reading::default()).expect("a good list");
        let entries: Vec<_> = feed
            .entries
            .iter()
            .map(|entry| (entry.line, entry.prefix.to_string(), entry.left))
            .collect();
        let minute = Some(Duration::from_secs(99));
        assert_eq!(
            entries,
            [
                (2, "192.0.2.1/32".to_owned(), minute),
                (3, "198.51.100.0/24".to_owned(), None),
                (7, "192.0.2.8/31".to_owned(), None),
            ]
        );
    }

    #[test]
    fn what_a_list_cannot_hold_is_a_bad_line() {
        for (line, problem) in [
            (
                "add a 192.0.2.0/25 timeout 9 nomatch",
                "is an exception (nomatch), which a list can't hold",
            ),
            (
                "add a 192.0.2.1,tcp:80",
                "holds more than an address; only sets of addresses and networks can be read",
            ),
            (
                "add a 192.0.2.1 timeout soon",
                "has a timeout that can't be read: \"soon\"",
            ),
            ("add a", "is no `add SET ENTRY`"),
            ("del a 192.0.2.1", "is no `add SET ENTRY`"),
            ("add a x", "is neither an address nor a CIDR"),
        ] {
            let reading = Reading {
                format: Some(Format::Ipset),
                ..Reading::default()
            };
            let Err(FeedError::BadLines(bad)) = read(line, &reading) else {
                panic!("{line} was taken");
            };
            assert_eq!(bad[0].problem, problem, "{line}");
        }
    }
}
