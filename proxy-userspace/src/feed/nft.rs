//! What `nft list set` and `nft list ruleset` print: the elements of sets of addresses.

use std::time::Duration;

use super::{
    prefix::single_or_span,
    read::{FeedError, Found, Item, LineProblem},
};

/// Reads the elements of every set, as `elements = { … }` or `add element … { … }`. Sets whose
/// type has no addresses in it are passed over.
///
/// # Errors
/// When a set or a quoted text has no end: the list broke off.
pub(super) fn nft(text: &str, found: &mut Found) -> Result<(), FeedError> {
    let lines: Vec<&str> = text.lines().collect();
    let shown = |line: usize| lines.get(line - 1).copied().unwrap_or_default();
    let mut tokens = Tokens {
        rest: text,
        line: 1,
    };
    let mut of_addresses = true;
    let mut depth = 0_usize;
    while let Some((line, token)) = tokens.next()? {
        match token {
            Token::Word("set" | "map") => of_addresses = true,
            Token::Word("type") => of_addresses = tokens.up_to(&['\n', ';']).contains("_addr"),
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth = depth.saturating_sub(1),
            Token::Word("elements" | "element") => {
                while let Some((_, token)) = tokens.next()? {
                    if token == Token::Mark('{') {
                        elements(&mut tokens, line, |line, words| {
                            if of_addresses {
                                found.take(line, shown(line), element(words));
                            }
                        })?;
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(tokens.broken(tokens.line));
    }
    Ok(())
}

/// Calls `each` with the words of each element up to the brace that ends them.
fn elements<'a>(
    tokens: &mut Tokens<'a>,
    begun: usize,
    mut each: impl FnMut(usize, &[Token<'a>]),
) -> Result<(), FeedError> {
    let mut words = Vec::new();
    let mut begins = begun;
    while let Some((line, token)) = tokens.next()? {
        match token {
            Token::Mark(mark @ (',' | '}')) => {
                if !words.is_empty() {
                    each(begins, &words);
                }
                words.clear();
                if mark == '}' {
                    return Ok(());
                }
            }
            _ => {
                if words.is_empty() {
                    begins = line;
                }
                words.push(token);
            }
        }
    }
    Err(tokens.broken(begun))
}

fn element(words: &[Token<'_>]) -> Result<Item, LineProblem> {
    // A range may stand with blanks around its hyphen.
    let (entry, rest) = match words {
        [
            Token::Word(first),
            Token::Word("-"),
            Token::Word(last),
            rest @ ..,
        ] => (format!("{first}-{last}"), rest),
        [Token::Word(entry), rest @ ..] => ((*entry).to_owned(), rest),
        _ => return Err(LineProblem::Compound),
    };
    let (mut timeout, mut expires) = (None, None);
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let slot = match word {
            Token::Word("timeout") => &mut timeout,
            Token::Word("expires") => &mut expires,
            // Part of a concatenation, or what a map maps to.
            Token::Word("." | ":") => return Err(LineProblem::Compound),
            _ => continue,
        };
        let Some(Token::Word(text)) = rest.next() else {
            return Err(LineProblem::Timeout(String::new()));
        };
        *slot = Some(time(text).ok_or_else(|| LineProblem::Timeout((*text).to_owned()))?);
    }
    Ok(Item {
        left: expires.or(timeout),
        ..Item::from(single_or_span(&entry)?)
    })
}

/// nft's times, such as `1d2h3m4s996ms`. What ends this very moment still has a millisecond.
fn time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let letters = unit.find(|it: char| it.is_ascii_digit());
        let (unit, after) = unit.split_at(letters.unwrap_or(unit.len()));
        let unit_ms = match unit {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        whole = whole.checked_add(Duration::from_millis(ms))?;
        rest = after;
    }
    (!text.is_empty()).then(|| whole.max(Duration::from_millis(1)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Quoted,
    /// A brace, a comma, a semicolon or an equals sign.
    Mark(char),
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Tokens<'a> {
    /// The next token and its line. Comments go to the end of their line.
    fn next(&mut self) -> Result<Option<(usize, Token<'a>)>, FeedError> {
        loop {
            let Some(first) = self.rest.chars().next() else {
                return Ok(None);
            };
            let line = self.line;
            let token = match first {
                '#' => {
                    self.up_to(&['\n']);
                    continue;
                }
                _ if first.is_whitespace() => {
                    self.advance(first.len_utf8());
                    continue;
                }
                '{' | '}' | ',' | ';' | '=' => {
                    self.advance(1);
                    Token::Mark(first)
                }
                '"' => {
                    let inside = self.rest.get(1..).unwrap_or_default();
                    let Some(length) = inside.find('"') else {
                        return Err(self.broken(line));
                    };
                    self.advance(length + 2);
                    Token::Quoted
                }
                _ => {
                    let ends = |it: char| it.is_whitespace() || "{},;=\"#".contains(it);
                    let length = self.rest.find(ends).unwrap_or(self.rest.len());
                    Token::Word(self.advance(length))
                }
            };
            return Ok(Some((line, token)));
        }
    }

    fn up_to(&mut self, ends: &[char]) -> &'a str {
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        self.advance(length)
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count();
        self.rest = rest;
        passed
    }

    fn broken(&self, line: usize) -> FeedError {
        FeedError::Broken {
            line,
            problem: "what begins here has no end; none of the list was taken".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Format, Reading, read};

    const RULESET: &str = "table inet filter { # handle 1\n\
        \tset blocked {\n\
        \t\ttype ipv4_addr\n\
        \t\tflags interval,timeout\n\
        \t\telements = { 192.0.2.1, 198.51.100.0/24,\n\
        \t\t\t     203.0.113.8-203.0.113.9 timeout 1h expires 59m59s996ms comment \"x, } y\",\n\
        \t\t\t     203.0.113.77 timeout 2d counter packets 0 bytes 0 }\n\
        \t}\n\
        \tset six { type ipv6_addr; elements = { 2001:db8::/32 } }\n\
        \tset ports {\n\t\ttype inet_service\n\t\telements = { 22, 80 }\n\t}\n\
        \tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\
        \t\tip saddr { 10.0.0.1, 10.0.0.2 } drop comment \"elements = {\"\n\t}\n}\n";

    #[test]
    fn reads_a_ruleset_over_several_lines() {
        let feed = read(RULESET, &Reading::default()).expect("a good list");
        assert_eq!(feed.format, Format::Nft);
        let entries: Vec<_> = feed
            .entries
            .iter()
            .map(|it| (it.line, it.prefix.to_string(), it.left))
            .collect();
        let left = |ms| Some(Duration::from_millis(ms));
        assert_eq!(
            entries,
            [
                (5, "192.0.2.1/32".to_owned(), None),
                (5, "198.51.100.0/24".to_owned(), None),
                (6, "203.0.113.8/31".to_owned(), left(3_599_996)),
                (7, "203.0.113.77/32".to_owned(), left(172_800_000)),
                (9, "2001:db8::/32".to_owned(), None),
            ]
        );
    }

    fn refusal(text: &str) -> String {
        let reading = Reading {
            format: Some(Format::Nft),
            ..Reading::default()
        };
        match read(text, &reading).expect_err("a refusal") {
            FeedError::BadLines(bad) => bad[0].problem.clone(),
            other => other.to_string(),
        }
    }

    #[test]
    fn a_ruleset_that_breaks_off_is_refused() {
        let problem = "what begins here has no end; none of the list was taken";
        for (text, line) in [
            ("table ip t {\nset s {\nelements = { 192.0.2.1,", 3),
            ("table ip t {\nset s {\nelements = { 192.0.2.1 }\n", 4),
            ("elements = { 192.0.2.1 comment \"x }\n", 1),
        ] {
            assert_eq!(refusal(text), format!("line {line}: {problem}"));
        }
    }

    #[test]
    fn elements_that_hold_more_than_an_address_are_bad_lines() {
        for (element, problem) in [
            (
                "192.0.2.1 . 22",
                "holds more than an address; only sets of addresses and networks can be read",
            ),
            (
                "192.0.2.1 : accept",
                "holds more than an address; only sets of addresses and networks can be read",
            ),
            (
                "192.0.2.1 timeout soon",
                "has a timeout that can't be read: \"soon\"",
            ),
            ("*", "is neither an address nor a CIDR"),
        ] {
            assert_eq!(refusal(&format!("elements = {{ {element} }}")), problem);
        }
    }

    #[test]
    fn times_are_read_as_nft_prints_them() {
        for (text, ms) in [
            ("1d2h3m4s996ms", Some(93_784_996)),
            ("49d", Some(4_233_600_000)),
            ("0ms", Some(1)),
            ("", None),
            ("5", None),
            ("s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(time(text), ms.map(Duration::from_millis), "{text}");
        }
    }
}
