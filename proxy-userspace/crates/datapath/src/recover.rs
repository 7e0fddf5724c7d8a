//! What an earlier run's tables say, for whoever has lost the lists that they were made from.

use aya::maps::{ArrayOfMaps, Map, MapData};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::{
    Cell, Mode,
    table::{Code, code},
};

use crate::{
    claim::Claim,
    error::{DatapathError, While as _},
    family::{FRONT_BITS, Family},
    mapping::MappedArray,
    pins::Pins,
};

/// Prefixes that the pinned tables drop or trust, and how; nothing where nothing is pinned. Lists
/// that only watch are left out, and so is which list said what: the tables hold sums.
///
/// # Errors
/// [`DatapathError::Kernel`] when what is pinned can't be read.
pub fn pinned_claims(pins: &Pins) -> Result<Vec<(IpNet, Claim)>, DatapathError> {
    let path = pins.map("LISTS");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lists: ArrayOfMaps<MapData, MapData> = MapData::from_pin(path)
        .and_then(Map::from_map_data)
        .and_then(TryInto::try_into)
        .while_trying_to("open the pinned list tables")?;
    let mut claims = claims_in::<Ipv4Net>(&lists)?;
    claims.extend(claims_in::<Ipv6Net>(&lists)?);
    Ok(claims)
}

fn claims_in<P: Family>(
    lists: &ArrayOfMaps<MapData, MapData>,
) -> Result<Vec<(IpNet, Claim)>, DatapathError> {
    let table = lists
        .get(&P::PLACE, 0)
        .and_then(MappedArray::open)
        .while_trying_to("open a pinned list table")?;
    let cells = P::cells(&table).filter_map(|(prefix, cell)| Some((prefix.into(), said(cell)?)));
    let mut claims: Vec<(IpNet, Claim)> = cells.collect();
    for (uniform, claim) in [
        (Code::Blocked, Claim::BLOCKED),
        (Code::Trusted, Claim::Trusted),
    ] {
        let blocks = (0..1_u32 << FRONT_BITS).filter(|index| code(&table, *index) == uniform);
        let bits = |index: u32| u128::from(index) << (128 - u32::from(FRONT_BITS));
        let nets: Vec<IpNet> = blocks
            .map(|index| P::from_bits(bits(index), FRONT_BITS).into())
            .collect();
        claims.extend(IpNet::aggregate(&nets).into_iter().map(|net| (net, claim)));
    }
    Ok(claims)
}

fn said(cell: Cell) -> Option<Claim> {
    if cell.flags & Cell::TRUSTED != 0 {
        return Some(Claim::Trusted);
    }
    (cell.flags & Cell::ENFORCED != 0).then(|| Claim::Blocked {
        until_ns: (cell.until_ns != 0).then_some(cell.until_ns),
        mode: Mode::Enforce,
    })
}
