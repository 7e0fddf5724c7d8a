//! What a truth says, and the plans that its changes make.

use proxy_common::{Cell, Mode, table::Code};

use super::*;
use crate::{claim::Claim, plan::Change};

const BANS: ListId = 0;
const FEED: ListId = 1;
const ALLOW: ListId = 2;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_repeated_claim_changes_nothing() {
    let mut truth = Truth::default();
    let block = net("192.0.2.0/24");
    let put = truth.put(block, FEED, Claim::BLOCKED);
    assert_eq!(put.changes(), [Change::Code(block, Code::Blocked)]);
    assert!(truth.put(block, FEED, Claim::BLOCKED).is_empty());
    let removed = truth.remove(block, FEED);
    assert_eq!(removed.changes(), [Change::Code(block, Code::Unlisted)]);
    assert!(truth.remove(block, FEED).is_empty());
    assert!(truth.is_empty());
}

#[test]
fn trusted_beats_blocked_whichever_is_longer() {
    let mut truth = Truth::default();
    truth.set(net("10.0.0.0/8"), FEED, Some(Claim::BLOCKED));
    truth.set(net("10.1.0.0/16"), ALLOW, Some(Claim::Trusted));
    truth.set(net("10.1.2.3/32"), FEED, Some(Claim::BLOCKED));
    assert_eq!(truth.standing(address("10.1.2.3"), 0), Standing::Trusted);
    assert_eq!(truth.standing(address("10.1.9.9"), 0), Standing::Trusted);
    assert_eq!(truth.standing(address("10.2.0.1"), 0), Standing::Blocked);
}

#[test]
fn trusting_a_range_rewrites_the_blocked_entries_inside_it() {
    let mut truth = Truth::default();
    let (host, block, next) = (net("10.1.2.3/32"), net("10.1.2.0/24"), net("10.1.3.0/24"));
    let blocked = truth.put(host, FEED, Claim::BLOCKED);
    assert_eq!(
        blocked.changes(),
        [
            Change::Put(host, Cell::blocked(0)),
            Change::Code(block, Code::Closer),
        ],
        "the code that leads to a cell comes after it"
    );
    let trusted = truth.put(net("10.1.2.0/23"), ALLOW, Claim::Trusted);
    assert_eq!(
        trusted.changes(),
        [
            Change::Put(host, Cell::trusted()),
            Change::Put(block, Cell::trusted()),
            Change::Code(next, Code::Trusted),
        ]
    );
    let withdrawn = truth.remove(net("10.1.2.0/23"), ALLOW);
    assert_eq!(
        withdrawn.changes(),
        [
            Change::Put(host, Cell::blocked(0)),
            Change::Code(next, Code::Unlisted),
            Change::Remove(block),
        ],
        "additions come before removals"
    );
}

#[test]
fn a_length_that_no_slot_holds_is_written_as_the_next_that_one_does() {
    let mut truth = Truth::default();
    let half = truth.put(net("198.51.100.128/25"), FEED, Claim::BLOCKED);
    let mut slots: Vec<Change> = half.changes().to_vec();
    slots.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(
        slots,
        [
            Change::Code(net("198.51.100.0/24"), Code::Closer),
            Change::Put(net("198.51.100.128/26"), Cell::blocked(0)),
            Change::Put(net("198.51.100.192/26"), Cell::blocked(0)),
        ]
    );
}

#[test]
fn a_change_of_too_much_makes_the_tables_anew() {
    let mut truth = Truth::default();
    assert!(
        truth
            .put(net("10.0.0.0/8"), FEED, Claim::BLOCKED)
            .is_rebuild()
    );
    assert!(
        !truth
            .put(net("10.64.0.0/11"), FEED, Claim::BLOCKED)
            .is_rebuild()
    );
    let all = Plan::all(vec![
        truth.put(net("192.0.2.0/24"), FEED, Claim::BLOCKED),
        truth.remove(net("10.0.0.0/8"), FEED),
    ]);
    assert!(all.is_rebuild(), "one such change among others");
    assert_eq!(truth.standing(address("10.1.2.3"), 0), Standing::Unlisted);
}

