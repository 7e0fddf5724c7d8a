//! What is exported is taken by ipset and nft, and what they print is taken back.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use portcullis_tests::{
    front::Front,
    netns::Namespace,
    privilege::kernel_or_skip,
    run::{Rigged, succeed},
};

/// Prefixes, with a time or for good; some lie within others.
const ENTRIES: [(&str, Option<&str>); 9] = [
    ("192.0.2.1/32", None),
    ("198.51.100.0/24", None),
    ("198.51.100.7/32", Some("1h")),
    ("203.0.113.0/24", Some("2h")),
    ("203.0.113.128/25", Some("30days")),
    ("203.0.113.129/32", Some("1h")),
    ("2001:db8::/32", None),
    ("2001:db8:1::/48", Some("90s")),
    ("2001:db9::1/128", Some("3650days")),
];

fn filled() -> Rigged<Front> {
    let front = Front::open_secluded()?;
    for (prefix, ttl) in ENTRIES {
        let mut words = vec!["block", "add", prefix];
        words.extend(ttl.into_iter().flat_map(|ttl| ["--ttl", ttl]));
        front.daemon.ask(&words)?;
    }
    Ok(front)
}

fn export(front: &Front, format: &str) -> Rigged<String> {
    let file = front.ground.scratch.join(format).display().to_string();
    let words = ["block", "export", "--format", format, "--output", &file];
    let told = front.daemon.ask(&words)?;
    assert_eq!(told["exported"], ENTRIES.len(), "{told}");
    Ok(file)
}

/// Imports what a tool printed; returns each prefix with the milliseconds it has left.
fn import(front: &Front, printed: &str) -> Rigged<BTreeMap<String, Option<u64>>> {
    let file = front.ground.scratch.write("printed", printed)?;
    let file = file.display().to_string();
    front
        .daemon
        .ask(&["block", "import", &file, "--list", "back"])?;
    let listed = front.daemon.ask(&["block", "list", "--list", "back"])?;
    let entries = listed["entries"].as_array().cloned().unwrap_or_default();
    let entries = entries.iter().map(|entry| {
        let prefix = entry["prefix"].as_str().unwrap_or_default().to_owned();
        (prefix, entry["left_ms"].as_u64())
    });
    Ok(entries.collect())
}

/// What is listed, without the entries of these prefixes; times in milliseconds.
fn expected(without: &[&str], longest_ms: u64) -> BTreeMap<String, Option<u64>> {
    let left = |ttl| match ttl {
        "90s" => 90_000,
        "1h" => 3_600_000,
        "2h" => 7_200_000,
        "30days" => 30 * 86_400_000,
        _ => 3_650 * 86_400_000,
    };
    ENTRIES
        .iter()
        .filter(|(prefix, _)| !without.contains(prefix))
        .map(|(prefix, ttl)| {
            (
                (*prefix).to_owned(),
                ttl.map(|ttl| left(ttl).min(longest_ms)),
            )
        })
        .collect()
}

/// The same prefixes, and of each what is left of its time but for a minute.
#[track_caller]
fn assert_back(
    back: &BTreeMap<String, Option<u64>>,
    expected: &BTreeMap<String, Option<u64>>,
    printed: &str,
) {
    let prefixes: Vec<_> = back.keys().collect();
    assert_eq!(prefixes, expected.keys().collect::<Vec<_>>(), "{printed}");
    for (prefix, due) in expected {
        let left = back[prefix];
        assert_eq!(left.is_some(), due.is_some(), "{prefix}: {printed}");
        if let (Some(left), Some(due)) = (left, *due) {
            // Whole seconds are rounded up on the way.
            let fits = left <= due + 1_000 && left + 60_000 >= due;
            assert!(fits, "{prefix}: {left} of {due} ms: {printed}");
        }
    }
}

fn within(namespace: &Namespace, program: &str, words: &[&str]) -> Rigged<String> {
    let mut command: Command = namespace.command(program);
    succeed(command.args(words))
}

#[test]
fn ipset_restores_what_is_exported_and_its_save_is_imported() -> Rigged<()> {
    if !kernel_or_skip("ipset_restores_what_is_exported_and_its_save_is_imported") {
        return Ok(());
    }
    let front = filled()?;
    let namespace = Namespace::new()?;
    let file = export(&front, "ipset")?;
    within(&namespace, "ipset", &["-file", &file, "restore"])?;
    let saved = within(&namespace, "ipset", &["save"])?;
    // No timeout of an ipset is longer.
    let expected = expected(&[], 2_147_483_000);
    assert_back(&import(&front, &saved)?, &expected, &saved);
    Ok(())
}

