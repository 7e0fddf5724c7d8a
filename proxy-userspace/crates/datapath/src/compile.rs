//! A whole table from the claims of one address family, in one pass.

use proxy_common::{
    Cell,
    table::{Code, Full, LinesMut, code, code_of},
};

use crate::{
    claim::Sum,
    family::{FRONT_BITS, Family},
    prefixes::Prefixes,
};

/// At most so many cells; exact where no entry lies in another.
pub(crate) fn count_cells<P: Family>(prefixes: &Prefixes<P>) -> u64 {
    let mut cells = 0;
    walk(prefixes, |prefix, sum, cover| {
        cells += if prefix.length() > FRONT_BITS {
            // Its own slots, and perhaps the one of its /24.
            (1 << (P::held_length(prefix.length()) - prefix.length()))
                + u64::from(cover.cell().is_some())
        } else if code_of(sum.cell()) == Code::Closer {
            1 << (FRONT_BITS - prefix.length())
        } else {
            0
        };
        Ok(())
    })
    .map_or(cells, |()| cells)
}

/// Fills a table that holds its header and nothing else.
pub(crate) fn fill<P: Family, L: LinesMut>(
    prefixes: &Prefixes<P>,
    lines: &mut L,
) -> Result<(), Full> {
    walk(prefixes, |prefix, sum, cover| {
        if prefix.length() > FRONT_BITS {
            let block = prefix.block();
            if code(lines, block.front_index()) != Code::Closer {
                if let Some(cell) = cover.cell() {
                    block.put(lines, cell)?;
                }
                block.set_code(lines, Code::Closer);
            }
            return match sum.cell() {
                Some(cell) => put_all(prefix.slots(), lines, cell),
                None => Ok(()),
            };
        }
        let cell = sum.cell();
        let code_after = code_of(cell);
        for block in prefix.split(FRONT_BITS) {
            if code_after == Code::Closer {
                if let Some(cell) = cell {
                    block.put(lines, cell)?;
                }
            } else if code(lines, block.front_index()) == Code::Closer {
                // A shorter prefix, met before, needed the slot; this one doesn't.
                block.remove(lines);
            }
            block.set_code(lines, code_after);
        }
        Ok(())
    })
}

fn put_all<P: Family, L: LinesMut>(
    slots: impl Iterator<Item = P>,
    lines: &mut L,
    cell: Cell,
) -> Result<(), Full> {
    for slot in slots {
        slot.put(lines, cell)?;
    }
    Ok(())
}

/// Visits every prefix with claims, each before those that lie in it: with what it and all that
/// cover it add up to, and with what those up to a /24 add up to.
fn walk<P: Family>(
    prefixes: &Prefixes<P>,
    mut visit: impl FnMut(P, Sum, Sum) -> Result<(), Full>,
) -> Result<(), Full> {
    let mut path: Vec<(P, Sum, Sum)> = Vec::new();
    for (prefix, claims) in prefixes.iter() {
        while path.last().is_some_and(|(outer, ..)| !outer.covers(prefix)) {
            path.pop();
        }
        let (outer, cover) = path
            .last()
            .map_or_else(Default::default, |(_, sum, cover)| (*sum, *cover));
        let sum = claims
            .iter()
            .fold(outer, |sum, (_, noted)| sum.add(noted.claim));
        let cover = if prefix.length() <= FRONT_BITS {
            sum
        } else {
            cover
        };
        path.push((prefix, sum, cover));
        visit(prefix, sum, cover)?;
    }
    Ok(())
}
