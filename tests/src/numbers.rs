//! Numbers that are the same in every run of a seed.

/// xorshift64 (Marsaglia, 2003).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Those of a seed; 0 has those of 1, for it would be nothing but zeros.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next one below a bound, which isn't 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A place in something of this length, which isn't 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}
