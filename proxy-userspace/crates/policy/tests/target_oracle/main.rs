//! The corpus of the fuzz target `target`, replayed without a fuzzer, and changed at random.

mod oracle;

#[path = "../corpus/changed.rs"]
mod changed;
#[path = "../corpus/corpus.rs"]
mod corpus;

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    corpus::replay("target", oracle::check);
}

#[test]
fn whatever_becomes_of_the_corpus_is_read_as_others_read_it_or_refused() {
    let pieces = [
        "%", "%2e", "%2F", "%5c", "%25", "%00", "%c0%af", "..", "/", "//", ";", "\\", "?", "#",
        "@", ":", "[", "]", "%41", ".", "0x7f.1", "xn--", "\u{fc}", "https://",
    ];
    changed::judge("target", &pieces, oracle::check);
}
