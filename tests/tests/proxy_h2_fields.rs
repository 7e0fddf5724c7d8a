//! HTTP/2 field sections that are short on the wire and long once they are decoded (RFC 7541, 7.3): memory and
//! the count of fields stay within the bounds of a head.

use portcullis_tests::{
    front::Front,
    h2_peer::{
        Said,
        frame::{ENHANCE_YOUR_CALM, headers_only, window},
        goaway_of, head_on,
        hpack::{indexed, kept, request},
    },
    run::Rigged,
    siege::{CONNECTIONS, assert_withstands, records},
};

/// Stream numbers of a client, in their order.
fn stream(time: usize) -> u32 {
    time as u32 * 2 + 1
}

/// One long field in the table, and then its place in it a thousand times, at a byte each.
#[test]
fn fields_that_are_named_by_their_place_many_times_are_refused_and_cost_no_memory() -> Rigged<()> {
    let front = Front::open()?;
    let long = "a".repeat(3_900);
    assert_withstands(&front, |peer| {
        peer.say(&[&headers_only(
            1,
            &[request("GET", "/public", &[]), kept("x-a", &long)].concat(),
        )])?;
        let heard = peer.hear_answer(1)?;
        let status = head_on(&heard, 1).and_then(|head| head.status);
        assert_eq!(status, Some(200), "{heard:?}");
        // Above the bound of a head, then far above it.
        let named = |times| [request("GET", "/public", &[]), indexed(62).repeat(times)].concat();
        peer.say(&[&headers_only(3, &named(5))])?;
        let heard = peer.hear_answer(3)?;
        let status = head_on(&heard, 3).and_then(|head| head.status);
        assert_eq!(status, Some(431), "{heard:?}");
        peer.say(&[&headers_only(5, &named(10_000))])?;
        let heard = peer.hear_out()?;
        assert_eq!(goaway_of(&heard), Some(ENHANCE_YOUR_CALM), "{heard:?}");
        Ok(())
    })?;
    front.audited("a record of each connection", |_| {
        records(&front, &["http2_excess"]).len() == CONNECTIONS
    })?;
    front.audited("a record of each head", |_| {
        records(&front, &["head_too_long"]).len() == CONNECTIONS
    })?;
    Ok(())
}

/// Within the bound of a head, on as many streams as there may be: 128 times 15 KiB for 600 bytes.
#[test]
fn many_heads_that_are_long_only_once_decoded_cost_no_more_memory_than_their_bound() -> Rigged<()> {
    let front = Front::open()?;
    let long = "a".repeat(3_900);
    assert_withstands(&front, |peer| {
        let first = [request("GET", "/public", &[]), kept("x-a", &long)].concat();
        let next = [request("GET", "/public", &[]), indexed(62).repeat(3)].concat();
        peer.say(&[&headers_only(1, &first)])?;
        let more: Vec<u8> = (1..128)
            .flat_map(|time| headers_only(stream(time), &next))
            .collect();
        peer.say(&[&more])?;
        // As much as all answers together have.
        peer.say(&[&window(0, 1 << 20)])?;
        peer.hear_until(|said| {
            matches!(
                said,
                Said::Data {
                    stream: 255,
                    last: true,
                    ..
                }
            )
        })?;
        Ok(())
    })
}

/// CVE-2026-47774: a cookie may come in crumbs, and each of them costs a field.
#[test]
fn cookie_crumbs_beyond_the_bound_of_fields_are_refused() -> Rigged<()> {
    let front = Front::open()?;
    assert_withstands(&front, |peer| {
        let crumbs = |times| {
            [
                request("GET", "/public", &[]),
                kept("cookie", "a=1"),
                indexed(62).repeat(times),
            ]
            .concat()
        };
        peer.say(&[&headers_only(1, &crumbs(99))])?;
        let heard = peer.hear_answer(1)?;
        let status = head_on(&heard, 1).and_then(|head| head.status);
        assert_eq!(status, Some(200), "{heard:?}");
        for time in 1..100 {
            peer.say(&[&headers_only(stream(time), &crumbs(300))])?;
            let heard = peer.hear_answer(stream(time))?;
            let head = head_on(&heard, stream(time)).cloned().unwrap_or_default();
            assert_eq!(head.status, Some(431), "{heard:?}");
        }
        Ok(())
    })?;
    front.audited("a record of each", |_| {
        let trail = front.audit();
        let refused = trail
            .iter()
            .filter(|line| line["reason"] == "too_many_fields");
        refused.count() == CONNECTIONS * 99
    })?;
    Ok(())
}
