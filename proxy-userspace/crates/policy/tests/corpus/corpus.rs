//! Inputs of a fuzz target, as they lie in the folder of its corpus.

use std::{fs, path::Path};

pub(crate) fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/corpus");
    let entries = fs::read_dir(place.join(target)).expect("a corpus");
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("an input"))
        })
        .collect();
    inputs.sort();
    inputs
}

/// Has each judged; those whose names begin with `good-` are let in, and no others.
pub(crate) fn replay(target: &str, check: impl Fn(&[u8]) -> bool) {
    let (mut good, mut bad) = (0, 0);
    for (name, input) in inputs(target) {
        let let_in = check(&input);
        assert_eq!(let_in, name.starts_with("good-"), "{name}");
        if let_in { good += 1 } else { bad += 1 }
    }
    assert!(good >= 3 && bad >= 8, "{good} and {bad}");
}
