//! SipHash-1-3 of one 64-bit word: the keyed hash that picks a source's rate buckets.
//!
//! The key is a secret drawn when the program is first loaded, so a flood can't aim spoofed
//! sources at somebody else's bucket. Aumasson and Bernstein, "SipHash: a fast short-input PRF",
//! 2012; the 1-3 variant is the one std's `HashMap` uses.

/// SipHash-1-3 of the eight little-endian bytes of `word` under `key`.
#[inline(always)]
pub const fn siphash13(key: [u64; 2], word: u64) -> u64 {
    let state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The message block, then the final block, which holds only the length (8) in its top byte.
    let state = compress(state, word);
    let mut state = compress(state, 8 << 56);
    state[2] ^= 0xff;
    let state = round(round(round(state)));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline(always)]
const fn compress(mut state: [u64; 4], block: u64) -> [u64; 4] {
    state[3] ^= block;
    let mut state = round(state);
    state[0] ^= block;
    state
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher as _};

    use super::siphash13;

    /// std's `DefaultHasher` is SipHash-1-3 under the zero key: an independent implementation.
    #[test]
    fn agrees_with_std_under_the_zero_key() {
        for seed in 0..10_000_u64 {
            let word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut std_hasher = DefaultHasher::new();
            std_hasher.write(&word.to_le_bytes());
            assert_eq!(siphash13([0, 0], word), std_hasher.finish(), "{word:#x}");
        }
    }

    #[test]
    fn another_key_gives_another_hash() {
        let words = 0..1_000_u64;
        let same = words
            .filter(|&word| siphash13([1, 2], word) == siphash13([1, 3], word))
            .count();
        assert_eq!(same, 0);
    }
}
