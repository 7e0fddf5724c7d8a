//! Inputs of a fuzz target, as they lie in the folder of its corpus.

use std::{fs, path::Path};

/// Inputs that are made of each of the corpus.
const CHANGED: usize = 2_000;

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
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

/// Has judged what becomes of each by a few changes, the same in each run.
pub(crate) fn change(target: &str, pieces: &[&str], check: impl Fn(&[u8]) -> bool) {
    // xorshift64 (Marsaglia, 2003).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap_or(0)
    };
    let (mut good, mut bad) = (0, 0);
    for (_, input) in inputs(target) {
        for _ in 0..CHANGED {
            let mut changed = input.clone();
            for _ in 0..=draw(3) {
                let at = draw(changed.len());
                match draw(4) {
                    0 if !changed.is_empty() => changed[at] ^= 1 << draw(8),
                    1 if !changed.is_empty() => {
                        changed.remove(at);
                    }
                    2 => {
                        let end = (at + draw(16)).min(changed.len());
                        let copy = changed[at..end].to_vec();
                        changed.splice(at..at, copy);
                    }
                    _ => {
                        let piece = pieces[draw(pieces.len())];
                        changed.splice(at..at, piece.bytes());
                    }
                }
            }
            if check(&changed) { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 500 && bad > 500, "{good} let in, {bad} refused");
}
