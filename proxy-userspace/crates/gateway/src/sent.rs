//! The token as it was sent: where it was, once and in one place, and what else may not travel with the request.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    holder::Scheme,
    token::{TokenFault, TokenLocation},
};

/// A token as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent<'h> {
    pub(crate) token: &'h str,
    pub(crate) scheme: Option<Scheme>,
}

impl<'h> Sent<'h> {
    /// In a place where nothing is said about how it is meant.
    fn plainly(token: &'h str) -> Self {
        Self {
            token,
            scheme: None,
        }
    }
}

/// The token, and where it was: in one of the places of the accepted issuers and no other. Whoever sends two
/// may have got one of them from somebody else.
pub(crate) fn sent_token<'h, 'i>(
    headers: &'h HeaderMap,
    accepted: impl Iterator<Item = &'i TokenLocation>,
) -> Result<Option<(Sent<'h>, &'i TokenLocation)>, TokenFault> {
    let mut sent: Option<(Sent<'_>, &TokenLocation)> = None;
    for location in accepted {
        if sent.is_some_and(|(_, known)| known == location) {
            continue;
        }
        let token = match location {
            TokenLocation::Authorization => authorization(headers)?,
            TokenLocation::Header(name) => field_token(headers, name)?.map(Sent::plainly),
            TokenLocation::Cookie(name) => cookie_token(headers, name)?.map(Sent::plainly),
        };
        match (token, sent) {
            (None, _) => {}
            (Some(token), None) => sent = Some((token, location)),
            (Some(_), Some(_)) => return Err(TokenFault::TwoPlaces),
        }
    }
    Ok(sent)
}

/// RFC 6750, 2.1; RFC 9449, 7.1. One Authorization field, and nothing else than one token in it.
fn authorization(headers: &HeaderMap) -> Result<Option<Sent<'_>>, TokenFault> {
    let Some(field) = field_token(headers, &header::AUTHORIZATION)? else {
        return Ok(None);
    };
    let (scheme, token) = field.split_once(' ').ok_or(TokenFault::NotBearer)?;
    let scheme = if scheme.eq_ignore_ascii_case("bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Scheme::Dpop
    } else {
        return Err(TokenFault::NotBearer);
    };
    let scheme = Some(scheme);
    Ok(Some(Sent { token, scheme }))
}

fn field_token<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, TokenFault> {
    let field = only_field(headers, name).map_err(|_| TokenFault::Repeated)?;
    let text = field.map(HeaderValue::to_str).transpose();
    text.map_err(|_| TokenFault::NotBearer)
}

/// Two fields where one may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

/// The one field of this name.
pub(crate) fn only_field<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, Repeated> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (field, None) => Ok(field),
        (_, Some(_)) => Err(Repeated),
    }
}

/// Of several cookies with one name, whichever comes first is chance (RFC 6265, 4.2.2).
fn cookie_token<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, TokenFault> {
    let mut values = cookie_values(headers, name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(TokenFault::Repeated);
    }
    let value = std::str::from_utf8(value).map_err(|_| TokenFault::NotBearer)?;
    Ok(Some(value))
}

/// All that the cookies of this name hold.
pub(crate) fn cookie_values<'h>(
    headers: &'h HeaderMap,
    name: &str,
) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |cookie| value_of(cookie, name))
}

fn value_of<'c>(cookie: &'c [u8], name: &str) -> Option<&'c [u8]> {
    let rest = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
    rest.trim_ascii_start()
        .strip_prefix(b"=")
        .map(<[u8]>::trim_ascii)
}

impl TokenLocation {
    /// Takes out what carries a token there, but for `Authorization`, which a public route's upstream may want.
    pub(crate) fn withhold(&self, headers: &mut HeaderMap) {
        match self {
            Self::Authorization => {}
            Self::Header(name) => remove_field(headers, name),
            Self::Cookie(name) => remove_cookies(headers, |it| value_of(it, name).is_some()),
        }
    }
}

