//! A request in the form that each version of HTTP has.

use http::{HeaderValue, Request, Uri, Version, header, uri::Scheme};

/// The form that HTTP/1.1 has: the path as target, the host in its field (RFC 9112, 3.2.1).
pub(super) fn as_http1<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    // There it is a field about the connection (RFC 9110, 10.1.4).
    request.headers_mut().remove(header::TE);
    let Some(authority) = request.uri().authority() else {
        return;
    };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(header::HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
}

/// The form that HTTP/2 has: the host in `:authority`, and no field of that name (RFC 9113, 8.3.1).
pub(super) fn as_http2<B>(request: &mut Request<B>, encrypted: bool) {
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(header::HOST) else {
        return;
    };
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(if encrypted {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    });
    parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
