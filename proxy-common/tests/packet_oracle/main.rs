//! The corpus of the fuzz target `packet`, replayed without a fuzzer: every input as it lies
//! there, cut at any byte, and with any byte changed. `cargo xtask fuzz` looks further.

mod oracle;

use std::{collections::BTreeMap, fs, path::Path};

use oracle::{Met, check};

/// Inputs of the corpus, by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/packet");
    let mut inputs: Vec<_> = fs::read_dir(place)
        .expect("a corpus")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("an input"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn both_readings_agree_on_the_corpus_which_leads_everywhere() {
    let mut met: BTreeMap<Met, u32> = BTreeMap::new();
    for (name, frame) in corpus() {
        println!("{name}");
        *met.entry(check(&frame)).or_default() += 1;
    }
    let everywhere = [
        Met::NotIp,
        Met::TooManyTags,
        Met::Malformed,
        Met::V4,
        Met::V6,
        Met::Mapped,
        Met::PathMtu,
        Met::NeighbourDiscovery,
        Met::TooManyExtensions,
        Met::Unreadable,
    ];
    assert_eq!(Vec::from_iter(met.keys().copied()), everywhere, "{met:?}");
}

#[test]
fn both_readings_agree_on_every_cut() {
    for (name, frame) in corpus() {
        println!("{name}");
        for cut in 0..frame.len() {
            check(&frame[..cut]);
        }
    }
}

#[test]
fn both_readings_agree_on_every_changed_byte() {
    // Behind this nothing is read but lengths and kinds of headers, which come before, too.
    const CHANGED_BYTES: usize = 160;
    for (name, frame) in corpus() {
        println!("{name}");
        for at in 0..frame.len().min(CHANGED_BYTES) {
            for flip in [0x01, 0x04, 0x10, 0x80, 0xff] {
                let mut changed = frame.clone();
                changed[at] ^= flip;
                check(&changed);
            }
        }
    }
}
