//! What a line of the audit trail says.
//!
//! Field names are stable. Durations are in microseconds and say so in their names, sizes are in
//! bytes of content. Tokens, bodies and queries are never recorded.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Serialize, Serializer};

/// Something that happened or was decided, besides requests. The line's `kind` is the variant in snake case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A connection that ended before it carried a request.
    Connection(ConnectionRecord),
    /// A change of the lists.
    List(ListRecord),
    /// What the kernel counted since the record before.
    Kernel(KernelRecord),
    /// One packet that the kernel dropped: a sample, not every drop.
    Drop(DropRecord),
    /// Start, stop, attachment.
    Lifecycle(LifecycleRecord),
}

/// What was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Sent to the upstream.
    Permit,
    /// Refused.
    #[default]
    Deny,
    /// Answered here: a step of a browser's login, or its logout.
    Login,
}

/// Who was proven to be calling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrincipalRecord {
    /// Configured name of the issuer.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
    /// By what: `token`, and what that is bound to (`dpop`, `certificate`), `certificate`, `api_key` or `session`.
    pub proven_by: &'static str,
    /// The token's `jti`, or the session's id, by which it can be told from others of the same subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The id of the key that verified it, or of the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// Names a decision to the client, the upstream (`x-request-id`) and the audit trail: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionId(pub u128);

impl DecisionId {
    /// Its digits.
    pub fn digits(self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (at, digit) in digits.iter_mut().enumerate() {
            let nibble = (self.0 >> (124 - 4 * at)) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        digits
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl Serialize for DecisionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "request")]
pub struct RequestRecord {
    /// Names the decision.
    pub decision_id: DecisionId,
    /// The trace that it is part of (W3C Trace Context).
    #[serde(serialize_with = "trace_id")]
    pub trace_id: u128,
    /// What the proxy does in that trace; the upstream is told it as its parent.
    #[serde(serialize_with = "span_id")]
    pub span_id: u64,
    /// Source address and port.
    pub peer: SocketAddr,
    /// Who asked, as a trusted hop says; `None` where it was the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// TLS version, such as `TLSv1_3`.
    pub tls: &'static str,
    /// SHA-256 of the certificate that the client showed, where it was asked for one and that was good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// Method as sent.
    pub method: String,
    /// Canonical host; `None` when the request had no canonical form.
    pub host: Option<String>,
    /// Canonical path; `None` when the request had no canonical form.
    pub path: Option<String>,
    /// Name of the route.
    pub route: Option<String>,
    /// Who called, where that was proven.
    pub principal: Option<PrincipalRecord>,
    /// The decision.
    pub verdict: Verdict,
    /// Why, in one stable word.
    pub reason: Cow<'static, str>,
    /// What exactly was wrong, where that word stands for several; never what the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'static, str>>,
    /// Status sent to the client.
    pub status: u16,
    /// `grpc-status` of a gRPC call, where its service or the proxy said one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// Whether the answer was sent whole.
    pub complete: bool,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were sent.
    pub response_bytes: u64,
    /// From the request's head to the decision.
    pub decision_us: u64,
    /// From the decision to the upstream's head; `None` when nothing was sent upstream.
    pub upstream_us: Option<u64>,
    /// From the request's head to the end of the answer.
    pub total_us: u64,
}

// Serde passes fields by reference.
fn trace_id<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{id:032x}"))
}

fn span_id<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{id:016x}"))
}

/// One connection that carries bytes and no requests, or was to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "tunnel")]
pub struct TunnelRecord {
    /// Names the decision.
    pub decision_id: DecisionId,
    /// Source address and port.
    pub peer: SocketAddr,
    /// Where it was accepted.
    pub listener: SocketAddr,
    /// `tls` where TLS ends here, `passthrough` where it goes through.
    pub carried: &'static str,
    /// TLS version, such as `TLSv1_3`, where TLS ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<&'static str>,
    /// SHA-256 of the certificate that the client showed, where it was asked for one and that was good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// The name that the client asked for, in canonical form.
    pub server_name: Option<String>,
    /// Name of the route.
    pub route: Option<String>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// Where the upstream was connected to.
    pub endpoint: Option<SocketAddr>,
    /// The decision.
    pub verdict: Verdict,
    /// Why, in one stable word.
    pub reason: Cow<'static, str>,
    /// What a library or the system said about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How what was carried ended, in one stable word; `None` when nothing was.
    pub ended: Option<Cow<'static, str>>,
    /// Bytes that came from the client.
    pub client_bytes: u64,
    /// Bytes that went to the client.
    pub upstream_bytes: u64,
    /// From the accepted connection to the decision, with the handshake or the `ClientHello`.
    pub decision_us: u64,
    /// From the decision to the upstream's connection; `None` when there was none.
    pub upstream_us: Option<u64>,
    /// From the accepted connection to its end.
    pub total_us: u64,
}

/// What is recorded when it has ended, and may be written together with others that end in one go.
pub trait Ended: Serialize {}

impl Ended for RequestRecord {}

impl Ended for TunnelRecord {}

/// A connection that carried no request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionRecord {
    /// Source address and port.
    pub peer: String,
    /// Always [`Verdict::Deny`].
    pub verdict: Verdict,
    /// Why, in one stable word.
    pub reason: String,
    /// What the TLS or HTTP library said.
    pub detail: Option<String>,
}

/// A change of the lists, and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListRecord {
    /// `add`, `remove`, `import` or `expire`.
    pub action: String,
    /// Name of the list.
    pub list: String,
    /// The prefix; `None` for an import.
    pub prefix: Option<String>,
    /// Entries that came out different.
    pub changed: usize,
    /// When the entry ends (RFC 3339); `None` for good.
    pub until: Option<String>,
    /// The operator's words.
    pub reason: Option<String>,
    /// User id of the operator's process; `None` when the daemon acted by itself.
    pub by_uid: Option<u32>,
    /// Its process id.
    pub by_pid: Option<i32>,
}

/// Packets and bytes of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonRecord {
    /// The kernel's reason, such as `blocked`.
    pub reason: String,
    /// Whether it means a drop.
    pub dropped: bool,
    /// Whether it would mean a drop, were its list or limit enforced.
    pub monitored: bool,
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// What the kernel counted since the record before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelRecord {
    /// The reasons that counted anything.
    pub counts: Vec<ReasonRecord>,
}

/// One dropped packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropRecord {
    /// Its source, where that could be read.
    pub source: Option<String>,
    /// The kernel's reason.
    pub reason: String,
    /// Its list or limit only watches: the packet passed.
    pub monitored: bool,
    /// Lists that hold the source, as they stand now.
    pub lists: Vec<String>,
    /// Index of the interface.
    pub ifindex: u32,
    /// Length of the frame.
    pub bytes: u32,
}

/// A step in the daemon's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LifecycleRecord {
    /// `start`, `attach`, `adopt`, `release`, `without_kernel`, `drain` or `stop`.
    pub step: String,
    /// What about it.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_all_its_digits() {
        for id in [0, 1, 0x0123_4567_89ab_cdef << 60, u128::MAX - 1] {
            let digits = DecisionId(id).digits();
            assert_eq!(digits, *format!("{id:032x}").as_bytes());
        }
    }
}
