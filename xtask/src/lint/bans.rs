//! Crates that must not be built in.

use crate::{failure::Failure, run::Invocation, tree::Tree};

/// A crate, and what stands in its place here.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "rustls does TLS"),
    ("openssl-sys", "rustls does TLS"),
    ("reqwest", "hyper-util makes requests"),
    ("ring", "aws-lc-rs does cryptography"),
];

/// Complaints about what is really compiled for this host, tests excepted.
///
/// `cargo tree`, not `cargo metadata`: the latter lists crates behind features that nothing
/// turns on, ring among them.
pub(super) fn check(tree: &Tree) -> Result<Vec<String>, Failure> {
    let mut complaints = Vec::new();
    for dir in tree.workspaces() {
        let list = [
            "tree",
            "--locked",
            "--workspace",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ];
        complaints.extend(banned(&Invocation::cargo().args(list).dir(&dir).capture()?));
    }
    complaints.sort();
    complaints.dedup();
    Ok(complaints)
}

/// Reads lines of `name vVERSION …`.
fn banned(list: &str) -> Vec<String> {
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let hits = names.filter_map(|name| BANNED.iter().find(|(banned, _)| *banned == name));
    hits.map(|(name, instead)| {
        format!("{name} is built in, but {instead}; `cargo tree -i {name}` says who wants it")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_banned_crate_wherever_it_stands() {
        let complaints = banned("gateway v0.1.0 (/src)\nrustls v0.23.1\nring v0.17.14 (*)\n");
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0].starts_with("ring is built in"),
            "{complaints:?}"
        );
    }

    #[test]
    fn takes_a_crate_whose_name_only_begins_alike() {
        assert!(banned("openssl-probe v0.2.0\nstring v1.0.0\n").is_empty());
    }
}
