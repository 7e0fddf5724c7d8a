//! Header blocks as nghttp2, and so h2load, writes them: names and values that come again are
//! indexed, the path isn't, a token never is, and strings are packed (RFC 7541).

use portcullis_tests::scene::HOST;

/// The requests of one connection as header blocks.
pub(crate) struct Blocks {
    /// The first one, which puts what comes again into the dynamic table.
    pub(crate) first: Vec<u8>,
    /// All others, by token.
    pub(crate) others: Vec<Vec<u8>>,
}

impl Blocks {
    /// GETs of this path with these tokens.
    pub(crate) fn new(path: &str, tokens: &[String]) -> Self {
        Self {
            first: block(path, &tokens[0], true),
            others: tokens
                .iter()
                .map(|token| block(path, token, false))
                .collect(),
        }
    }
}

fn block(path: &str, token: &str, first: bool) -> Vec<u8> {
    // Static table: 2 is :method GET, 7 is :scheme https, 4 names :path.
    let mut block = vec![0x80 | 2, 0x80 | 7, 4];
    push_string(&mut block, path);
    if first {
        // Into the dynamic table: 1 names :authority, 58 user-agent.
        block.push(0x40 | 1);
        push_string(&mut block, HOST);
        block.push(0x40 | 58);
        push_string(&mut block, "bench-proxy");
    } else {
        // The last one added is 62.
        block.extend([0x80 | 63, 0x80 | 62]);
    }
    // Never indexed, with the name of 23, authorization: 15, and 8 more.
    block.extend([0x10 | 15, 8]);
    push_string(&mut block, &format!("Bearer {token}"));
    block
}

/// Whether a block of an answer begins with :status 200, behind changes of the table's size.
pub(crate) fn says_200(block: &[u8]) -> bool {
    let behind = block.iter().find(|byte| **byte & 0xe0 != 0x20);
    behind == Some(&(0x80 | 8))
}

/// A string literal, packed.
fn push_string(block: &mut Vec<u8>, text: &str) {
    let mut packed = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u64, 0);
    for byte in text.bytes() {
        let (code, length) = CODES[usize::from(byte) - 0x20];
        bits = bits << length | u64::from(code);
        held += length;
        while held >= 8 {
            held -= 8;
            packed.push((bits >> held) as u8);
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        // Filled up with the beginning of a code that is all ones.
        packed.push((bits << (8 - held)) as u8 | 0xff >> held);
    }
    push_length(block, packed.len());
    block.extend(packed);
}

/// An integer of seven bits or more, marked as the length of a packed string.
fn push_length(block: &mut Vec<u8>, length: usize) {
    const PACKED: u8 = 0x80;
    if length < 127 {
        block.push(PACKED | length as u8);
        return;
    }
    block.push(PACKED | 127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(0x80 | (rest % 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Codes of the printable characters and their lengths in bits (RFC 7541, appendix B).
#[rustfmt::skip]
const CODES: [(u32, u32); 95] = [
    (0x14, 6), (0x3f8, 10), (0x3f9, 10), (0xffa, 12), (0x1ff9, 13), (0x15, 6), (0xf8, 8),
    (0x7fa, 11), (0x3fa, 10), (0x3fb, 10), (0xf9, 8), (0x7fb, 11), (0xfa, 8), (0x16, 6),
    (0x17, 6), (0x18, 6), (0x0, 5), (0x1, 5), (0x2, 5), (0x19, 6), (0x1a, 6), (0x1b, 6),
    (0x1c, 6), (0x1d, 6), (0x1e, 6), (0x1f, 6), (0x5c, 7), (0xfb, 8), (0x7ffc, 15), (0x20, 6),
    (0xffb, 12), (0x3fc, 10), (0x1ffa, 13), (0x21, 6), (0x5d, 7), (0x5e, 7), (0x5f, 7), (0x60, 7),
    (0x61, 7), (0x62, 7), (0x63, 7), (0x64, 7), (0x65, 7), (0x66, 7), (0x67, 7), (0x68, 7),
    (0x69, 7), (0x6a, 7), (0x6b, 7), (0x6c, 7), (0x6d, 7), (0x6e, 7), (0x6f, 7), (0x70, 7),
    (0x71, 7), (0x72, 7), (0xfc, 8), (0x73, 7), (0xfd, 8), (0x1ffb, 13), (0x7fff0, 19),
    (0x1ffc, 13), (0x3ffc, 14), (0x22, 6), (0x7ffd, 15), (0x3, 5), (0x23, 6), (0x4, 5), (0x24, 6),
    (0x5, 5), (0x25, 6), (0x26, 6), (0x27, 6), (0x6, 5), (0x74, 7), (0x75, 7), (0x28, 6),
    (0x29, 6), (0x2a, 6), (0x7, 5), (0x2b, 6), (0x76, 7), (0x2c, 6), (0x8, 5), (0x9, 5),
    (0x2d, 6), (0x77, 7), (0x78, 7), (0x79, 7), (0x7a, 7), (0x7b, 7), (0x7ffe, 15), (0x7fc, 11),
    (0x3ffd, 14), (0x1ffd, 13),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_as_the_examples_of_the_rfc() {
        let mut block = Vec::new();
        push_string(&mut block, "www.example.com");
        // RFC 7541, C.4.1.
        assert_eq!(
            block,
            [
                0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff
            ]
        );
    }

    #[test]
    fn a_long_string_has_a_length_of_several_octets() {
        let mut block = Vec::new();
        // Five bits each: 1,337 octets, the example of RFC 7541, C.1.2, with a larger prefix.
        push_string(&mut block, &"a".repeat(1_337 * 8 / 5));
        assert_eq!(block[..3], [0xff, 0xba, 0x09]);
        assert_eq!(block.len(), 3 + 127 + 58 + 9 * 128);
    }

    #[test]
    fn a_status_is_200_or_it_is_not() {
        assert!(says_200(&[0x88, 0x01]));
        assert!(says_200(&[0x20, 0x88]));
        assert!(!says_200(&[0x48, 0x03, b'4', b'0', b'1']));
        assert!(!says_200(&[]));
    }
}
