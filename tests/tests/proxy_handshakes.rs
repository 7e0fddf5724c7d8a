//! Handshakes that openssl's client bends: each is refused with nothing said inside, or goes on
//! without what was bent.

use std::{fs, process::Command};

use portcullis_tests::{
    front::Front,
    run::{RigError, Rigged, succeed},
};

const REQUEST: &str = "GET /public HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";
/// What is sent early goes to another resource, by which it would be known.
const EARLY: &str = "GET /public?early HTTP/1.1\r\nHost: api.example\r\n\r\n";
const ALPN: [&str; 3] = ["-quiet", "-alpn", "http/1.1"];

/// `max_early_data [15]` of 16384 bytes in openssl's `SSL_SESSION` (ssl/ssl_asn1.c).
const MAX_EARLY_DATA: [u8; 6] = [0xaf, 0x04, 0x02, 0x02, 0x40, 0x00];
/// The tag of `alpn_selected [16]`, which follows it.
const ALPN_SELECTED: u8 = 0xb0;

/// Served with the `good` arguments; with the `bent` ones nothing is said and the trail says so.
fn assert_bent_refused(good: &[&str], bent: &[&str]) -> Rigged<()> {
    let front = Front::open()?;
    let answer = front.raw_with(&[&ALPN[..], good].concat(), REQUEST.as_bytes())?;
    assert_eq!(answer.status(), 200, "{good:?}: {answer:?}");
    let answer = front.raw_with(&[&ALPN[..], bent].concat(), REQUEST.as_bytes())?;
    assert_eq!(answer.text, "", "{bent:?}");
    assert!(answer.closed, "{bent:?}: {answer:?}");
    let record = front.audited("the handshake", |line| line["kind"] == "connection")?;
    assert_eq!(record["reason"], "tls_handshake_failed", "{record}");
    assert_eq!(record["verdict"], "deny", "{record}");
    assert_eq!(front.heard()?, ["GET /public HTTP/1.1"]);
    Ok(())
}

#[test]
fn without_a_group_in_common_there_is_no_handshake() -> Rigged<()> {
    for version in ["-tls1_2", "-tls1_3"] {
        assert_bent_refused(
            &[version, "-groups", "P-256"],
            &[version, "-groups", "secp521r1"],
        )?;
    }
    Ok(())
}

#[test]
fn a_fallback_that_says_so_is_refused() -> Rigged<()> {
    assert_bent_refused(&["-tls1_2"], &["-tls1_2", "-fallback_scsv"])
}

/// The header's size and the size of the content of a DER element.
fn extent(der: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*der.get(1)?);
    if first < 0x80 {
        return Some((2, first));
    }
    let sizes = der.get(2..2 + (first & 0x7f))?;
    let size = sizes
        .iter()
        .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
    Some((2 + sizes.len(), size))
}

/// A session that claims that its server takes early data.
fn with_early_data(session: &[u8]) -> Option<Vec<u8>> {
    let (header, size) = extent(session)?;
    let content = session.get(header..header + size)?;
    let mut at = 0;
    while *content.get(at)? != ALPN_SELECTED {
        let (header, size) = extent(content.get(at..)?)?;
        at += header + size;
    }
    let altered = [&content[..at], &MAX_EARLY_DATA, &content[at..]].concat();
    let size = u16::try_from(altered.len()).ok()?.to_be_bytes();
    Some([&[0x30, 0x82], &size[..], &altered].concat())
}

#[test]
fn early_data_that_is_sent_all_the_same_is_not_processed() -> Rigged<()> {
    let front = Front::open()?;
    let place = |name: &str| front.ground.scratch.join(name).display().to_string();
    let [kept, der, claiming, early] = ["kept", "der", "claiming", "early"].map(place);
    let args = [&ALPN[..], &["-tls1_3", "-sess_out", &kept]].concat();
    assert_eq!(front.raw_with(&args, REQUEST.as_bytes())?.status(), 200);

    let convert = |args: &[&str]| succeed(Command::new("openssl").arg("sess_id").args(args));
    convert(&["-in", &kept, "-outform", "DER", "-out", &der])?;
    let altered = with_early_data(&fs::read(&der)?)
        .ok_or_else(|| RigError("openssl's session has no ALPN protocol".to_owned()))?;
    fs::write(&der, altered)?;
    convert(&["-inform", "DER", "-in", &der, "-out", &claiming])?;
    fs::write(&early, EARLY)?;

    let args = [
        "-alpn",
        "http/1.1",
        "-tls1_3",
        "-ign_eof",
        "-sess_in",
        &claiming,
        "-early_data",
        &early,
    ];
    let answer = front.raw_with(&args, REQUEST.as_bytes())?;
    assert!(
        answer.text.contains("Early data was rejected"),
        "{answer:?}"
    );
    assert_eq!(answer.text.matches("HTTP/1.1 200").count(), 1, "{answer:?}");
    let heard = front.heard()?;
    assert_eq!(heard, ["GET /public HTTP/1.1"; 2]);
    Ok(())
}
