//! What the kernel and userspace halves of Portcullis must agree on.
//!
//! Everything here is `no_std`, allocates nothing and touches no clock, so that the same code
//! runs in the XDP program, in the daemon and under host tests: the packet parser, the verdicts
//! and their reasons, the layout of every map, the rate limiter's arithmetic and the hash that
//! picks its buckets.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod bucket;
pub mod cell;
pub mod exemption;
pub mod gcra;
pub mod limit;
pub mod packet;
pub mod table;
pub mod upper;
pub mod verdict;

pub use abi::{
    ABI_VERSION, Counter, DropSample, KeyLengths, Sampling, Scope, Settings, TraceTarget,
};
pub use cell::{Cell, Listing};
pub use gcra::Gcra;
pub use limit::{Limit, LimitSetting, Mode, Room};
pub use packet::{Bytes, Judgement, Packet, Source};
pub use upper::{Transport, Upper};
pub use verdict::Reason;
