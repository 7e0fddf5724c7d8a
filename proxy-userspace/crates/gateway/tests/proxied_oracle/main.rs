//! The corpus of the fuzz target `proxied`, replayed without a fuzzer, and changed at random.

mod oracle;

#[path = "../../../policy/tests/corpus/changed.rs"]
mod changed;
#[path = "../../../policy/tests/corpus/corpus.rs"]
mod corpus;

use oracle::Oracle;

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    let oracle = Oracle::new();
    corpus::replay("proxied", |input| oracle.check(input));
}

#[test]
fn whatever_becomes_of_the_corpus_is_read_as_others_read_it_or_refused() {
    let pieces = [
        "PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", " ", "\r\n", "\0", "0", "1", "255", "65535", "::",
        "::ffff:", ".", "\u{21}",
    ];
    let oracle = Oracle::new();
    changed::judge("proxied", &pieces, |input| oracle.check(input));
}
