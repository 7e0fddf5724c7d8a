//! The permitted request to the upstream, and its answer back.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use audit::DecisionId;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header,
    request::Parts,
};
use hyper::body::Incoming;
use policy::{Access, Permit};

use crate::{
    answer::Pace,
    body::ClientBody,
    client::{Client, FORWARDED_FOR},
    flow::Flow,
    holder::PROOF,
    login::Logins,
    tenure::Tenure,
    trace::Trace,
    upstream::{Hold, Sending, Upstream, UpstreamBody, UpstreamFault, Upstreams},
    websocket::Asked,
};

/// Name of the decision id's field, to the client and to the upstream.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A decision id as a field's value.
pub(crate) fn id_field(id: DecisionId) -> HeaderValue {
    // Digits and letters always are one.
    HeaderValue::from_bytes(&id.digits()).unwrap_or(HeaderValue::from_static("-"))
}

const SUBJECT: HeaderName = HeaderName::from_static("x-portcullis-subject");
const ISSUER: HeaderName = HeaderName::from_static("x-portcullis-issuer");
const SCOPES: HeaderName = HeaderName::from_static("x-portcullis-scopes");
const PROVEN_BY: HeaderName = HeaderName::from_static("x-portcullis-proven-by");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields about one connection, never forwarded (RFC 9110, 7.6.1), and those that ask for a
/// protocol change. `Expect` is answered here.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    // Of an upgrade to h2c, which is asked for by this too (RFC 7540, 3.2.1).
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What the client can't be believed about: set here, or not at all.
const OURS: [&str; 3] = ["x-portcullis-", "x-forwarded-", "x-request-id"];
const OURS_EXACT: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    // Frameworks let these replace the method or path that was judged.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// The rest of a permitted request.
pub(crate) struct Forwarded {
    pub(crate) id: DecisionId,
    pub(crate) trace: Trace,
    pub(crate) client: Client,
    /// Who is connected.
    pub(crate) peer: SocketAddr,
    pub(crate) worker: usize,
    pub(crate) parts: Parts,
    pub(crate) body: Option<ClientBody>,
    pub(crate) flow: Flow,
    pub(crate) websocket: Option<Asked>,
    /// How long the client may owe the next part of its body.
    pub(crate) client_timeout: Duration,
    /// What it may go on under.
    pub(crate) tenure: Option<Tenure>,
    /// The same for the body, where there is one.
    pub(crate) body_tenure: Option<Tenure>,
}

/// An upstream's answer, and what goes with it.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) hold: Hold,
    pub(crate) pace: Pace,
}

/// A permitted request as it goes to its upstream.
pub(crate) struct Outgoing<'a> {
    upstream: &'a Upstream,
    /// Goes about as a pointer.
    request: Box<Request<UpstreamBody>>,
    flow: Flow,
    sending: Sending,
    websocket: Option<Asked>,
    tenure: Option<Tenure>,
    /// The client's version.
    version: Version,
}

/// Makes of what was permitted what is sent, and nothing else.
pub(crate) fn outgoing<'a>(
    permit: &Permit<'_>,
    upstreams: &'a Upstreams,
    forwarded: Forwarded,
) -> Result<Outgoing<'a>, UpstreamFault> {
    let Forwarded {
        id,
        trace,
        client,
        peer,
        worker,
        parts,
        body,
        flow,
        websocket,
        client_timeout,
        tenure,
        body_tenure,
    } = forwarded;
    let upstream = upstreams.get(&permit.route().upstream)?;
    let mut headers = parts.headers;
    let takes_trailers = takes_trailers(&headers);
    cleanse(
        &mut headers,
        matches!(permit.route().access, Access::Token { .. }),
    );
    introduce(&mut headers, permit, id, &client, peer.ip());
    trace.introduce(&mut headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let body = match &websocket {
        None => UpstreamBody::new(
            body,
            flow.clone(),
            permit.route().max_body_bytes,
            upstream.bounds().stream_timeout.max(client_timeout),
            body_tenure,
        ),
        Some(asked) => {
            asked.say_upgrade(&mut headers);
            UpstreamBody::empty(flow.clone())
        }
    };
    let mut request = Box::new(Request::new(body));
    // The canonical path has been through a stricter parser than this one.
    *request.uri_mut() = permit
        .request()
        .origin_form()
        .parse()
        .map_err(|_| UpstreamFault::NotConfigured)?;
    *request.method_mut() = permit.request().method().clone();
    *request.headers_mut() = headers;
    let sending = Sending {
        worker,
        key: upstream.balance().key_of(&request, client.address),
        upgrade: websocket.is_some(),
        client_timeout,
        // Of a hop's request, the port is the hop's.
        client: (client.address, peer.port()).into(),
    };
    Ok(Outgoing {
        upstream,
        request,
        flow,
        sending,
        websocket,
        tenure,
        version: parts.version,
    })
}

/// Sends it, and waits for the head of the answer.
pub(crate) async fn forward(outgoing: Outgoing<'_>) -> Result<Answer, UpstreamFault> {
    let Outgoing {
        upstream,
        request,
        flow,
        sending,
        websocket,
        mut tenure,
        version,
    } = outgoing;
    let sent = upstream.send(request, &flow, sending, &mut tenure);
    let (mut response, mut hold) = sent.await?;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches {
        hold.keep_out();
        let wanted = websocket.as_ref();
        if !wanted.is_some_and(|asked| asked.is_answered_by(response.headers())) {
            return Err(UpstreamFault::UnaskedUpgrade);
        }
    }
    remove_hop_by_hop(response.headers_mut());
    Logins::disown(response.headers_mut());
    if let Some(asked) = websocket.filter(|_| switches) {
        asked.tell_upgrade(&mut response);
    }
    *response.version_mut() = version;
    let bounds = upstream.bounds();
    let until = bounds.total_timeout.map(|total| flow.began() + total);
    Ok(Answer {
        response,
        hold,
        pace: Pace::new(bounds.stream_timeout, until, flow, tenure),
    })
}

