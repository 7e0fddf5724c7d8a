//! HTTP/2 clients that cost the proxy much and themselves little: each connection is ended and recorded by
//! name, processor time and memory stay within bounds, and others are served meanwhile.

use portcullis_tests::{
    front::Front,
    h2_peer::{
        Peer,
        frame::{
            ACK, CANCEL, CONTINUATION, ENHANCE_YOUR_CALM, HEADERS, INITIAL_WINDOW_SIZE, PADDED,
            PING, data, frame, headers, headers_only, ping, priority, reset, settings, window,
        },
        goaway_of, head_on,
        hpack::{literal, request},
    },
    run::Rigged,
    siege::{CONNECTIONS, PIECES, assert_ended, assert_withstands, records},
};

fn get(stream: u32) -> Vec<u8> {
    headers_only(stream, &request("GET", "/public", &[]))
}

/// Stream numbers of a client, in their order.
fn stream(time: usize) -> u32 {
    time as u32 * 2 + 1
}

#[test]
fn a_flood_of_pings_is_ended() -> Rigged<()> {
    assert_ended(&["http2_control_flood"], |_| ping().repeat(1_000))
}

#[test]
fn a_flood_of_answers_to_pings_that_nobody_sent_is_ended() -> Rigged<()> {
    let answer = frame(PING, ACK, 0, b"portcull");
    assert_ended(&["http2_control_flood"], |_| answer.repeat(1_000))
}

#[test]
fn a_flood_of_settings_is_ended() -> Rigged<()> {
    assert_ended(&["http2_control_flood"], |_| settings(&[]).repeat(1_000))
}

/// Each of them changes the window of every stream.
#[test]
fn a_flood_of_settings_that_change_windows_is_ended() -> Rigged<()> {
    assert_ended(&["http2_control_flood"], |time| match time {
        0 => (0..100).flat_map(|time| get(stream(time))).collect(),
        _ => [1, 70_000]
            .map(|size| settings(&[(INITIAL_WINDOW_SIZE, size)]))
            .concat()
            .repeat(500),
    })
}

#[test]
fn a_flood_of_priorities_is_ended() -> Rigged<()> {
    assert_ended(&["http2_control_flood"], |time| {
        (0..1_000)
            .flat_map(|place| priority(stream(place), time as u8))
            .collect()
    })
}

#[test]
fn a_flood_of_unknown_frames_is_ended() -> Rigged<()> {
    const UNKNOWN: u8 = 0xee;
    assert_ended(&["http2_control_flood"], |_| {
        frame(UNKNOWN, 0, 0, &[]).repeat(1_000)
    })
}

#[test]
fn a_flood_of_window_updates_is_ended() -> Rigged<()> {
    assert_ended(&["http2_window_flood"], |_| window(0, 1).repeat(1_000))
}

/// CVE-2023-44487.
#[test]
fn requests_that_are_taken_back_at_once_are_ended() -> Rigged<()> {
    // The HTTP library has a bound of its own for those that it hasn't handed over yet.
    assert_ended(&["http2_reset_flood", "http2_excess"], |time| {
        (time * 100..(time + 1) * 100)
            .flat_map(|time| [get(stream(time)), reset(stream(time), CANCEL)].concat())
            .collect()
    })
}

#[test]
fn requests_that_are_taken_back_one_by_one_are_ended() -> Rigged<()> {
    let front = Front::open()?;
    let mut peer = Peer::greet(&front, &[])?;
    let mut asked = 0;
    let piece = |time: usize| {
        asked = time + 1;
        // After the request was handed over, which the library leaves to others to bound.
        let taken_back = match time {
            0 => Vec::new(),
            _ => reset(stream(time - 1), CANCEL),
        };
        [taken_back, get(stream(time))].concat()
    };
    assert!(peer.flood(PIECES, piece)?, "the proxy took it all");
    let heard = peer.hear_out()?;
    assert_eq!(goaway_of(&heard), Some(ENHANCE_YOUR_CALM), "{heard:?}");
    front.audited("a record of it", |line| {
        line["reason"] == "http2_reset_flood"
    })?;
    let requests = front.heard()?.len();
    assert!(requests <= asked, "{requests} of {asked}");
    Ok(())
}

/// What a client says on one stream.
type Way = dyn Fn(u32) -> Vec<u8> + Sync;

/// MadeYouReset, CVE-2025-8671: the client lets the proxy take its requests back.
#[test]
fn requests_that_the_proxy_has_to_take_back_are_ended() -> Rigged<()> {
    fn post(id: u32) -> Vec<u8> {
        headers(id, &request("POST", "/public", &[("content-length", "1")]))
    }
    let ways: [(&str, &Way); 3] = [
        ("a window that overflows", &|id| {
            [get(id), window(id, 0x7fff_ffff)].concat()
        }),
        ("a body above its length", &|id| {
            [post(id), data(id, b"more")].concat()
        }),
        ("a stream that depends on itself", &|id| {
            let own = frame(0x2, 0, id, &[&id.to_be_bytes()[..], &[1]].concat());
            [get(id), own].concat()
        }),
    ];
    for (way, piece) in ways {
        let front = Front::open()?;
        assert_withstands(&front, |peer| {
            let ended = peer.flood(PIECES, |time| {
                (time * 20..(time + 1) * 20)
                    .flat_map(|time| piece(stream(time)))
                    .collect()
            })?;
            assert!(ended, "{way}: the proxy took it all");
            let heard = peer.hear_out()?;
            assert_eq!(
                goaway_of(&heard),
                Some(ENHANCE_YOUR_CALM),
                "{way}: {heard:?}"
            );
            Ok(())
        })?;
        front.audited("a record of each connection", |_| {
            records(&front, &["http2_reset_flood"]).len() == CONNECTIONS
        })?;
        // Of each connection some reached the upstream before it came to an end.
        let requests = front.heard()?.len();
        assert!(requests < 300 * CONNECTIONS, "{way}: {requests}");
    }
    Ok(())
}

/// CVE-2024-27316.
#[test]
fn a_field_section_in_ever_more_frames_is_ended() -> Rigged<()> {
    for part in [0, 1, 1_000, 16_000] {
        let fields = literal(&[("x-a", &"a".repeat(part))]);
        let fields = if part == 0 { Vec::new() } else { fields };
        assert_ended(&["http2_excess"], |time| match time {
            0 => frame(HEADERS, 0, 1, &request("GET", "/public", &[])),
            _ => frame(CONTINUATION, 0, 1, &fields).repeat(10),
        })?;
    }
    Ok(())
}

#[test]
fn data_frames_without_data_are_ended() -> Rigged<()> {
    let padded = frame(0x0, PADDED, 1, &[&[200][..], &[0; 200]].concat());
    for empty in [data(1, b""), padded] {
        assert_ended(&["http2_excess"], |time| match time {
            0 => headers(1, &request("POST", "/public", &[])),
            _ => empty.repeat(70),
        })?;
    }
    Ok(())
}

#[test]
fn a_client_that_does_all_of_it_in_moderation_is_served() -> Rigged<()> {
    let front = Front::open()?;
    let mut peer = Peer::greet(&front, &[])?;
    for time in 0..500 {
        let id = stream(time);
        peer.say(&[&priority(id, 16), &get(id), &ping(), &window(0, 1_000)])?;
        let heard = peer.hear_answer(id)?;
        let status = head_on(&heard, id).and_then(|head| head.status);
        assert_eq!(status, Some(200), "{time}: {heard:?}");
    }
    Ok(())
}
