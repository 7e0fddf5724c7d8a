//! HTTP/2 clients that hold on and take nothing, or ask for nothing: ended in time, and those who are only slow
//! are not.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use portcullis_tests::{
    burden::Burden,
    front::Front,
    ground::Ground,
    h2_peer::{
        Peer, Said,
        frame::{
            ACK, ENHANCE_YOUR_CALM, HEADERS, INITIAL_WINDOW_SIZE, PING, frame, headers_only, window,
        },
        goaway_of,
        hpack::request,
    },
    run::{RigError, Rigged},
    siege::{MEMORY, PIECES, PROCESSOR, records},
};
use serde_json::Value;

fn get(stream: u32) -> Vec<u8> {
    headers_only(stream, &request("GET", "/public", &[]))
}

/// Stream numbers of a client, in their order.
fn stream(time: usize) -> u32 {
    time as u32 * 2 + 1
}

#[test]
fn a_field_section_that_never_ends_is_ended_in_time() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "header_timeout = \"1s\"")?
        .start()?;
    let mut peer = Peer::greet(&front, &[])?;
    let begun = Instant::now();
    peer.say(&[&frame(HEADERS, 0, 1, &request("GET", "/public", &[]))])?;
    let heard = peer.hear_out()?;
    assert_eq!(goaway_of(&heard), Some(ENHANCE_YOUR_CALM), "{heard:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    front.audited("a record of it", |line| line["reason"] == "http_timeout")?;
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// A proxy that gives up on stalled answers after two seconds, with an answer of 4 MiB.
fn with_long_answer() -> Rigged<(Front, Vec<u8>)> {
    let front = Ground::set()?
        .add("[[listener]]", "stall_timeout = \"2s\"")?
        .start()?;
    fs::write(front.ground.scratch.join("files/long"), vec![b'a'; 4 << 20])?;
    let token = format!("Bearer {}", front.token("files")?);
    let asking = request("GET", "/files/long", &[("authorization", &token)]);
    Ok((front, asking))
}

#[test]
fn answers_of_which_a_byte_is_taken_now_and_then_are_ended() -> Rigged<()> {
    let (front, asking) = with_long_answer()?;
    let before = Burden::of(&front.daemon)?;
    let mut peer = Peer::greet(&front, &[(INITIAL_WINDOW_SIZE, 0)])?;
    let all: Vec<u8> = (0..100)
        .flat_map(|time| headers_only(stream(time), &asking))
        .collect();
    let begun = Instant::now();
    peer.say(&[&all])?;
    let mut most = 0;
    let ended = peer.flood(PIECES, |time| {
        if let Ok(now) = Burden::of(&front.daemon) {
            most = most.max(now.since(before).resident);
        }
        let answer = front.curl("/public", &[]);
        assert!(answer.is_ok_and(|answer| answer.status == 200));
        window(stream(time % 100), 1)
    })?;
    assert!(ended, "the proxy took it all");
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    let heard = peer.hear_out()?;
    assert_eq!(goaway_of(&heard), Some(ENHANCE_YOUR_CALM), "{heard:?}");
    front.audited("a record of the connection", |line| {
        line["reason"] == "http2_stalled"
    })?;
    front.audited("a record of each request", |_| {
        let trail = front.audit();
        let broken = |line: &&Value| line["path"] == "/files/long" && line["complete"] == false;
        trail.iter().filter(broken).count() == 100
    })?;
    let cost = Burden::of(&front.daemon)?.since(before);
    assert!(cost.processor < PROCESSOR, "{cost:?}");
    assert!(most < MEMORY, "{most}");
    Ok(())
}

#[test]
fn a_connection_whose_window_is_never_opened_again_is_ended() -> Rigged<()> {
    let (front, asking) = with_long_answer()?;
    let mut peer = Peer::greet(&front, &[(INITIAL_WINDOW_SIZE, 1 << 30)])?;
    let begun = Instant::now();
    peer.say(&[&headers_only(1, &asking)])?;
    let heard = peer.hear_out()?;
    assert_eq!(goaway_of(&heard), Some(ENHANCE_YOUR_CALM));
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    front.audited("a record of it", |line| line["reason"] == "http2_stalled")?;
    Ok(())
}

#[test]
fn a_client_that_reads_slowly_gets_its_answer() -> Rigged<()> {
    let (front, asking) = with_long_answer()?;
    let mut peer = Peer::greet(&front, &[(INITIAL_WINDOW_SIZE, 8 << 10)])?;
    let begun = Instant::now();
    peer.say(&[&headers_only(1, &asking)])?;
    // 4 KiB at a time for more than twice as long as a stalled client would be waited for.
    while begun.elapsed() < Duration::from_secs(5) {
        let mut taken = 0;
        while taken < 4 << 10 {
            let heard = peer.hear_until(|said| matches!(said, Said::Data { .. }))?;
            taken += match heard.last() {
                Some(Said::Data { bytes, .. }) => bytes.len(),
                _ => return Err(RigError(format!("ended: {heard:?}"))),
            };
        }
        // Slowness is what is tested here.
        thread::sleep(Duration::from_millis(500));
        peer.say(&[&window(0, 4 << 10), &window(1, 4 << 10)])?;
    }
    assert_eq!(records(&front, &["http2_stalled"]), [Value::Null; 0]);
    Ok(())
}

#[test]
fn a_client_that_says_nothing_is_ended() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "header_timeout = \"1s\"")?
        .start()?;
    let mut silent = Peer::silent(&front)?;
    let mut greeted = Peer::greet(&front, &[])?;
    assert_eq!(silent.hear_out()?.last(), Some(&Said::End));
    assert_eq!(greeted.hear_out()?.last(), Some(&Said::End));
    front.audited("a record of both", |_| {
        records(&front, &["http_timeout"]).len() == 2
    })?;
    Ok(())
}

#[test]
fn a_connection_without_further_requests_is_ended_gracefully_and_without_a_record() -> Rigged<()> {
    const NO_ERROR: u32 = 0;
    let front = Ground::set()?
        .add("[[listener]]", "header_timeout = \"1s\"")?
        .start()?;
    let mut peer = Peer::greet(&front, &[])?;
    peer.say(&[&get(1)])?;
    peer.hear_answer(1)?;
    // Answering pings, of which there is one in `header_timeout`, is no request.
    let mut ended = None;
    for _ in 0..4 {
        let heard = peer.hear_until(|said| matches!(said, Said::Ping(_) | Said::GoAway { .. }))?;
        if let Some(Said::Ping(payload)) = heard.last() {
            peer.say(&[&frame(PING, ACK, 0, payload)])?;
        } else {
            ended = goaway_of(&heard);
            break;
        }
    }
    assert_eq!(ended, Some(NO_ERROR));
    assert_eq!(records(&front, &["http_timeout"]), [Value::Null; 0]);
    Ok(())
}
