//! What is written is read back, in every format.

use std::collections::BTreeSet;

use clap::ValueEnum as _;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Format, Reading, parse_prefix, read, write};
use crate::lists::Entry;

/// Numbers that are the same in every run (xorshift64, Marsaglia 2003).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a bound").max(1);
        usize::try_from(self.next() % bound).expect("less than the bound")
    }
}

fn prefix(numbers: &mut Numbers) -> IpNet {
    let bits = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
    let prefix = if numbers.below(2) == 0 {
        // Few enough high bits that prefixes lie within each other.
        let address = 0x0a00_0000 | (numbers.next() as u32 & 0x0303_ffff);
        let length = 8 + numbers.below(25) as u8;
        IpNet::from(Ipv4Net::new(address.into(), length).expect("a length"))
    } else {
        let address = 0x2001_0db8 << 96 | bits >> 33;
        let length = 16 + numbers.below(113) as u8;
        IpNet::from(Ipv6Net::new(address.into(), length).expect("a length"))
    };
    parse_prefix(&prefix.to_string()).expect("a prefix that a list may hold")
}

fn entry(prefix: IpNet, list: &str, left_ms: Option<u64>, reason: Option<&str>) -> Entry {
    Entry {
        list: list.to_owned(),
        prefix,
        trusted: false,
        added_ms: 0,
        until_ms: left_ms,
        left_ms,
        reason: reason.map(str::to_owned),
    }
}

fn entries(numbers: &mut Numbers, count: usize) -> Vec<Entry> {
    let reasons = [None, Some("a, \"b\""), Some("# x\r\ny\u{1b}")];
    let lists = ["manual", "a;b\nc", "x,\"y"];
    (0..count)
        .map(|_| {
            let left_ms = (numbers.below(3) == 0).then(|| 1_000 * (1 + numbers.next() % 2_000_000));
            let (list, reason) = (lists[numbers.below(3)], reasons[numbers.below(3)]);
            entry(prefix(numbers), list, left_ms, reason)
        })
        .collect()
}

#[test]
fn every_format_gives_back_the_prefixes_that_went_in() {
    for seed in 1..=60 {
        let mut numbers = Numbers(seed);
        let entries = entries(&mut numbers, (seed as usize - 1) * 3);
        let expected: BTreeSet<_> = entries.iter().map(|entry| entry.prefix).collect();
        for format in Format::value_variants() {
            let written = write(&entries, *format);
            for named in [Some(*format), None] {
                let reading = Reading {
                    format: named,
                    ..Reading::default()
                };
                let feed = read(&written.text, &reading)
                    .unwrap_or_else(|error| panic!("{format} {seed}: {error:?}\n{}", written.text));
                let prefixes: BTreeSet<_> = feed.entries.iter().map(|it| it.prefix).collect();
                assert_eq!(prefixes, expected, "{format} {seed} {named:?}");
                assert_eq!(feed.bad, []);
            }
        }
    }
}

#[test]
fn ipset_and_nft_give_back_the_time_that_is_left() {
    let times = [None, Some(1_000), Some(90_061_000), Some(2_147_483_000)];
    let entries: Vec<_> = (1_u8..)
        .zip(times)
        .map(|(last, left_ms)| {
            let prefix = parse_prefix(&format!("192.0.2.{last}")).expect("a prefix");
            entry(prefix, "manual", left_ms, None)
        })
        .collect();
    for format in [Format::Ipset, Format::Nft] {
        let text = write(&entries, format).text;
        let feed = read(&text, &Reading::default()).expect("a good list");
        let mut entries: Vec<_> = feed.entries.iter().map(|it| (it.prefix, it.left)).collect();
        entries.sort_unstable();
        let left: Vec<_> = entries
            .iter()
            .map(|(_, left)| left.map(|left| left.as_millis() as u64))
            .collect();
        assert_eq!(left, times, "{format}: {text}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_told() {
    let prefix = parse_prefix("192.0.2.1").expect("a prefix");
    let century = 100 * 365 * 86_400_000;
    let entries = [entry(prefix, "manual", Some(century), Some("why"))];
    let time = "1 entries lose the time of their end, which plain can't hold";
    let reason = "1 entries lose their reason, which plain doesn't hold";
    assert_eq!(write(&entries, Format::Plain).lost, [time, reason]);
    assert_eq!(write(&entries, Format::Json).lost, [""; 0]);
    assert_eq!(
        write(&entries, Format::Nft).lost,
        ["1 entries lose their reason, which nft doesn't hold"]
    );
    assert_eq!(
        write(&entries, Format::Ipset).lost[1],
        "1 entries end sooner than here: an ipset holds none longer than 2147483 seconds"
    );
}

#[test]
fn a_prefix_on_two_lists_is_written_once_for_the_longer_time() {
    let prefix = parse_prefix("192.0.2.1").expect("a prefix");
    let twice = |left_ms| {
        [
            entry(prefix, "a", Some(5_000), None),
            entry(prefix, "b", left_ms, None),
        ]
    };
    let ipsum = write(&twice(None), Format::Ipsum).text;
    assert_eq!(ipsum, "192.0.2.1\t2\n");
    for (left_ms, line) in [
        (None, "add portcullis-v4 192.0.2.1\n"),
        (Some(9_000), "add portcullis-v4 192.0.2.1 timeout 9\n"),
    ] {
        let ipset = write(&twice(left_ms), Format::Ipset).text;
        assert!(ipset.contains(line), "{ipset}");
    }
}

#[test]
fn bans_within_bans_are_no_overlap_for_nft() {
    let entries: Vec<_> = [
        ("192.0.2.0/24", 90_000),
        ("192.0.2.0/28", 80_000),
        ("192.0.2.1", 70_000),
        ("192.0.2.16/28", 60_000),
    ]
    .into_iter()
    .map(|(text, left_ms)| {
        let prefix = parse_prefix(text).expect("a prefix");
        entry(prefix, "manual", Some(left_ms), None)
    })
    .collect();
    let text = write(&entries, Format::Nft).text;
    for set in [
        "banned_v4 {\n\t\ttype ipv4_addr\n\t\tflags interval, timeout\n\t\telements = { 192.0.2.0/24 timeout 90s }",
        "192.0.2.0/28 timeout 80s,\n\t\t\t     192.0.2.16/28 timeout 60s }",
        "set banned_v4_within_2 {",
    ] {
        assert!(text.contains(set), "{text}");
    }
}