#[test]
fn nft_loads_what_is_exported_and_its_listing_is_imported() -> Rigged<()> {
    if !kernel_or_skip("nft_loads_what_is_exported_and_its_listing_is_imported") {
        return Ok(());
    }
    let front = filled()?;
    let namespace = Namespace::new()?;
    let file = export(&front, "nft")?;
    within(&namespace, "nft", &["-f", &file])?;
    let printed = within(&namespace, "nft", &["list", "ruleset"])?;
    let all = expected(&[], u64::MAX);
    assert_back(&import(&front, &printed)?, &all, &printed);
    let set = ["list", "set", "inet", "portcullis", "banned_v4_within_2"];
    let printed = within(&namespace, "nft", &set)?;
    assert!(printed.contains("203.0.113.129 timeout 1h"), "{printed}");
    Ok(())
}

/// Prefixes of every length, many within others, from a formula.
fn nested(family: u8, count: u32) -> String {
    let line = |number: u32| {
        let [_, _, high, low] = number.wrapping_mul(2_654_435_761).to_be_bytes();
        match family {
            4 => format!("10.{}.{high}.{low}/{}\n", high % 4, 8 + number % 25),
            _ => format!("2001:db8:{high:x}::{low:x}/{}\n", 32 + number % 97),
        }
    };
    (0..count).map(line).collect()
}

#[test]
fn the_tools_take_hundreds_of_prefixes_within_prefixes() -> Rigged<()> {
    if !kernel_or_skip("the_tools_take_hundreds_of_prefixes_within_prefixes") {
        return Ok(());
    }
    let front = Front::open_secluded()?;
    let namespace = Namespace::new()?;
    for (list, family, ttl) in [
        ("a", 4, None),
        ("b", 6, None),
        ("c", 4, Some("1h")),
        ("d", 6, Some("1h")),
    ] {
        let count = if ttl.is_some() { 1_200 } else { 600 };
        let file = front.ground.scratch.write(list, nested(family, count))?;
        let file = file.display().to_string();
        let mut words = vec!["block", "import", &file, "--list", list];
        words.extend(ttl.into_iter().flat_map(|ttl| ["--ttl", ttl]));
        front.daemon.ask(&words)?;
    }
    let listed = front.daemon.ask(&["block", "list"])?;
    let entries = listed["entries"].as_array().cloned().unwrap_or_default();
    let prefix = |entry: &serde_json::Value| entry["prefix"].as_str().map(str::to_owned);
    let due: BTreeSet<_> = entries.iter().filter_map(prefix).collect();
    let export = |format: &str| -> Rigged<String> {
        let file = front.ground.scratch.join(format).display().to_string();
        front
            .daemon
            .ask(&["block", "export", "--format", format, "--output", &file])?;
        Ok(file)
    };
    let file = export("ipset")?;
    within(&namespace, "ipset", &["-file", &file, "restore"])?;
    let saved = within(&namespace, "ipset", &["save"])?;
    let back: BTreeSet<_> = import(&front, &saved)?.into_keys().collect();
    assert_eq!(back, due);
    let file = export("nft")?;
    within(&namespace, "nft", &["-f", &file])?;
    let printed = within(&namespace, "nft", &["list", "ruleset"])?;
    let timed = printed.matches(" expires ").count();
    let permanent: BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry["until_ms"].is_null())
        .filter_map(prefix)
        .collect();
    // Each ban is an element of its own; what is blocked for good may have been merged.
    assert_eq!(timed, due.difference(&permanent).count());
    Ok(())
}

#[test]
fn sets_that_others_made_are_imported() -> Rigged<()> {
    if !kernel_or_skip("sets_that_others_made_are_imported") {
        return Ok(());
    }
    let front = Front::open_secluded()?;
    let namespace = Namespace::new()?;
    let rules = "table ip t {\nset s {\ntype ipv4_addr\nflags interval, timeout\n\
                 elements = { 192.0.2.4-192.0.2.7 timeout 1h comment \"x, } y\", 198.51.100.0/24 }\n}\n\
                 set ports {\ntype inet_service\nelements = { 22 }\n}\n}\n";
    let rules = front.ground.scratch.write("rules", rules)?;
    within(&namespace, "nft", &["-f", &rules.display().to_string()])?;
    let printed = within(&namespace, "nft", &["list", "ruleset"])?;
    let back: Vec<_> = import(&front, &printed)?.into_keys().collect();
    assert_eq!(back, ["192.0.2.4/30", "198.51.100.0/24"], "{printed}");
    let sets = "create a hash:ip comment\nadd a 203.0.113.1 comment \"nomatch # 1\"\n\
                create n hash:net timeout 0\nadd n 10.0.0.0/24 nomatch\n";
    let sets = front.ground.scratch.write("sets", sets)?;
    let sets = sets.display().to_string();
    within(&namespace, "ipset", &["-file", &sets, "restore"])?;
    let saved = within(&namespace, "ipset", &["save"])?;
    let file = front.ground.scratch.write("printed", &saved)?;
    let file = file.display().to_string();
    let refused = front.daemon.ask_refused(&["block", "import", &file])?;
    assert!(refused.contains("is an exception (nomatch)"), "{refused}");
    let words = ["block", "import", &file, "--max-bad-lines", "1"];
    assert_eq!(front.daemon.ask(&words)?["changed"], 1, "{saved}");
    Ok(())
}
