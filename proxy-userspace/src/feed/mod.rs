//! Reading and writing lists of addresses in the formats that others use. Nothing here touches
//! files or sockets.
//!
//! ```text
//! prefix   an address, a CIDR or a range, and how wide each may be
//! format   the formats' names
//! detect   which format a text is in
//! read     a whole list: thresholds for scores and bad lines
//! lines    formats of one entry a line: plain, IPsum, Spamhaus DROP, ranges
//! json     Spamhaus DROP as JSON lines, arrays and lines of JSON
//! columns  CSV
//! ipset    what `ipset save` prints
//! nft      what `nft list` prints
//! gzip     unpacking, to a bound
//! write    a list in any of the formats
//! ```

mod columns;
mod detect;
mod format;
mod gzip;
#[cfg(test)]
mod hostile;
mod ipset;
mod json;
mod lines;
mod nft;
mod prefix;
mod read;
#[cfg(test)]
mod round_trip;
mod write;

pub(crate) use format::Format;
pub(crate) use gzip::{UnpackError, unpack};
pub(crate) use prefix::{SHORTEST_V4, SHORTEST_V6, canonical, parse_any_prefix, parse_prefix};
pub(crate) use read::{BadLine, FeedError, Reading, read};
pub(crate) use write::write;
