//! Which site makes the browser ask (Fetch Metadata; RFC 6454): cookies go along with what any site asks for.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use policy::CanonicalRequest;

use super::fault::LoginFault;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Of what is fetched before its user asks for it.
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");

/// Where a request comes from, as far as the browser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The origin that it is for, or the user himself.
    Here,
    Elsewhere,
    /// It isn't said.
    Unsaid,
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut fields = headers.get_all(name).iter();
    let field = fields.next()?;
    // Of two, none is believed.
    Some(match fields.next() {
        None => field.as_bytes(),
        Some(_) => b"",
    })
}

/// The origin of what a request is for (RFC 6454, 6.2).
pub(super) fn origin(request: &CanonicalRequest) -> String {
    let port = request.port().filter(|port| *port != 443);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("https://{}{port}", request.host())
}

/// By `Sec-Fetch-Site`; without it, by `Origin`.
pub(super) fn from(headers: &HeaderMap, request: &CanonicalRequest) -> From {
    match (only(headers, &SITE), only(headers, &header::ORIGIN)) {
        (Some(b"same-origin" | b"none"), _) => From::Here,
        (Some(_), _) => From::Elsewhere,
        (None, Some(said)) if said == origin(request).as_bytes() => From::Here,
        (None, Some(_)) => From::Elsewhere,
        (None, None) => From::Unsaid,
    }
}

/// Whether a session may be used for a request: for one that changes nothing always, as the browser sends it along
/// only when its user goes to the site, or from the same site (`SameSite=Lax`); for any other, and for a WebSocket, if it comes from the site itself.
///
/// # Errors
/// [`LoginFault::CrossSite`].
pub(super) fn judge(
    headers: &HeaderMap,
    request: &CanonicalRequest,
    upgrades: bool,
) -> Result<(), LoginFault> {
    let is_good = if upgrades {
        // Every browser says it of a WebSocket (RFC 6455, 10.2).
        only(headers, &header::ORIGIN) == Some(origin(request).as_bytes())
    } else {
        let changes_nothing = [Method::GET, Method::HEAD, Method::OPTIONS];
        changes_nothing.contains(request.method()) || from(headers, request) == From::Here
    };
    is_good.then_some(()).ok_or(LoginFault::CrossSite)
}

/// Whether a request to log out is its user's: by a form of the site's own, or by a link that he follows, and not by
/// what a page holds, such as an image that somebody else has put there.
pub(super) fn may_log_out(headers: &HeaderMap, request: &CanonicalRequest) -> bool {
    let follows = || {
        only(headers, &MODE) == Some(b"navigate")
            && only(headers, &DESTINATION) == Some(b"document")
            && !headers.contains_key(&PURPOSE)
    };
    from(headers, request) == From::Here && (*request.method() == Method::POST || follows())
}

/// Whether a request is a browser's for a page, in the place of the one before: only that can go to a login and
/// come back.
pub(super) fn is_navigation(headers: &HeaderMap, request: &CanonicalRequest) -> bool {
    let says =
        |name: &HeaderName, wanted: &[u8]| only(headers, name).is_none_or(|said| said == wanted);
    let accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|field: &HeaderValue| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("text/html"));
    *request.method() == Method::GET
        && accepts
        && says(&MODE, b"navigate")
        && says(&DESTINATION, b"document")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(method: Method, fields: &[(&str, &str)]) -> (HeaderMap, CanonicalRequest) {
        let mut message = Request::builder()
            .method(method)
            .uri("/x")
            .header("host", "app.example:8443");
        for (name, value) in fields {
            message = message.header(*name, *value);
        }
        let (parts, ()) = message.body(()).expect("a legal message").into_parts();
        let canonical = CanonicalRequest::from_parts(&parts).expect("one reading");
        (parts.headers, canonical)
    }

    fn judged(method: Method, upgrades: bool, fields: &[(&str, &str)]) -> bool {
        let (headers, request) = request(method, fields);
        judge(&headers, &request, upgrades).is_ok()
    }

    #[test]
    fn what_may_change_things_has_to_come_from_the_site_itself() {
        let post = |fields: &[(&str, &str)]| judged(Method::POST, false, fields);
        let own = ("origin", "https://app.example:8443");
        assert!(post(&[("sec-fetch-site", "same-origin")]));
        assert!(post(&[("sec-fetch-site", "none")]));
        assert!(post(&[own]));
        for fields in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), own],
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "none"),
            ],
            &[("origin", "https://app.example")],
            &[("origin", "http://app.example:8443")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[own, own],
        ] {
            assert!(!post(fields), "{fields:?}");
            assert!(judged(Method::GET, false, fields), "{fields:?}");
        }
    }

    #[test]
    fn a_websocket_has_to_have_the_origin_of_the_site() {
        let opened = |fields: &[(&str, &str)]| judged(Method::GET, true, fields);
        assert!(opened(&[("origin", "https://app.example:8443")]));
        assert!(!opened(&[("origin", "https://evil.example")]));
        assert!(!opened(&[("sec-fetch-site", "same-origin")]));
        assert!(!opened(&[]));
    }

    #[test]
    fn only_a_page_goes_to_a_login() {
        let goes = |method, fields: &[(&str, &str)]| {
            let (headers, request) = request(method, fields);
            is_navigation(&headers, &request)
        };
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        assert!(goes(Method::GET, &[html]));
        let navigates = ("sec-fetch-mode", "navigate");
        let document = ("sec-fetch-dest", "document");
        assert!(goes(Method::GET, &[html, navigates, document]));
        for fields in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "application/json")],
            &[html, ("sec-fetch-mode", "cors")],
            &[html, navigates, ("sec-fetch-dest", "iframe")],
        ] {
            assert!(!goes(Method::GET, fields), "{fields:?}");
        }
        assert!(!goes(Method::POST, &[html]));
        assert!(!goes(Method::HEAD, &[html]));
    }
}
