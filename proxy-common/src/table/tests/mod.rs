//! Tables in plain memory, without a kernel.

mod codes;
mod order;
mod torn;
mod v4;
mod v6;

use super::{Header, lay_out};
use crate::{abi::Line, cell::Cell};

/// What lies behind the words that a test asks of: zeroes.
fn zeroes(lines: u32) -> Vec<Line> {
    vec![Line([0; 8]); lines as usize]
}

/// A table of so many buckets, a power of two.
fn table(lines: u32, buckets: u32, seed: u64) -> Vec<Line> {
    let mut memory = zeroes(lines);
    let header = Header {
        bucket_mask: u64::from(buckets) - 1,
        seed,
    };
    lay_out(&mut memory.as_mut_slice(), header);
    memory
}

/// Numbers that are the same on every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        let mut half = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 32
        };
        half() << 32 | half()
    }
}

/// A cell that can be told from its neighbours.
fn cell(number: u64) -> Cell {
    Cell::blocked(number + 1)
}
