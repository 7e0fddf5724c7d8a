//! The committed excerpts, as they are and broken in every way.

use clap::ValueEnum as _;

use super::{Format, Reading, read, round_trip::Numbers, unpack};

/// Excerpts in the form each publisher has, with the field to read and the entries to find.
const EXCERPTS: [(&str, &str, Option<&str>, Format, usize); 9] = [
    (
        "level1.netset",
        include_str!("../../../tests/data/feeds/level1.netset"),
        None,
        Format::Plain,
        3,
    ),
    (
        "ipsum.txt",
        include_str!("../../../tests/data/feeds/ipsum.txt"),
        None,
        Format::Ipsum,
        3,
    ),
    (
        "drop.txt",
        include_str!("../../../tests/data/feeds/drop.txt"),
        None,
        Format::Spamhaus,
        3,
    ),
    (
        "drop_v4.json",
        include_str!("../../../tests/data/feeds/drop_v4.json"),
        None,
        Format::SpamhausJson,
        2,
    ),
    (
        // One, two and three networks.
        "level1.p2p",
        include_str!("../../../tests/data/feeds/level1.p2p"),
        None,
        Format::Range,
        1 + 2 + 4,
    ),
    (
        "servers.csv",
        include_str!("../../../tests/data/feeds/servers.csv"),
        Some("dst_ip"),
        Format::Csv,
        2,
    ),
    (
        "addresses.json",
        include_str!("../../../tests/data/feeds/addresses.json"),
        Some("ip"),
        Format::Json,
        2,
    ),
    (
        "saved.ipset",
        include_str!("../../../tests/data/feeds/saved.ipset"),
        None,
        Format::Ipset,
        2,
    ),
    (
        "ruleset.nft",
        include_str!("../../../tests/data/feeds/ruleset.nft"),
        None,
        Format::Nft,
        2 + 4 + 1 + 3,
    ),
];

fn reading(format: Option<Format>, field: Option<&str>) -> Reading {
    Reading {
        format,
        field: field.map(str::to_owned),
        min_score: None,
        max_bad_lines: 3,
    }
}

#[test]
fn every_excerpt_is_known_and_read_whole() {
    for (name, text, field, format, entries) in EXCERPTS {
        let windows = format!(
            "\u{feff}{}",
            text.replace("\r\n", "\n").replace('\n', " \r\n")
        );
        for text in [text, &windows] {
            let feed = read(text, &reading(None, field)).expect(name);
            assert_eq!(feed.format, format, "{name}");
            assert_eq!(feed.bad, [], "{name}");
            assert_eq!(feed.entries.len(), entries, "{name}: {:?}", feed.entries);
        }
    }
}

/// Reads a text in every way there is. That it returns is the point; what it returns is in order.
fn read_every_way(text: &str) {
    let formats = Format::value_variants().iter().copied().map(Some);
    for format in formats.chain([None]) {
        for field in [None, Some("2"), Some("ip")] {
            let Ok(feed) = read(text, &reading(format, field)) else {
                continue;
            };
            let lines = text.lines().count();
            assert!(feed.bad.len() <= 3);
            assert!(feed.entries.iter().all(|it| (1..=lines).contains(&it.line)));
            assert!(feed.entries.iter().all(|it| it.prefix.prefix_len() >= 8));
        }
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let mut numbers = Numbers(7);
    for _ in 0..400 {
        let length = numbers.below(300);
        let bytes: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
        read_every_way(&String::from_utf8_lossy(&bytes));
        let packed = [&[0x1f, 0x8b, 8][..], &bytes].concat();
        let _ = unpack(&packed, 1_000);
    }
}

#[test]
fn no_mutation_of_an_excerpt_makes_a_reader_panic() {
    let marks = b"-:;,#/.\"{}[]=\n\r\t \\0x\xff\xc3";
    let mut numbers = Numbers(11);
    for (_, text, ..) in EXCERPTS {
        for _ in 0..150 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=numbers.below(6) {
                let at = numbers.below(bytes.len());
                match numbers.below(4) {
                    0 => bytes[at] = marks[numbers.below(marks.len())],
                    1 => bytes.insert(at, marks[numbers.below(marks.len())]),
                    2 => bytes.truncate(at.max(1)),
                    _ => {
                        let end = (at + numbers.below(40)).min(bytes.len());
                        let again = bytes[at..end].to_vec();
                        bytes.splice(at..at, again);
                    }
                }
            }
            read_every_way(&String::from_utf8_lossy(&bytes));
        }
    }
}
