//! A public reputation list of 120,000 hosts (IPsum), for benchmarks and soak runs.

use std::path::Path;

/// Beside the repository where this project is developed; see its README.
const IPSUM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/ipsum.txt");

/// The list; `None`, and a word to standard error about what isn't measured, where it isn't at hand.
pub fn ipsum(unmeasured: &str) -> Option<&'static Path> {
    let path = Path::new(IPSUM);
    if path.exists() {
        return Some(path);
    }
    eprintln!("no {IPSUM}, so {unmeasured} is not measured");
    None
}
