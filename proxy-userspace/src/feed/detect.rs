//! Which format a text is in.

use ipnet::IpNet;

use super::{
    format::Format,
    lines::{content, counted},
    prefix::{ends, parse_prefix},
    read::FeedError,
};

/// Lines that are looked at. Comments and blank lines don't count.
const SAMPLE: usize = 100;

/// The format of a text, from its first lines. A text of nothing but comments is plain: a list
/// that is empty today.
pub(super) fn detect(text: &str) -> Result<Format, FeedError> {
    let begins_entry = |line: &&str| !line.is_empty() && !line.starts_with(['#', ';']);
    let lines = text.lines().map(str::trim).filter(begins_entry);
    let sample: Vec<&str> = lines.take(SAMPLE).collect();
    let Some(first) = sample.first() else {
        return Ok(Format::Plain);
    };
    if let Some(framed) = framed(first, &sample) {
        return Ok(framed);
    }
    let mut seen: Vec<Format> = Vec::new();
    for format in sample.iter().filter_map(|line| shape(line)) {
        if !seen.contains(&format) {
            seen.push(format);
        }
    }
    // These hold lines of an address alone as well.
    let holds_plain =
        |format: &Format| matches!(format, Format::Ipsum | Format::Spamhaus | Format::Range);
    if seen.iter().any(holds_plain) {
        seen.retain(|format| *format != Format::Plain);
    }
    match seen.as_slice() {
        [] => Err(FeedError::Unknown),
        [format] => Ok(*format),
        [one, other, ..] => Err(FeedError::Ambiguous(*one, *other)),
    }
}

/// Formats that show by how they begin.
fn framed(first: &str, sample: &[&str]) -> Option<Format> {
    if first.starts_with('[') {
        return Some(Format::Json);
    }
    if first.starts_with('{') {
        let has = |line: &str, words: [&str; 2]| words.iter().all(|word| line.contains(word));
        let is_spamhaus = |line: &&str| {
            has(line, ["\"cidr\"", "\"sblid\""]) || has(line, ["\"type\"", "\"metadata\""])
        };
        return Some(if sample.iter().any(is_spamhaus) {
            Format::SpamhausJson
        } else {
            Format::Json
        });
    }
    let mut words = first.split_whitespace();
    match (words.next()?, words.next()) {
        ("create", Some(_)) => Some(Format::Ipset),
        ("add", Some("element")) | ("table" | "set", Some(_)) => Some(Format::Nft),
        ("add", Some(_)) => Some(Format::Ipset),
        ("elements", Some(_)) => Some(Format::Nft),
        _ => None,
    }
}

/// The format that a line of one entry looks like.
fn shape(line: &str) -> Option<Format> {
    let content = content(line);
    if ends(content).is_some() {
        return Some(Format::Range);
    }
    let is_prefix = |text: &str| text.parse::<IpNet>().is_ok() || parse_prefix(text).is_ok();
    if is_prefix(content) {
        let comment = line.get(content.len()..).unwrap_or_default().trim();
        let record = comment.strip_prefix(';').map(str::trim_start);
        return Some(if record.is_some_and(|text| text.starts_with("SBL")) {
            Format::Spamhaus
        } else {
            Format::Plain
        });
    }
    if ends(line).is_some() {
        return Some(Format::Range);
    }
    if counted(content).is_ok() {
        return Some(Format::Ipsum);
    }
    content.contains(',').then_some(Format::Csv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_known_by_its_lines() {
        for (text, format) in [
            ("", Format::Plain),
            ("# nothing today\n", Format::Plain),
            ("# a list\n192.0.2.1\n2001:db8::/32 # x, y\n", Format::Plain),
            ("192.0.2.1\t3\n192.0.2.2\n", Format::Ipsum),
            ("; DROP\n192.0.2.0/24 ; SBL1\n", Format::Spamhaus),
            ("192.0.2.0/24 ; a note\n", Format::Plain),
            ("192.0.2.1-192.0.2.9\n192.0.2.77\n", Format::Range),
            ("A, Inc #3:192.0.2.1-192.0.2.9\n", Format::Range),
            ("ip,seen\n192.0.2.1,today\n", Format::Csv),
            ("[\"192.0.2.1\"]", Format::Json),
            ("{\"ip\":\"192.0.2.1\"}\n", Format::Json),
            (
                "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}\n",
                Format::SpamhausJson,
            ),
            ("create x hash:ip\nadd x 192.0.2.1\n", Format::Ipset),
            ("add x 192.0.2.1\n", Format::Ipset),
            ("add element inet t s { 192.0.2.1 }\n", Format::Nft),
            ("table inet t {\n", Format::Nft),
            ("elements = { 192.0.2.1 }\n", Format::Nft),
        ] {
            assert_eq!(detect(text).expect("a format"), format, "{text}");
        }
    }

    #[test]
    fn what_looks_like_no_format_is_refused_with_their_names() {
        let refused = detect("<html>\n<p>Moved</p>\n").expect_err("a refusal");
        assert_eq!(
            refused.to_string(),
            "the lines are of no known format; name one with --format: \
             plain, ipsum, spamhaus, spamhaus-json, range, csv, json, ipset, nft"
        );
    }

    #[test]
    fn what_looks_like_two_formats_is_refused_with_both() {
        let refused = detect("192.0.2.1\t7\n192.0.2.1-192.0.2.9\n").expect_err("a refusal");
        let said = refused.to_string();
        assert!(
            said.starts_with("some lines look like ipsum, others like range; name the format"),
            "{said}"
        );
    }
}
