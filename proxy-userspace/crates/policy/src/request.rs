//! The canonical request: the one object from which routing, policy, audit and the bytes sent
//! upstream all derive.

use http::{HeaderMap, HeaderValue, Method, Version, header, request::Parts};

use crate::{
    host::{CanonicalHost, HostFault},
    path::{PathFault, RequestPath},
    wire::{self, WireFault},
};

/// Longest query in bytes.
const LONGEST_QUERY: usize = 8 * 1024;

/// A request that can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalRequest {
    method: Method,
    host: CanonicalHost,
    port: Option<u16>,
    path: RequestPath,
    query: Option<String>,
}

/// Why a request has no canonical form. The name in logs and audit is [`RequestFault::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// See [`PathFault`].
    #[error(transparent)]
    Path(#[from] PathFault),
    /// See [`HostFault`].
    #[error("host_invalid: {0}")]
    Host(#[from] HostFault),
    /// No `Host` and no `:authority` (RFC 9112, 3.2).
    #[error("host_missing")]
    HostMissing,
    /// More than one `Host` field line.
    #[error("host_repeated")]
    HostRepeated,
    /// `Host` and the request target's authority name different hosts.
    #[error("host_conflict")]
    HostConflict,
    /// The request target has another scheme than `https` (RFC 9110, 7.4) and `http`, which intermediaries
    /// before us leave in place.
    #[error("scheme_refused")]
    Scheme,
    /// The authority carries user information (RFC 9110, 4.2.4).
    #[error("userinfo_in_authority")]
    UserInfo,
    /// CONNECT, TRACE, or a method that isn't in upper case.
    #[error("method_refused")]
    Method,
    /// A query longer than the bound, or with a character that doesn't belong there.
    #[error("query_invalid")]
    Query,
    /// See [`WireFault`].
    #[error(transparent)]
    Wire(#[from] WireFault),
}

impl RequestFault {
    /// A stable name for logs, metrics and audit records.
    pub fn name(self) -> String {
        match self {
            Self::Host(_) => "host_invalid".to_owned(),
            other => other.to_string(),
        }
    }
}

impl CanonicalRequest {
    /// Reads a parsed HTTP message head.
    ///
    /// # Errors
    /// See [`RequestFault`].
    pub fn from_parts(parts: &Parts) -> Result<Self, RequestFault> {
        check_framing(parts.version, &parts.headers)?;
        if parts.version >= Version::HTTP_2 {
            // Of HTTP/1.1 it was judged on the wire.
            wire::check_fields(&parts.headers)?;
        }
        let is_web = |scheme: &str| {
            let known = ["https", "http"];
            known.iter().any(|known| scheme.eq_ignore_ascii_case(known))
        };
        if !parts.uri.scheme_str().is_none_or(is_web) {
            return Err(RequestFault::Scheme);
        }
        let method = &parts.method;
        let upper_case = !method
            .as_str()
            .bytes()
            .any(|byte| byte.is_ascii_lowercase());
        if *method == Method::CONNECT || *method == Method::TRACE || !upper_case {
            return Err(RequestFault::Method);
        }
        let query = parts.uri.query().map(str::to_owned);
        let fits = |query: &str| {
            query.len() <= LONGEST_QUERY && query.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !query.as_deref().is_none_or(fits) {
            return Err(RequestFault::Query);
        }
        let (host, port) = authority_of(parts)?;
        Ok(Self {
            method: method.clone(),
            host,
            port,
            path: RequestPath::read(parts.uri.path())?,
            query,
        })
    }

    /// The method, in upper case.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The host.
    pub fn host(&self) -> &CanonicalHost {
        &self.host
    }

    /// The port that the client named beside the host; never part of routing.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path.
    pub fn path(&self) -> &RequestPath {
        &self.path
    }

    /// The query as it came, without the question mark; never part of routing.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The request target for the upstream (RFC 9112, 3.2.1): exactly the path that was judged.
    pub fn origin_form(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }
}

fn authority_of(parts: &Parts) -> Result<(CanonicalHost, Option<u16>), RequestFault> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(RequestFault::HostRepeated);
    }
    let from_field = field
        .map(|value| {
            let value = value.to_str().map_err(|_| HostFault::Name)?;
            if value.contains('@') {
                return Err(RequestFault::UserInfo);
            }
            Ok(CanonicalHost::parse_authority(value)?)
        })
        .transpose()?;
    let from_target = parts
        .uri
        .authority()
        .map(|authority| {
            if authority.as_str().contains('@') {
                return Err(RequestFault::UserInfo);
            }
            Ok(CanonicalHost::parse_authority(authority.as_str())?)
        })
        .transpose()?;
    match (from_field, from_target) {
        (Some((field, _)), Some((target, _))) if field != target => Err(RequestFault::HostConflict),
        (None, Some(_)) if parts.version < Version::HTTP_2 => Err(RequestFault::HostMissing),
        // The target counts (RFC 9112, 3.2.2; RFC 9113, 8.3.1).
        (_, Some(authority)) | (Some(authority), None) => Ok(authority),
        (None, None) => Err(RequestFault::HostMissing),
    }
}

fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), WireFault> {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let (lengths, encodings) = (
        values(header::CONTENT_LENGTH),
        values(header::TRANSFER_ENCODING),
    );
    wire::framing(lengths, encodings, version == Version::HTTP_11).map(drop)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(target: &str, fields: &[(&str, &str)]) -> Result<CanonicalRequest, RequestFault> {
        versioned(Version::HTTP_11, Method::GET, target, fields)
    }

    fn versioned(
        version: Version,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<CanonicalRequest, RequestFault> {
        let mut builder = Request::builder()
            .version(version)
            .method(method)
            .uri(target);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).expect("a legal message").into_parts();
        CanonicalRequest::from_parts(&parts)
    }

    #[test]
    fn the_upstream_gets_the_judged_path_and_the_query_as_it_came() {
        let request =
            request("/%61/b?q=%2e%2e//&q", &[("host", "A.example:8443")]).expect("one reading");
        assert_eq!(request.host().as_str(), "a.example");
        assert_eq!(request.path().as_str(), "/a/b");
        assert_eq!(request.origin_form(), "/a/b?q=%2e%2e//&q");
    }

    #[test]
    fn refuses_a_request_without_exactly_one_host() {
        assert_eq!(request("/", &[]), Err(RequestFault::HostMissing));
        let twice = [("host", "a.example"), ("host", "a.example")];
        assert_eq!(request("/", &twice), Err(RequestFault::HostRepeated));
        assert_eq!(
            request("https://a.example/", &[("host", "b.example")]),
            Err(RequestFault::HostConflict)
        );
        assert_eq!(
            request("/", &[("host", "a.example, b.example")]),
            Err(RequestFault::Host(HostFault::Name))
        );
        assert_eq!(
            request("/", &[("host", "u@a.example")]),
            Err(RequestFault::UserInfo)
        );
    }

    #[test]
    fn http2_may_leave_the_host_field_out_and_must_not_contradict_the_authority() {
        let http2 = |fields: &[(&str, &str)]| {
            versioned(Version::HTTP_2, Method::GET, "https://a.example/x", fields)
        };
        assert!(http2(&[]).is_ok());
        assert!(http2(&[("host", "A.EXAMPLE.")]).is_ok());
        assert_eq!(
            http2(&[("host", "b.example")]),
            Err(RequestFault::HostConflict)
        );
    }

    #[test]
    fn refuses_schemes_that_are_not_of_the_web() {
        for scheme in ["ftp", "file", "coap+tcp"] {
            let target = format!("{scheme}://a.example/x");
            let told = versioned(Version::HTTP_2, Method::GET, &target, &[]);
            assert_eq!(told, Err(RequestFault::Scheme), "{scheme}");
        }
        for scheme in ["https", "http", "HTTPS"] {
            let target = format!("{scheme}://a.example/x");
            let told = versioned(Version::HTTP_2, Method::GET, &target, &[]);
            assert!(told.is_ok(), "{scheme}");
        }
    }

    #[test]
    fn fields_of_http2_are_as_many_and_as_plain_as_those_of_http1() {
        let http2 = |fields: &[(&str, &str)]| {
            let target = "https://a.example/x";
            versioned(Version::HTTP_2, Method::GET, target, fields).map(drop)
        };
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let fault = Err(RequestFault::Wire(WireFault::FieldValue));
            assert_eq!(
                http2(&[("x-a", "fine"), ("x-a", value)]),
                fault,
                "{value:?}"
            );
        }
        assert_eq!(http2(&[("x-a", ""), ("x-b", "a b\tc")]), Ok(()));
        assert_eq!(http2(&[("cookie", "a=1"); 100]), Ok(()));
        let fault = Err(RequestFault::Wire(WireFault::TooManyFields));
        assert_eq!(http2(&[("cookie", "a=1"); 101]), fault);
    }

    #[test]
    fn refuses_ambiguous_framing() {
        let framed = |fields: &[(&str, &str)]| {
            let mut all = vec![("host", "a.example")];
            all.extend(fields);
            request("/", &all)
        };
        assert_eq!(
            framed(&[("content-length", "5"), ("transfer-encoding", "chunked")]),
            Err(RequestFault::Wire(WireFault::LengthAndTransferEncoding))
        );
        for lengths in [
            vec!["5", "5"],
            vec!["5, 5"],
            vec!["+5"],
            vec!["0x5"],
            vec![""],
            vec!["-1"],
        ] {
            let fields: Vec<_> = lengths
                .iter()
                .map(|value| ("content-length", *value))
                .collect();
            assert_eq!(
                framed(&fields),
                Err(RequestFault::Wire(WireFault::ContentLength)),
                "{lengths:?}"
            );
        }
        for value in [",chunked", "xchunked", "gzip, chunked", "identity"] {
            assert_eq!(
                framed(&[("transfer-encoding", value)]),
                Err(RequestFault::Wire(WireFault::TransferEncoding)),
                "{value}"
            );
        }
        assert_eq!(
            versioned(
                Version::HTTP_10,
                Method::POST,
                "/",
                &[("host", "a.example"), ("transfer-encoding", "chunked")]
            ),
            Err(RequestFault::Wire(WireFault::TransferEncoding))
        );
    }

    #[test]
    fn refuses_methods_that_are_never_routed() {
        let method = |name: &str| {
            let method = Method::from_bytes(name.as_bytes()).expect("a token");
            versioned(Version::HTTP_11, method, "/", &[("host", "a.example")])
        };
        for name in ["CONNECT", "TRACE", "get", "Post"] {
            assert_eq!(method(name), Err(RequestFault::Method), "{name}");
        }
        assert!(method("PROPFIND").is_ok());
    }
}
