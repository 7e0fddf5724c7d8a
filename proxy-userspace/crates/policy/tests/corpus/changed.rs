//! What becomes of the inputs of a fuzz target by a few changes.

use crate::corpus::inputs;

/// Inputs that are made of each of the corpus.
const CHANGED: usize = 2_000;

/// Has judged what becomes of each by a few changes, the same in each run.
pub(crate) fn judge(target: &str, pieces: &[&str], check: impl Fn(&[u8]) -> bool) {
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