#[test]
fn only_tables_of_the_families_that_change_are_made_anew() {
    let of = |prefixes: &[&str]| Plan::rebuild_for(prefixes.iter().map(|prefix| net(prefix)));
    let both = Plan::rebuild();
    let v4 = of(&["10.0.0.0/8"]);
    assert_ne!(v4, both);
    assert_eq!(of(&["::ffff:10.0.0.0/104"]), v4, "judged as IPv4");
    assert_ne!(of(&["2001:db8::/32"]), both);
    assert_eq!(of(&["2001:db8::/32", "10.0.0.0/8"]), both);
    assert_eq!(of(&[]), Plan::none());

    let mut truth = Truth::default();
    let wide = truth.put(net("10.0.0.0/8"), FEED, Claim::BLOCKED);
    assert_eq!(wide, v4);
    let narrow = truth.put(net("2001:db8::1/128"), FEED, Claim::BLOCKED);
    assert!(!narrow.is_rebuild());
    assert_eq!(Plan::all(vec![wide, narrow]), both, "a change isn't lost");
}

/// The first write of such a pair would let the source through until the second.
#[test]
fn of_two_plans_for_one_place_only_the_last_is_carried_out() {
    let mut truth = Truth::default();
    let host = net("203.0.113.5/32");
    let _ = truth.put(host, FEED, Claim::BLOCKED);
    let swapped = Plan::all(vec![
        truth.remove(host, FEED),
        truth.put(host, BANS, Claim::until(9_000)),
    ]);
    assert_eq!(
        swapped.changes(),
        [
            Change::Put(host, Cell::blocked(9_000)),
            Change::Code(net("203.0.113.0/24"), Code::Closer),
        ]
    );
}

#[test]
fn a_ban_inside_a_blocked_range_never_ends_the_block() {
    let mut truth = Truth::default();
    let _ = truth.put(net("198.51.100.0/24"), FEED, Claim::BLOCKED);
    let _ = truth.put(net("198.51.100.7/32"), BANS, Claim::until(1_000));
    assert_eq!(
        truth.standing(address("198.51.100.7"), 5_000),
        Standing::Blocked
    );
}

#[test]
fn overlapping_bans_end_with_the_last() {
    let mut truth = Truth::default();
    let _ = truth.put(net("198.51.100.0/24"), BANS, Claim::until(2_000));
    let _ = truth.put(net("198.51.100.7/32"), BANS, Claim::until(1_000));
    let standing = |at_ns| truth.standing(address("198.51.100.7"), at_ns);
    assert_eq!(standing(1_500), Standing::Banned { until_ns: 2_000 });
    assert_eq!(standing(2_000), Standing::Unlisted);
}

#[test]
fn a_second_ban_extends_and_never_shortens() {
    let mut truth = Truth::default();
    let host = net("203.0.113.5/32");
    let _ = truth.put(host, BANS, Claim::until(5_000));
    assert!(truth.put(host, BANS, Claim::until(1_000)).is_empty());
    let _ = truth.put(host, BANS, Claim::until(9_000));
    assert_eq!(truth.claim(host, BANS), Some(Claim::until(9_000).into()));
    assert_eq!(truth.ended(8_999).count(), 0);
    let ended: Vec<_> = truth.ended(9_000).collect();
    assert_eq!(ended, [(host, BANS)]);
    assert_eq!(
        truth.remove(host, BANS).changes(),
        [
            Change::Code(net("203.0.113.0/24"), Code::Unlisted),
            Change::Remove(host),
        ]
    );
}

#[test]
fn bans_end_in_their_order_and_none_that_was_withdrawn_or_moved() {
    let mut truth = Truth::default();
    let host = |last: u8| net(&format!("10.0.0.{last}/32"));
    for last in 0..10 {
        let end = Claim::until(1_000 - u64::from(last));
        truth.set(host(last), BANS, Some(end));
    }
    let _ = truth.remove(host(9), BANS);
    let _ = truth.replace(host(8), BANS, Claim::until(5_000));
    let _ = truth.replace(host(7), BANS, Claim::BLOCKED);
    let ended: Vec<_> = truth.ended(998).map(|(prefix, _)| prefix).collect();
    assert_eq!(ended, [6, 5, 4, 3, 2].map(host));
    let emptied = truth.with((0..10).map(|last| (host(last), BANS, None)));
    assert_eq!(emptied.ended(u64::MAX).count(), 0);
}

