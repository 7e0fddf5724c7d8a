//! Whether every package may be shipped with ours.

use serde_json::Value;
use spdx::{AdditionItem, Expression, LicenseReq, ParseMode};

/// Licences that ask for no more than their own text to be kept.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "NCSA",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Exceptions, with the licence they soften.
const ALLOWED_WITH: &[(&str, &str)] = &[("Apache-2.0", "LLVM-exception")];

/// Complaints about every package that `cargo metadata` lists.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter_map(|package| {
            let refusal = refusal(package["license"].as_str())?;
            let text = |key: &str| package[key].as_str().unwrap_or("?").to_owned();
            Some(format!("{} {}: {refusal}", text("name"), text("version")))
        })
        .collect()
}

fn refusal(licence: Option<&str>) -> Option<String> {
    let Some(licence) = licence else {
        return Some("names no licence".to_owned());
    };
    // Lax, for the `MIT/Apache-2.0` of old crates.
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(allowed) => None,
        Ok(_) => Some(format!(
            "licence `{licence}` isn't on the list of allowed ones"
        )),
        Err(e) => Some(format!(
            "licence `{licence}` isn't an SPDX expression: {}",
            e.reason
        )),
    }
}

fn allowed(required: &LicenseReq) -> bool {
    let Some(licence) = required.license.id().map(|id| id.name) else {
        return false;
    };
    match &required.addition {
        None => ALLOWED.contains(&licence),
        Some(addition) => {
            let exception = AdditionItem::id(addition).map(|id| id.name);
            exception.is_some_and(|exception| ALLOWED_WITH.contains(&(licence, exception)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_permissive_expressions() {
        for licence in [
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-2.0-only OR MIT",
        ] {
            assert_eq!(refusal(Some(licence)), None, "{licence}");
        }
    }

    #[test]
    fn refuses_copyleft_even_beside_a_permissive_one() {
        let refusal = refusal(Some("MIT AND GPL-3.0-only"));
        assert_eq!(
            refusal.unwrap(),
            "licence `MIT AND GPL-3.0-only` isn't on the list of allowed ones"
        );
    }

    #[test]
    fn refuses_an_exception_to_a_licence_that_is_not_allowed_with_it() {
        assert!(refusal(Some("MIT WITH LLVM-exception")).is_some());
        assert!(refusal(Some("GPL-2.0-only WITH Classpath-exception-2.0")).is_some());
    }

    #[test]
    fn names_the_package_without_a_licence() {
        let metadata =
            json!({ "packages": [{ "name": "x", "version": "1.0.0", "license": null }] });
        assert_eq!(check(&metadata), ["x 1.0.0: names no licence"]);
    }

    #[test]
    fn refuses_what_is_no_expression() {
        assert!(
            refusal(Some("ask the author"))
                .unwrap()
                .contains("isn't an SPDX expression")
        );
    }
}
