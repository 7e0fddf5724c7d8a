//! Tokens that are taken back.

use std::fmt::Write as _;

use super::rfc3339_ms;
use crate::revocations::Revoked;

pub(crate) fn revoked(revoked: &[Revoked]) -> String {
    let mut text = String::new();
    for it in revoked {
        let which = &it.which;
        let _ = write!(text, "{:<6}", it.id);
        for (what, value) in [
            ("issuer", &which.issuer),
            ("jti", &which.token_id),
            ("subject", &which.subject),
            ("key", &which.key_id),
        ] {
            if let Some(value) = value {
                let _ = write!(text, " {what} {value:?}");
            }
        }
        if let Some(before) = which.issued_before {
            let before = rfc3339_ms(before.saturating_mul(1_000));
            let _ = write!(text, " issued before {before}");
        }
        let until = it.until_ms.map_or_else(
            || "for good".to_owned(),
            |until| format!("until {}", rfc3339_ms(until)),
        );
        let added = rfc3339_ms(it.added_ms);
        let _ = write!(text, "  since {added} {until} by uid {}", it.by_uid);
        if let Some(reason) = &it.reason {
            let _ = write!(text, "  {}", reason.escape_debug());
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{} revocations", revoked.len());
    text
}