/// What `with` makes of many edits is what they make one by one.
#[test]
fn many_edits_at_once_come_to_what_they_come_to_one_by_one() {
    let mut seed = 1_u64;
    let mut below = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % bound
    };
    let mut truth = Truth::default();
    for _ in 0..50 {
        let mut one_by_one = truth.clone();
        let mut edits = Vec::new();
        for _ in 0..200 {
            let (third, last) = (below(4), below(6));
            let prefix = match below(3) {
                0 => net(&format!("10.0.{third}.0/{}", 20 + below(5))),
                1 => net(&format!("10.0.{third}.{last}/32")),
                _ => net(&format!("2001:db8:{third}::{last}/128")),
            };
            let claims = [None, Some(Claim::BLOCKED), Some(Claim::until(below(9)))];
            let list = below(3) as ListId;
            let note = below(100) as u32;
            let noted = claims[below(3) as usize].map(|claim| Noted { claim, note });
            one_by_one.set(prefix, list, noted);
            edits.push((prefix, list, noted));
        }
        truth = truth.with(edits);
        let all = |truth: &Truth| -> BTreeSet<String> {
            truth.claims().map(|claim| format!("{claim:?}")).collect()
        };
        assert_eq!(all(&truth), all(&one_by_one));
        assert_eq!(truth.len(), one_by_one.len());
        let ended = |truth: &Truth| truth.ended(5).collect::<Vec<_>>();
        assert_eq!(ended(&truth), ended(&one_by_one));
        for list in 0..3 {
            let listed: Vec<_> = truth.of_list(list, None).collect();
            let middle = listed[listed.len() / 2].0;
            let rest: Vec<_> = truth.of_list(list, Some(middle)).collect();
            assert_eq!(rest, listed[listed.len() / 2 + 1..]);
        }
    }
}

#[test]
fn replacing_a_claim_is_one_write_that_never_unblocks() {
    let mut truth = Truth::default();
    let host = net("203.0.113.5/32");
    let _ = truth.put(host, BANS, Claim::until(9_000));
    assert_eq!(
        truth.replace(host, BANS, Claim::until(2_000)).changes(),
        [Change::Put(host, Cell::blocked(2_000))]
    );
}

#[test]
fn a_list_that_watches_never_lifts_a_drop_and_outlives_a_ban() {
    const WATCHED: Claim = Claim::Blocked {
        until_ns: None,
        mode: Mode::Monitor,
    };
    let mut truth = Truth::default();
    let host = net("203.0.113.5/32");
    let standing = |truth: &Truth, at_ns| truth.standing(address("203.0.113.5"), at_ns);
    let _ = truth.put(host, FEED, WATCHED);
    assert_eq!(standing(&truth, 0), Standing::Monitored);
    let _ = truth.put(net("203.0.113.0/24"), BANS, Claim::until(1_000));
    assert_eq!(standing(&truth, 999), Standing::Banned { until_ns: 1_000 });
    assert_eq!(standing(&truth, 1_000), Standing::Monitored);
    let _ = truth.put(net("203.0.112.0/23"), ALLOW, Claim::Trusted);
    assert_eq!(standing(&truth, 0), Standing::Trusted);
}

#[test]
fn host_bits_and_mapped_addresses_are_brought_to_one_form() {
    let mut truth = Truth::default();
    let _ = truth.put(net("192.0.2.77/24"), FEED, Claim::BLOCKED);
    assert_eq!(truth.standing(address("192.0.2.1"), 0), Standing::Blocked);
    assert_eq!(
        truth.standing(address("::ffff:192.0.2.1"), 0),
        Standing::Blocked
    );
    let _ = truth.put(net("::ffff:203.0.113.0/120"), FEED, Claim::BLOCKED);
    assert_eq!(
        truth.standing(address("203.0.113.200"), 0),
        Standing::Blocked
    );
}
