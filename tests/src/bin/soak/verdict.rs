//! What the services wrote down, what clients got, and what the trail says, put together.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    time::Duration,
};

use portcullis_tests::run::{RigError, Rigged};
use serde::Deserialize;

use crate::{
    backend::{Notes, PATH},
    crew::Fates,
    fleet::Fleet,
};

/// How long after a service is there again the proxy may still take it for gone: it looks each half second,
/// and an endpoint that failed is set aside for one.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// How requests ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) requests: u64,
    /// What should not have happened, request by request.
    pub(crate) lost: Vec<String>,
    /// That had reached a service which was killed before it had answered.
    pub(crate) died_with_it: u64,
    /// That reached no service, while one was gone.
    pub(crate) unreached: u64,
}

/// Judges all of them.
pub(crate) fn judge(fates: &Fates, fleet: &Fleet, trail: &Path) -> Rigged<Verdict> {
    let requests = fates.asked();
    let mut reached = vec![0_u8; requests as usize];
    // Answered by a service, or by one that wasn't killed at least received.
    let mut owed = vec![false; requests as usize];
    for life in &fleet.lives {
        let notes = Notes::read(&life.log)?;
        for number in &notes.reached {
            let count = count_of(&mut reached, *number)?;
            *count = count.saturating_add(1);
        }
        let owing = if life.killed {
            &notes.answered
        } else {
            &notes.reached
        };
        for number in owing {
            *count_of(&mut owed, *number)? = true;
        }
    }
    let mut verdict = Verdict {
        requests,
        ..Verdict::default()
    };
    let odd = fates.odd();
    for (number, odd) in odd.iter() {
        let at = *number as usize;
        let reached = reached[at] > 0;
        let was_gone = fleet
            .absences
            .iter()
            .any(|absence| absence.from <= odd.until && odd.from <= absence.until + AFTERWARDS);
        let why = if owed[at] {
            "a service that was well had it"
        } else if !matches!(odd.status, 200 | 502 | 503 | 504) {
            "that is no answer to a service that is gone"
        } else if odd.whole == (odd.status == 200) {
            "only an answer that has begun can break, and one of the proxy's own is whole"
        } else if !reached && !was_gone {
            "all services were there"
        } else {
            verdict.died_with_it += u64::from(reached);
            verdict.unreached += u64::from(!reached);
            continue;
        };
        verdict
            .lost
            .push(format!("request {number}: {why}: {odd:?}"));
    }
    for (number, count) in reached.iter().enumerate() {
        let was_answered = !odd.contains_key(&(number as u64));
        if *count > 1 || was_answered && *count == 0 {
            verdict.lost.push(format!(
                "request {number} reached services {count} times (answered: {was_answered})"
            ));
        }
    }
    let statuses = odd
        .iter()
        .map(|(number, odd)| (*number, odd.status))
        .collect();
    drop(odd);
    agree(requests, &statuses, trail)?;
    Ok(verdict)
}

fn count_of<T>(counts: &mut [T], number: u64) -> Rigged<&mut T> {
    counts
        .get_mut(number as usize)
        .ok_or_else(|| RigError(format!("a service had request {number}, which nobody made")))
}

#[derive(Deserialize)]
struct Record<'t> {
    kind: &'t str,
    path: Option<&'t str>,
    status: Option<u16>,
}

/// The trail has one record of each request, with the status that its client got.
fn agree(requests: u64, odd: &BTreeMap<u64, u16>, trail: &Path) -> Rigged<()> {
    let mut recorded = vec![0_u8; requests as usize];
    for line in BufReader::new(File::open(trail)?).lines() {
        let line = line?;
        let record: Record<'_> = serde_json::from_str(&line)
            .map_err(|error| RigError(format!("the trail: {line}: {error}")))?;
        let number = record.path.and_then(|path| path.strip_prefix(PATH));
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            continue;
        };
        if record.kind != "request" {
            continue;
        }
        let count = count_of(&mut recorded, number)?;
        *count = count.saturating_add(1);
        let status = odd.get(&number).copied().unwrap_or(200);
        if record.status != Some(status) {
            return Err(RigError(format!(
                "request {number} was answered with {status}: {line}"
            )));
        }
    }
    match recorded.iter().position(|count| *count != 1) {
        Some(number) => Err(RigError(format!(
            "the trail has {} records of request {number}",
            recorded[number]
        ))),
        None => Ok(()),
    }
}