/// Whether trailers of the answer are of use to the client (RFC 9110, 10.1.4).
fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::TE).iter();
    accepted.any(|value| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"trailers")
    })
}

/// Removes what must not travel.
fn cleanse(headers: &mut HeaderMap, token_was_for_us: bool) {
    remove_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    headers.remove(header::HOST);
    join_cookies(headers);
    if token_was_for_us {
        headers.remove(header::AUTHORIZATION);
        headers.remove(PROOF);
    }
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours(name.as_str()))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
}

/// HTTP/2 clients send a cookie in crumbs, which have to be one field in HTTP/1.1 (RFC 9113,
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, whole);
    }
}

/// CGI-style servers take `X_Forwarded_For` for `X-Forwarded-For`, so both are ours.
fn is_ours(name: &str) -> bool {
    // Nearly all names differ in their first letter from all of ours.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'f')) {
        return false;
    }
    let same = |own: &str| {
        let alike = |(a, b): (u8, u8)| a == b || a == b'_' && b == b'-';
        name.len() >= own.len() && name.bytes().zip(own.bytes()).all(alike)
    };
    OURS.iter().any(|prefix| same(prefix))
        || OURS_EXACT
            .iter()
            .any(|own| own.len() == name.len() && same(own))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in &named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Tells the upstream who is calling, from where, and for which host. This comes after
/// [`cleanse`], so no `Connection` field of the client's can take it away again.
fn introduce(
    headers: &mut HeaderMap,
    permit: &Permit<'_>,
    id: DecisionId,
    client: &Client,
    peer: IpAddr,
) {
    headers.reserve(11);
    headers.insert(REQUEST_ID, id_field(id));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    let mut set = |name: HeaderName, value: String| {
        // A subject with a control character has no place in a field; it is left out.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let host = permit.request().host().as_str();
    let peer = peer.to_canonical();
    let mut chain = String::with_capacity(48);
    let _ = write!(chain, "{}", client.address);
    let mut forwarded = String::with_capacity(80 + host.len());
    write_node(&mut forwarded, client.address);
    let _ = write!(forwarded, ";host=\"{host}\";proto=https");
    let last = (client.address != peer).then_some(peer);
    for hop in client.hops.iter().copied().chain(last) {
        let _ = write!(chain, ", {hop}");
        forwarded.push_str(", ");
        write_node(&mut forwarded, hop);
    }
    set(header::HOST, host.to_owned());
    set(FORWARDED_FOR, chain);
    set(header::FORWARDED, forwarded);
    set(FORWARDED_HOST, host.to_owned());
    if let Some(principal) = permit.principal() {
        set(SUBJECT, principal.subject.clone());
        set(ISSUER, principal.issuer.clone());
        let scopes: Vec<&str> = principal.scopes.iter().map(String::as_str).collect();
        set(SCOPES, scopes.join(" "));
        let proven_by = HeaderValue::from_static(principal.proven_by.as_str());
        headers.insert(PROVEN_BY, proven_by);
    }
}

/// A node of `Forwarded` (RFC 7239, 6): an IPv6 address stands in brackets and quotes.
fn write_node(field: &mut String, address: IpAddr) {
    let _ = match address {
        IpAddr::V4(v4) => write!(field, "for={v4}"),
        IpAddr::V6(v6) => write!(field, "for=\"[{v6}]\""),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleansed(fields: &[(&'static str, &'static str)], token_was_for_us: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(*name, value);
        }
        cleanse(&mut headers, token_was_for_us);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_client_says_of_itself_does_not_travel() {
        let left = cleansed(
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("x_forwarded_for", "1.2.3.4"),
                ("x-forwarded-uri", "/admin"),
                ("x-real-ip", "1.2.3.4"),
                ("forwarded", "for=1.2.3.4"),
                ("x-portcullis-subject", "root"),
                ("x_portcullis_subject", "root"),
                ("x-request-id", "mine"),
                ("authorization", "DPoP x"),
                ("dpop", "x"),
                ("accept", "*/*"),
            ],
            true,
        );
        assert_eq!(left, ["accept"]);
    }

    #[test]
    fn nothing_travels_that_replaces_the_judged_method_or_path() {
        let left = cleansed(
            &[
                ("x-http-method-override", "DELETE"),
                ("x_http_method_override", "DELETE"),
                ("x-original-url", "/admin"),
                ("x-rewrite-url", "/admin"),
            ],
            false,
        );
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        cleanse(&mut headers, false);
        let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn a_public_route_leaves_authorization_to_the_upstream() {
        assert_eq!(
            cleansed(&[("authorization", "DPoP x"), ("dpop", "x")], false),
            ["authorization", "dpop"]
        );
    }

    #[test]
    fn fields_named_by_connection_and_protocol_changes_do_not_travel() {
        let left = cleansed(
            &[
                ("connection", "close, X-Secret"),
                ("x-secret", "1"),
                ("connection", "\u{fc}, X-Other"),
                ("x-other", "1"),
                ("upgrade", "h2c"),
                ("te", "trailers"),
                ("expect", "100-continue"),
                ("keep-alive", "timeout=5"),
                ("x-plain", "1"),
            ],
            true,
        );
        assert_eq!(left, ["x-plain"]);
    }
}