/// And what CGI-style servers take for it.
fn remove_field(headers: &mut HeaderMap, name: &HeaderName) {
    let alike = |other: &HeaderName| other.as_str().replace('_', "-") == name.as_str();
    let found: Vec<HeaderName> = headers.keys().filter(|it| alike(it)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Takes out the cookies that it is true of, name and value, and leaves the others.
pub(crate) fn remove_cookies(headers: &mut HeaderMap, is_one: impl Fn(&[u8]) -> bool) {
    let cookies = || {
        headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
            .map(<[u8]>::trim_ascii)
    };
    if !cookies().any(&is_one) {
        return;
    }
    let others: Vec<&[u8]> = cookies()
        .filter(|cookie| !cookie.is_empty() && !is_one(cookie))
        .collect();
    let others = HeaderValue::from_bytes(&others.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let Ok(others) = others
        && !others.is_empty()
    {
        headers.insert(header::COOKIE, others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn found(values: &[&'static str]) -> Result<Option<(String, Scheme)>, TokenFault> {
        let fields: Vec<_> = values
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        let headers = headers(&fields);
        let sent = authorization(&headers)?;
        Ok(sent.and_then(|sent| Some((sent.token.to_owned(), sent.scheme?))))
    }

    #[test]
    fn one_token_or_none() {
        let token = |scheme| Ok(Some(("abc".to_owned(), scheme)));
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&["Bearer abc"]), token(Scheme::Bearer));
        assert_eq!(found(&["bEARER abc"]), token(Scheme::Bearer));
        assert_eq!(found(&["DPoP abc"]), token(Scheme::Dpop));
        assert_eq!(found(&["dpop abc"]), token(Scheme::Dpop));
        let both = ["DPoP abc", "Bearer abc"];
        assert_eq!(found(&both), Err(TokenFault::Repeated));
        assert_eq!(found(&["Basic abc"]), Err(TokenFault::NotBearer));
        assert_eq!(found(&["Bearer"]), Err(TokenFault::NotBearer));
        assert_eq!(found(&["Bearer a", "Bearer a"]), Err(TokenFault::Repeated));
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_once() {
        let found = |cookies: &[&'static str]| {
            let fields: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
            let headers = headers(&fields);
            cookie_token(&headers, "sid").map(|it| it.map(str::to_owned))
        };
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(
            found(&["a=b; sid=x.y.z; c=d"]),
            Ok(Some("x.y.z".to_owned()))
        );
        assert_eq!(found(&["a=b", "sid=x"]), Ok(Some("x".to_owned())));
        assert_eq!(found(&["xsid=x; sid2=y; Sid=z; a=sid=x"]), Ok(None));
        assert_eq!(found(&["sid=x; sid=x"]), Err(TokenFault::Repeated));
        assert_eq!(found(&["sid=x", "a=b;sid=y"]), Err(TokenFault::Repeated));
    }

    #[test]
    fn what_carried_a_token_goes_no_further() {
        let mut sent = headers(&[
            ("cookie", "a=b; sid=x;c=d"),
            ("cookie", "sid2=y"),
            ("x-token", "x"),
            ("x_token", "x"),
        ]);
        let withhold = |headers: &mut HeaderMap| {
            TokenLocation::Cookie("sid".to_owned()).withhold(headers);
        };
        withhold(&mut sent);
        remove_field(&mut sent, &HeaderName::from_static("x-token"));
        let left: Vec<_> = sent.iter().map(|(_, value)| value.as_bytes()).collect();
        assert_eq!(left, [&b"a=b; c=d; sid2=y"[..]]);
        let mut alone = headers(&[("cookie", " sid=x ")]);
        withhold(&mut alone);
        assert!(alone.is_empty());
        let mut others = headers(&[("cookie", "a=b;c=d")]);
        withhold(&mut others);
        assert_eq!(
            others.get("cookie"),
            Some(&HeaderValue::from_static("a=b;c=d"))
        );
    }
}
