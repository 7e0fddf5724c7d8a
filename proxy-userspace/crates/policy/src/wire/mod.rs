//! HTTP/1.1 as it may stand on the wire (RFC 9112), judged before the HTTP library reads it. The library
//! is lenient where the RFC lets it: it ends lines at a bare LF, drops one of two equal lengths and
//! prefers `chunked` to a length. Each of these is read otherwise by somebody else, which is what request
//! smuggling lives on, so here each is refused by name.
//!
//! ```text
//! follow  from request to request: where each ends
//! head    one request head
//! chunks  a chunked body
//! ```

mod chunks;
mod follow;
mod head;

pub use follow::{Follower, WireBounds};
pub(crate) use head::{check_fields, framing};

/// Why bytes are no request that has one reading. Its text is the name in logs, metrics and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// A line that ends in LF without CR (RFC 9112, 2.2).
    #[error("bare_lf")]
    BareLf,
    /// A CR without LF.
    #[error("bare_cr")]
    BareCr,
    /// An empty line before the request line.
    #[error("empty_line_before_request")]
    EmptyLine,
    /// A request line that isn't a method, a target and a version with one space between (RFC 9112, 3).
    #[error("request_line_invalid")]
    RequestLine,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    #[error("version_refused")]
    Version,
    /// A field line without a colon, or whose name is no token (RFC 9110, 5.6.2).
    #[error("field_name_invalid")]
    FieldName,
    /// White space between a field's name and the colon (RFC 9112, 5.1).
    #[error("space_before_colon")]
    SpaceBeforeColon,
    /// A field line that goes on on the next (RFC 9112, 5.2).
    #[error("folded_field")]
    Folded,
    /// White space at an end of a field's value, where HTTP/2 has none (RFC 9113, 8.2.1).
    #[error("field_value_invalid")]
    FieldValue,
    /// NUL or another control character in a field's value (RFC 9110, 5.5).
    #[error("control_in_field")]
    Control,
    /// A head above the listener's bound.
    #[error("head_too_long")]
    HeadTooLong,
    /// More than 100 fields.
    #[error("too_many_fields")]
    TooManyFields,
    /// More than one `Content-Length`, or one that is no plain decimal number.
    #[error("content_length_invalid")]
    ContentLength,
    /// A `Transfer-Encoding` other than exactly `chunked`, or in a version without it.
    #[error("transfer_encoding_invalid")]
    TransferEncoding,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112, 6.1: request smuggling).
    #[error("length_and_transfer_encoding")]
    LengthAndTransferEncoding,
    /// A chunk whose size is no plain hexadecimal number, or above what is ever sent.
    #[error("chunk_size_invalid")]
    ChunkSize,
    /// Bytes of a chunk that aren't followed by CRLF.
    #[error("chunk_end_missing")]
    ChunkEnd,
    /// Chunk extensions of a body, all together above the bound, or with a character that has no place
    /// there.
    #[error("chunk_extension_refused")]
    ChunkExtension,
    /// Trailers above the bound, or that break the grammar of fields.
    #[error("trailer_invalid")]
    Trailer,
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110, 5.5: what may stand in a field's value.
fn is_field_content(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
