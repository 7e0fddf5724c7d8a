//! Which of our packages may know which.

use serde_json::Value;

/// DESIGN's table: a package, and all of ours it may depend on, for tests too.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proxy-common", &[]),
    ("policy", &[]),
    ("audit", &[]),
    ("gateway", &["policy", "audit"]),
    ("datapath", &["proxy-common"]),
    (
        "proxy-userspace",
        &["policy", "gateway", "datapath", "audit", "proxy-common"],
    ),
    ("proxy-ebpf", &["proxy-common"]),
    ("portcullis-fuzz", &["proxy-common", "gateway", "policy"]),
    (
        "portcullis-tests",
        &["proxy-common", "datapath", "audit", "gateway", "policy"],
    ),
    ("bench-ebpf", &[]),
    ("xtask", &[]),
];

/// Complaints about `cargo metadata` of one workspace.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            // proxy-ebpf's metadata lists proxy-common only as a dependency, so every package
            // seen here is a member of a workspace of ours.
            complaints.push(format!("{name} has no row in xtask/src/lint/edges.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            if dependency["path"].is_string() && !allowed.contains(&other) {
                complaints.push(format!("{name} must not depend on {other}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, ours: &[&str]) -> Value {
        let of = |name: &&str| json!({ "name": name, "path": format!("/src/{name}") });
        let mut dependencies: Vec<_> = ours.iter().map(of).collect();
        dependencies.push(json!({ "name": "serde" }));
        json!({ "packages": [{ "name": name, "dependencies": dependencies }] })
    }

    #[test]
    fn takes_the_edges_of_the_design() {
        assert!(check(&package("gateway", &["policy", "audit"])).is_empty());
        assert!(check(&package("proxy-ebpf", &["proxy-common"])).is_empty());
    }

    #[test]
    fn refuses_policy_knowing_anything_of_ours() {
        let complaints = check(&package("policy", &["audit"]));
        assert_eq!(complaints, ["policy must not depend on audit"]);
    }

    #[test]
    fn refuses_gateway_reaching_into_the_kernel_side() {
        let complaints = check(&package("gateway", &["policy", "datapath"]));
        assert_eq!(complaints, ["gateway must not depend on datapath"]);
    }

    #[test]
    fn refuses_a_package_without_a_row() {
        assert_eq!(
            check(&package("util", &[])),
            ["util has no row in xtask/src/lint/edges.rs"]
        );
    }
}
