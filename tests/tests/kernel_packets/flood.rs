//! A flood of spoofed sources, a thousand real ones over their limits, and the innocent.

use datapath::Rules;
use portcullis_tests::{loaded::Failure, map_memory::memory_of};
use proxy_common::{Limit, LimitSetting, Mode};

use crate::{
    Kernel, Scene,
    lists::datagram_v4,
    play::{hourly, ruled, scene},
};

pub(crate) const SCENES: &[Scene] = &[scene(
    "a million spoofed sources take no memory, and of 60,000 innocent packets fewer than 60",
    flood,
)];

const SPOOFED: u32 = 1_000_000;
const BURST: u32 = 64;
const OVER_THEIR_LIMIT: u32 = 1_000;
const INNOCENT: u32 = 3_000;
/// Packets of each innocent: a third of what he may send.
const ROUNDS: u32 = 20;

fn from(network: [u8; 1], number: u32) -> Vec<u8> {
    let [_, high, middle, low] = number.to_be_bytes();
    datagram_v4([network[0], high, middle, low])
}

/// Nothing is earned back while the flood lasts, so that the outcome depends on no clock.
fn flood(kernel: &mut Kernel) -> Result<(), Failure> {
    let limit = LimitSetting::new(hourly(u64::from(BURST)), Mode::Enforce);
    let rules = Rules::NONE.with(Limit::SourcePackets, limit);
    ruled(kernel, rules, |kernel| {
        let before = memory_of(kernel.loaded.datapath.pins())?;
        let mut limited = 0;
        for number in 0..OVER_THEIR_LIMIT {
            let frame = from([44], number);
            for _ in 0..2 * BURST {
                limited += u32::from(kernel.loaded.drops(&frame)?);
            }
        }
        let due = OVER_THEIR_LIMIT * BURST;
        if limited < due || limited > due + due / 100 {
            return Err(format!("{limited} packets over the limit dropped of {due}").into());
        }
        let mut lost = 0;
        for round in 0..ROUNDS {
            let chunk = SPOOFED / ROUNDS;
            for number in round * chunk..(round + 1) * chunk {
                kernel.loaded.drops(&from([45], number))?;
            }
            for number in 0..INNOCENT {
                lost += u32::from(kernel.loaded.drops(&from([46], number))?);
            }
        }
        let sent = INNOCENT * ROUNDS;
        if lost * 1_000 >= sent {
            return Err(format!("{lost} of {sent} innocent packets were dropped").into());
        }
        let after = memory_of(kernel.loaded.datapath.pins())?;
        if after != before {
            return Err(format!("memory of the maps: {before:?}, then {after:?}").into());
        }
        Ok(())
    })
}
