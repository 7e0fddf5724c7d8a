//! The corpus of the fuzz target `proof`, replayed without a fuzzer.

mod oracle;

use std::{fs, path::Path};

use oracle::Oracle;

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/corpus/proof");
    let oracle = Oracle::new();
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(place).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let let_in = oracle.check(&fs::read(&path).expect("an input"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        assert_eq!(let_in, name.starts_with("good-"), "{name}");
        if let_in { good += 1 } else { bad += 1 }
    }
    assert!(good >= 3 && bad >= 8, "{good} and {bad}");
}
