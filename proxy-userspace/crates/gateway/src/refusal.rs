//! Every way to say no. The client gets a status and the decision id; the reason stays here.

mod challenge;

use std::borrow::Cow;

use audit::DecisionId;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use policy::{Denial, NoRoute, RequestFault, WireFault};

pub(crate) use challenge::Realm;

use crate::{
    api_key::ApiKeyFault,
    certificate_identity::CertificateFault,
    client_certificates::ClientRuleFault,
    flow::BodyFault,
    gateway::SourceRefusal,
    login::{LoginFault, StepFault},
    tenure::Over,
    token::TokenFault,
    upstream::UpstreamFault,
    websocket::WebSocketFault,
};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("audit_unavailable")]
    AuditUnavailable,
    #[error(transparent)]
    Source(#[from] SourceRefusal),
    #[error(transparent)]
    Request(#[from] RequestFault),
    /// The certificate that the client was shown isn't good for the host it asks for.
    #[error("host_not_certified")]
    Misdirected,
    /// What is asked of clients there isn't met by the connection.
    #[error(transparent)]
    ClientRule(#[from] ClientRuleFault),
    #[error(transparent)]
    NoRoute(NoRoute),
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// The certificate that was shown is good, and nobody's.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// Of a browser's login, or of the session that it began.
    #[error(transparent)]
    Login(#[from] LoginFault),
    #[error(transparent)]
    ApiKey(#[from] ApiKeyFault),
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error(transparent)]
    WebSocket(#[from] WebSocketFault),
    /// Of the body, while it went up.
    #[error(transparent)]
    Body(#[from] BodyFault),
    #[error(transparent)]
    Upstream(#[from] UpstreamFault),
}

/// What the answer to a request that was refused has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// For all of it.
    Whole,
    /// With HEAD: over HTTP/2 hyper would send the body all the same, and clients take that for a broken
    /// stream (RFC 9110, 9.3.2).
    Head,
    /// As a gRPC call: its client looks for the status of the call, and sees an HTTP status as a broken
    /// connection to the service.
    Grpc,
}

impl From<NoRoute> for Refusal {
    fn from(why: NoRoute) -> Self {
        match why {
            // The same refusal, whether or not a route could have allowed it.
            NoRoute::Path(fault) => Self::Request(fault.into()),
            other => Self::NoRoute(other),
        }
    }
}

impl From<Over> for Refusal {
    fn from(why: Over) -> Self {
        match why {
            Over::Token(fault) => fault.into(),
            Over::Session(fault) => fault.into(),
            Over::ApiKey(fault) => fault.into(),
        }
    }
}

impl From<StepFault> for Refusal {
    fn from(why: StepFault) -> Self {
        match why {
            StepFault::Login(fault) => fault.into(),
            StepFault::Method(fault) => fault.into(),
        }
    }
}

impl Refusal {
    /// Whether whoever asks is nobody so far, and may become somebody by a login.
    pub(crate) fn may_log_in(&self) -> bool {
        match self {
            Self::Denied(Denial::NoPrincipal) => true,
            Self::Login(fault) => fault.is_of_session(),
            _ => false,
        }
    }

    /// A stable name for logs, metrics and audit records.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Request(fault) => fault.name(),
            other => other.to_string(),
        }
    }

    /// What exactly was wrong, for the audit record, where the name says it for several.
    pub(crate) fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Token(fault) => fault.detail(),
            Self::Login(fault) => fault.detail(),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Source(_)
            | Self::Certificate(_)
            | Self::Denied(Denial::Issuer | Denial::Scope) => StatusCode::FORBIDDEN,
            Self::Token(fault) if fault.is_ours() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Login(fault) => fault.status(),
            Self::Request(RequestFault::Method) | Self::NoRoute(NoRoute::Method) => {
                StatusCode::METHOD_NOT_ALLOWED
            }
            Self::Request(RequestFault::Wire(
                WireFault::HeadTooLong | WireFault::TooManyFields,
            )) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Request(_) | Self::WebSocket(_) => StatusCode::BAD_REQUEST,
            Self::Misdirected | Self::ClientRule(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute(NoRoute::Unknown) => StatusCode::NOT_FOUND,
            Self::NoRoute(NoRoute::Path(_)) => StatusCode::BAD_REQUEST,
            Self::Token(_)
            | Self::ApiKey(_)
            | Self::Denied(
                Denial::NoPrincipal | Denial::NoCertificate | Denial::NoApiKey | Denial::Unbound,
            ) => StatusCode::UNAUTHORIZED,
            Self::Body(BodyFault::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyFault::Broken) => StatusCode::BAD_REQUEST,
            Self::Body(BodyFault::Over) => StatusCode::UNAUTHORIZED,
            Self::Upstream(UpstreamFault::Timeout) => StatusCode::GATEWAY_TIMEOUT,
            Self::Body(BodyFault::Stalled) | Self::Upstream(UpstreamFault::ClientStalled) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::Upstream(UpstreamFault::Overloaded | UpstreamFault::Unhealthy) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether no other request over the same connection would be served.
    pub(crate) fn is_of_connection(&self) -> bool {
        matches!(self, Self::ClientRule(ClientRuleFault::Outdated))
    }

    /// Whether the client is to be given a nonce for its next proof (RFC 9449, 9).
    pub(crate) fn asks_for_nonce(&self) -> bool {
        matches!(self, Self::Token(TokenFault::Proof(fault)) if fault.asks_for_nonce())
    }

    /// Whether the connection can't be trusted to be in step any more.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::Request(_)
                | Self::WebSocket(_)
                | Self::Body(_)
                | Self::Upstream(UpstreamFault::ClientStalled)
        )
    }

    /// The status of a gRPC call that was refused (google.rpc.Code).
    pub(crate) fn grpc_status(&self) -> u32 {
        match self.status() {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => 4,
            StatusCode::FORBIDDEN => 7,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 8,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
            StatusCode::UNAUTHORIZED => 16,
            // It may be otherwise the next time.
            _ => 14,
        }
    }

    /// gRPC over HTTP/2, "Trailers-Only": the whole answer is one head.
    fn grpc_response(&self, id: &DecisionId) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert("grpc-status", HeaderValue::from(self.grpc_status()));
        let phrase = self.status().canonical_reason().unwrap_or("refused");
        if let Ok(message) = HeaderValue::try_from(format!("{phrase}; decision {id}")) {
            headers.insert("grpc-message", message);
        }
        response
    }

    /// The answer to a request that was refused.
    pub(crate) fn response(
        &self,
        id: &DecisionId,
        asked: Asked,
        realm: &Realm<'_>,
    ) -> Response<Full<Bytes>> {
        if asked == Asked::Grpc {
            return self.grpc_response(id);
        }
        let head_only = asked == Asked::Head;
        let status = self.status();
        let phrase = status.canonical_reason().unwrap_or("refused");
        let text = format!("{} {phrase}\ndecision {id}\n", status.as_u16());
        let length = HeaderValue::from(text.len());
        let body = if head_only { String::new() } else { text };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        for challenge in self.challenges(realm) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{introspection::IntrospectionFault, token::ProofFault, uses::UseFault};
    use policy::PathFault;

    #[test]
    fn each_refusal_has_its_status_and_its_name() {
        for (refusal, status, reason) in [
            (Refusal::AuditUnavailable, 503, "audit_unavailable"),
            (SourceRefusal::Blocked.into(), 403, "source_blocked"),
            (SourceRefusal::Banned.into(), 403, "source_banned"),
            (
                RequestFault::from(PathFault::DotSegment).into(),
                400,
                "path_dot_segment",
            ),
            (RequestFault::Method.into(), 405, "method_refused"),
            (Refusal::Misdirected, 421, "host_not_certified"),
            (NoRoute::Unknown.into(), 404, "no_route"),
            (NoRoute::Method.into(), 405, "method_not_routed"),
            (Denial::NoPrincipal.into(), 401, "token_missing"),
            (TokenFault::Expired.into(), 401, "token_expired"),
            (Denial::Scope.into(), 403, "scope_missing"),
            (Denial::Issuer.into(), 403, "issuer_not_accepted"),
            (Denial::NoCertificate.into(), 401, "certificate_missing"),
            (Denial::Unbound.into(), 401, "token_unbound"),
            (Denial::NoApiKey.into(), 401, "api_key_missing"),
            (TokenFault::Inactive.into(), 401, "token_inactive"),
            (
                TokenFault::from(IntrospectionFault::Failed).into(),
                503,
                "token_introspection_failed",
            ),
            (
                TokenFault::from(IntrospectionFault::Refused).into(),
                401,
                "token_introspection_refused",
            ),
            (ApiKeyFault::Wrong.into(), 401, "api_key_wrong"),
            (
                TokenFault::from(ProofFault::Replayed).into(),
                401,
                "dpop_proof_replayed",
            ),
            (
                TokenFault::from(ProofFault::Full).into(),
                503,
                "dpop_replay_set_full",
            ),
            (TokenFault::from(UseFault::Again).into(), 401, "token_used"),
            (
                TokenFault::from(UseFault::Failing).into(),
                503,
                "token_uses_failing",
            ),
            (
                CertificateFault::Several.into(),
                403,
                "certificate_subject_ambiguous",
            ),
            (UpstreamFault::Timeout.into(), 504, "upstream_timeout"),
            (UpstreamFault::Unhealthy.into(), 503, "upstream_unhealthy"),
            (UpstreamFault::Overloaded.into(), 503, "upstream_overloaded"),
            (UpstreamFault::Unresolved.into(), 502, "upstream_unresolved"),
            (
                UpstreamFault::ClientStalled.into(),
                408,
                "request_body_timeout",
            ),
            (BodyFault::TooLarge.into(), 413, "request_body_too_large"),
            (
                UpstreamFault::NotConfigured.into(),
                502,
                "upstream_not_configured",
            ),
        ] {
            assert_eq!(refusal.status().as_u16(), status, "{refusal:?}");
            assert_eq!(refusal.reason(), reason, "{refusal:?}");
        }
    }
}
