//! The corpus of the fuzz target `proof`, replayed without a fuzzer.

mod oracle;

#[path = "../../../policy/tests/corpus/corpus.rs"]
mod corpus;

use oracle::Oracle;

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    let oracle = Oracle::new();
    corpus::replay("proof", |input| oracle.check(input));
}
