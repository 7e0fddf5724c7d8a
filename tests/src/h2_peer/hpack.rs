//! Field sections (RFC 7541): written plainly, and read as far as a test asks.

/// Entries of the static table (RFC 7541, appendix A).
const STATIC: u64 = 61;
/// `:status` with its usual values, in the static table.
const STATUSES: [(u64, u16); 7] = [
    (8, 200),
    (9, 204),
    (10, 206),
    (11, 304),
    (12, 400),
    (13, 404),
    (14, 500),
];

/// Most entries that the dynamic table of a client that asks for no other has: each counts 32 bytes beside its
/// text, of 4,096 (RFC 7541, 4.1; RFC 9113, 6.5.2).
const MOST_KEPT: usize = 4_096 / 32;

/// Fields, each as it stands here: no index, no Huffman code.
pub fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| field(name, value.as_bytes()));
    fields.collect::<Vec<_>>().concat()
}

fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = vec![0x00];
    text(&mut block, name.as_bytes());
    text(&mut block, value);
    block
}

/// A field that the proxy has to keep in its table; it is entry 62 until the next one is kept.
pub fn kept(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x40];
    text(&mut block, name.as_bytes());
    text(&mut block, value.as_bytes());
    block
}

/// A field by its place in the tables.
pub fn indexed(index: u64) -> Vec<u8> {
    let mut block = Vec::new();
    integer(&mut block, 0x80, 7, index);
    block
}

/// A request's pseudo-header fields, and further fields.
pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    [pseudo(method, path.as_bytes()), literal(fields)].concat()
}

/// A GET of this path, whatever bytes it has.
pub fn get(path: &[u8]) -> Vec<u8> {
    pseudo("GET", path)
}

fn pseudo(method: &str, path: &[u8]) -> Vec<u8> {
    let others = literal(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", "api.example"),
    ]);
    [others, field(":path", path)].concat()
}

fn text(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 0x00, 7, text.len() as u64);
    block.extend(text);
}

/// RFC 7541, 5.1.
fn integer(block: &mut Vec<u8>, pattern: u8, prefix: u32, value: u64) {
    let most = (1_u64 << prefix) - 1;
    if value < most {
        return block.push(pattern | value as u8);
    }
    block.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// What a test asks of an answer's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `:status`.
    pub status: Option<u16>,
    /// The decision id: the one value of 32 hexadecimal digits.
    pub decision: Option<String>,
}

/// Reads the heads of one connection, in their order.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was kept last stands first: the status, where it is one, and the value.
    kept: Vec<(bool, Option<String>)>,
}

impl Reader {
    /// Reads one field section; what isn't status or decision id is passed over.
    pub fn read(&mut self, block: &[u8]) -> Head {
        let mut head = Head::default();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            let field = match first {
                0x80.. => take_integer(&mut rest, 7).and_then(|index| self.entry(index)),
                0x40.. => {
                    let field = self.take_literal(&mut rest, 6);
                    self.kept.extend(field.clone());
                    self.kept.rotate_right(1);
                    self.kept.truncate(MOST_KEPT);
                    field
                }
                0x20.. => {
                    // The table's new size.
                    take_integer(&mut rest, 5);
                    continue;
                }
                _ => self.take_literal(&mut rest, 4),
            };
            let Some((is_status, value)) = field else {
                return head;
            };
            if is_status {
                head.status = value.and_then(|value| value.parse().ok());
            } else if value.as_ref().is_some_and(|value| value.len() == 32) {
                head.decision = value;
            }
        }
        head
    }

    fn entry(&self, index: u64) -> Option<(bool, Option<String>)> {
        if let Some((_, status)) = STATUSES.iter().find(|(place, _)| *place == index) {
            return Some((true, Some(status.to_string())));
        }
        match index.checked_sub(STATIC + 1) {
            Some(place) => self.kept.get(usize::try_from(place).ok()?).cloned(),
            None => Some((false, None)),
        }
    }

    fn take_literal(&self, rest: &mut &[u8], prefix: u32) -> Option<(bool, Option<String>)> {
        let name = take_integer(rest, prefix)?;
        let is_status = match name {
            0 => {
                take_text(rest)?;
                false
            }
            index => self.entry(index)?.0,
        };
        Some((is_status, take_text(rest)?))
    }
}

fn take_integer(rest: &mut &[u8], prefix: u32) -> Option<u64> {
    let most = (1_u64 << prefix) - 1;
    let (first, mut left) = rest.split_first()?;
    let mut value = u64::from(*first) & most;
    let mut shift = 0;
    if value == most {
        loop {
            let (byte, after) = left.split_first()?;
            left = after;
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 28 {
                break;
            }
        }
    }
    *rest = left;
    Some(value)
}

/// A text; the inner `None` is one that isn't hexadecimal.
fn take_text(rest: &mut &[u8]) -> Option<Option<String>> {
    let huffman = rest.first()? & 0x80 != 0;
    let length = usize::try_from(take_integer(rest, 7)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    if huffman {
        return Some(hexadecimal(bytes));
    }
    Some(String::from_utf8(bytes.to_vec()).ok())
}

/// Hexadecimal digits in Huffman code (RFC 7541, appendix B), which is all that statuses and decision
/// ids are made of.
fn hexadecimal(bytes: &[u8]) -> Option<String> {
    const FIVE: [(u32, char); 6] = [(0, '0'), (1, '1'), (2, '2'), (3, 'a'), (4, 'c'), (5, 'e')];
    const SIX: [(u32, char); 10] = [
        (0x19, '3'),
        (0x1a, '4'),
        (0x1b, '5'),
        (0x1c, '6'),
        (0x1d, '7'),
        (0x1e, '8'),
        (0x1f, '9'),
        (0x23, 'b'),
        (0x24, 'd'),
        (0x25, 'f'),
    ];
    let mut text = String::new();
    let (mut code, mut bits) = (0, 0);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| u32::from(byte >> place & 1)))
    {
        (code, bits) = (code << 1 | bit, bits + 1);
        let table: &[(u32, char)] = match bits {
            5 => &FIVE,
            6 => &SIX,
            8.. => return None,
            _ => continue,
        };
        if let Some((_, digit)) = table.iter().find(|(known, _)| *known == code) {
            text.push(*digit);
            (code, bits) = (0, 0);
        }
    }
    // What fills the last byte: ones, fewer than eight.
    (code == (1 << bits) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_that_was_kept_and_then_named_by_its_place() {
        let mut reader = Reader::default();
        // RFC 7541, C.6.1: 302 in Huffman code.
        let head = reader.read(&[0x48, 0x82, 0x64, 0x02]);
        assert_eq!(head.status, Some(302));
        assert_eq!(reader.read(&[0xbe]).status, Some(302));
        assert_eq!(reader.read(&[0x88]).status, Some(200));
    }

    #[test]
    fn reads_a_decision_id_as_it_was_written() {
        let id = "0123456789abcdef0123456789abcdef";
        let block = [indexed(12), literal(&[("x-request-id", id), ("a", "b")])].concat();
        let head = Reader::default().read(&block);
        assert_eq!(head.status, Some(400));
        assert_eq!(head.decision.as_deref(), Some(id));
    }
}
