//! How long an answer is good.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// How long an answer is good by what it says of itself (RFC 9111, 4.2.1), less the time that it spent in
/// caches; none at all where it isn't to be kept.
pub(super) fn freshness(fields: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| fields.get(name).and_then(|value| value.to_str().ok());
    let age = text(header::AGE).and_then(|age| age.trim().parse().ok());
    let age = Duration::from_secs(age.unwrap_or(0));
    let mut directives = fields
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .peekable();
    if directives.peek().is_some() {
        let mut fresh = None;
        for directive in directives {
            if directive == "no-store" || directive == "no-cache" {
                return Some(Duration::ZERO);
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                fresh = seconds.trim_matches('"').parse().ok();
            }
        }
        if fresh.is_some() {
            return fresh.map(|fresh| Duration::from_secs(fresh).saturating_sub(age));
        }
    }
    let date = |name| httpdate::parse_http_date(text(name)?).ok();
    let expires = date(header::EXPIRES)?;
    // By the server's clock.
    let now = date(header::DATE).unwrap_or_else(SystemTime::now);
    Some(
        expires
            .duration_since(now)
            .unwrap_or_default()
            .saturating_sub(age),
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_good() {
        let fresh = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            freshness(&headers).map(|fresh| fresh.as_secs())
        };
        let (date, expires) = (
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("expires", "Sun, 06 Nov 1994 08:59:37 GMT"),
        );
        assert_eq!(fresh(&[]), None);
        assert_eq!(
            fresh(&[("cache-control", "public, Max-Age=600")]),
            Some(600)
        );
        let aged = [("cache-control", "max-age=600"), ("age", "200")];
        assert_eq!(fresh(&aged), Some(400));
        assert_eq!(
            fresh(&[("cache-control", "max-age=600, no-store")]),
            Some(0)
        );
        assert_eq!(fresh(&[date, expires]), Some(600));
        assert_eq!(fresh(&[expires]), Some(0));
        assert_eq!(fresh(&[date, ("expires", "0")]), None);
        let both = [date, expires, ("cache-control", "max-age=5")];
        assert_eq!(fresh(&both), Some(5));
        assert_eq!(fresh(&[("cache-control", "max-age=x")]), None);
    }
}
