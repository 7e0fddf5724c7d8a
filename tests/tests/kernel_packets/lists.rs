//! What is trusted, blocked and banned while the rows run, and where each range begins and ends.

use datapath::{Claim, ListId, Truth, boot_ns};
use portcullis_tests::frames::{
    IPV4, IPV6, IPV6_INSIDE, UDP, US_V4, ethernet, ipv4, ipv6, mapped, udp,
};
use proxy_common::Reason::{self, Banned, Blocked, Clean, Trusted};

use crate::{Row, row};

const BANS: ListId = 0;
const FEED: ListId = 1;
const ALLOW: ListId = 2;

pub(crate) const UNLISTED_V4: [u8; 4] = [100, 64, 9, 9];
pub(crate) const BLOCKED_V4: [u8; 4] = [198, 51, 100, 7];
pub(crate) const TRUSTED_V4: [u8; 4] = [192, 0, 2, 9];
pub(crate) const BANNED_V4: [u8; 4] = [198, 51, 100, 101];
pub(crate) const BAN_ENDED_V4: [u8; 4] = [198, 51, 100, 102];

pub(crate) const UNLISTED_V6: [u16; 8] = [0x2001, 0xdb8, 9, 0, 0, 0, 0, 9];
pub(crate) const BLOCKED_V6: [u16; 8] = [0x2001, 0xdb8, 1, 0, 0, 0, 0, 7];
pub(crate) const TRUSTED_V6: [u16; 8] = [0x2001, 0xdba, 7, 0, 0, 0, 0, 1];
pub(crate) const BANNED_V6: [u16; 8] = [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x101];
pub(crate) const BAN_ENDED_V6: [u16; 8] = [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x102];

/// The lists that hold while the rows run.
pub(crate) fn truth() -> Truth {
    let forever = Claim::BLOCKED;
    let now_ns = boot_ns();
    let an_hour = Claim::until(now_ns + 3_600_000_000_000);
    let ended = Claim::until(now_ns);
    let claims = [
        ("198.51.100.7/32", FEED, forever),
        ("203.0.113.0/24", FEED, forever),
        ("203.0.113.64/26", ALLOW, Claim::Trusted),
        ("198.18.0.0/16", FEED, forever),
        ("192.0.2.0/24", ALLOW, Claim::Trusted),
        ("192.0.2.66/32", FEED, forever),
        ("192.0.2.67/32", BANS, an_hour),
        ("198.51.100.101/32", BANS, an_hour),
        ("198.51.100.102/32", BANS, ended),
        ("198.51.100.128/25", BANS, an_hour),
        ("198.51.100.129/32", BANS, ended),
        ("203.0.113.9/32", BANS, an_hour),
        ("203.0.113.10/32", BANS, ended),
        ("2001:db8:1::7/128", FEED, forever),
        ("2001:db8:0:64::/64", FEED, forever),
        ("2001:db8:48::/48", FEED, forever),
        ("2001:dba::/32", FEED, forever),
        ("2001:dba:7::/48", ALLOW, Claim::Trusted),
        ("2001:dba:7::bad/128", FEED, forever),
        ("2001:db8:1::101/128", BANS, an_hour),
        ("2001:db8:1::102/128", BANS, ended),
        ("fe80::bad/128", FEED, forever),
    ];
    let mut truth = Truth::default();
    for (prefix, list, claim) in claims {
        truth.set(prefix.parse().expect("a prefix"), list, Some(claim));
    }
    truth
}

pub(crate) fn datagram_v4(source: [u8; 4]) -> Vec<u8> {
    ethernet(IPV4, &ipv4(source, UDP, &udp(b"hello")))
}

pub(crate) fn datagram_v6(source: [u16; 8]) -> Vec<u8> {
    ethernet(IPV6, &ipv6(source, UDP, &udp(b"hello")))
}

/// A row on a source address alone.
fn from_v4(sentence: &'static str, source: [u8; 4], expected: Reason) -> Row {
    row(sentence, datagram_v4(source), expected)
}

fn from_v6(sentence: &'static str, source: [u16; 8], expected: Reason) -> Row {
    row(sentence, datagram_v6(source), expected)
}

#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Row> {
    const F: u16 = 0xffff;
    vec![
        from_v4("the address before a blocked IPv4 address passes", [198, 51, 100, 6], Clean),
        from_v4("a blocked IPv4 address is dropped", [198, 51, 100, 7], Blocked),
        from_v4("the address after a blocked IPv4 address passes", [198, 51, 100, 8], Clean),
        from_v4("the address before a blocked IPv4 /24 passes", [203, 0, 112, 255], Clean),
        from_v4("the first address of a blocked IPv4 /24 is dropped", [203, 0, 113, 0], Blocked),
        from_v4("the last address of a blocked IPv4 /24 is dropped", [203, 0, 113, 255], Blocked),
        from_v4("the address after a blocked IPv4 /24 passes", [203, 0, 114, 0], Clean),
        from_v4("the address before a blocked IPv4 /16 passes", [198, 17, 255, 255], Clean),
        from_v4("the first address of a blocked IPv4 /16 is dropped", [198, 18, 0, 0], Blocked),
        from_v4("the last address of a blocked IPv4 /16 is dropped", [198, 18, 255, 255], Blocked),
        from_v4("the address after a blocked IPv4 /16 passes", [198, 19, 0, 0], Clean),

        from_v4("the address before a trusted hole in a blocked IPv4 range is dropped", [203, 0, 113, 63], Blocked),
        from_v4("the first address of a trusted hole in a blocked IPv4 range passes", [203, 0, 113, 64], Trusted),
        from_v4("the last address of a trusted hole in a blocked IPv4 range passes", [203, 0, 113, 127], Trusted),
        from_v4("the address after a trusted hole in a blocked IPv4 range is dropped", [203, 0, 113, 128], Blocked),
        from_v4("an IPv4 address in a trusted range passes", TRUSTED_V4, Trusted),
        from_v4("a blocked IPv4 address inside a trusted range passes", [192, 0, 2, 66], Trusted),
        from_v4("a banned IPv4 address inside a trusted range passes", [192, 0, 2, 67], Trusted),

        from_v4("an IPv4 address is dropped while its ban runs", BANNED_V4, Banned),
        from_v4("an IPv4 address passes once its ban has ended, though nobody removed it", BAN_ENDED_V4, Clean),
        from_v4("a banned IPv4 range drops its first address", [198, 51, 100, 128], Banned),
        from_v4("an ended ban inside a running one doesn't end that", [198, 51, 100, 129], Banned),
        from_v4("a ban inside a blocked range is a block", [203, 0, 113, 9], Blocked),
        from_v4("an ended ban inside a blocked range doesn't end the block", [203, 0, 113, 10], Blocked),

        from_v6("the address before a blocked IPv6 address passes", [0x2001, 0xdb8, 1, 0, 0, 0, 0, 6], Clean),
        from_v6("a blocked IPv6 address is dropped", [0x2001, 0xdb8, 1, 0, 0, 0, 0, 7], Blocked),
        from_v6("the address after a blocked IPv6 address passes", [0x2001, 0xdb8, 1, 0, 0, 0, 0, 8], Clean),
        from_v6("the address before a blocked IPv6 /64 passes", [0x2001, 0xdb8, 0, 0x63, F, F, F, F], Clean),
        from_v6("the first address of a blocked IPv6 /64 is dropped", [0x2001, 0xdb8, 0, 0x64, 0, 0, 0, 0], Blocked),
        from_v6("the last address of a blocked IPv6 /64 is dropped", [0x2001, 0xdb8, 0, 0x64, F, F, F, F], Blocked),
        from_v6("the address after a blocked IPv6 /64 passes", [0x2001, 0xdb8, 0, 0x65, 0, 0, 0, 0], Clean),
        from_v6("the address before a blocked IPv6 /48 passes", [0x2001, 0xdb8, 0x47, F, F, F, F, F], Clean),
        from_v6("the first address of a blocked IPv6 /48 is dropped", [0x2001, 0xdb8, 0x48, 0, 0, 0, 0, 0], Blocked),
        from_v6("the last address of a blocked IPv6 /48 is dropped", [0x2001, 0xdb8, 0x48, F, F, F, F, F], Blocked),
        from_v6("the address after a blocked IPv6 /48 passes", [0x2001, 0xdb8, 0x49, 0, 0, 0, 0, 0], Clean),
        from_v6("the address before a blocked IPv6 /32 passes", [0x2001, 0xdb9, F, F, F, F, F, F], Clean),
        from_v6("the first address of a blocked IPv6 /32 is dropped", [0x2001, 0xdba, 0, 0, 0, 0, 0, 0], Blocked),
        from_v6("the last address of a blocked IPv6 /32 is dropped", [0x2001, 0xdba, F, F, F, F, F, F], Blocked),
        from_v6("the address after a blocked IPv6 /32 passes", [0x2001, 0xdbb, 0, 0, 0, 0, 0, 0], Clean),

        from_v6("the address before a trusted hole in a blocked IPv6 range is dropped", [0x2001, 0xdba, 6, F, F, F, F, F], Blocked),
        from_v6("the first address of a trusted hole in a blocked IPv6 range passes", [0x2001, 0xdba, 7, 0, 0, 0, 0, 0], Trusted),
        from_v6("the last address of a trusted hole in a blocked IPv6 range passes", [0x2001, 0xdba, 7, F, F, F, F, F], Trusted),
        from_v6("the address after a trusted hole in a blocked IPv6 range is dropped", [0x2001, 0xdba, 8, 0, 0, 0, 0, 0], Blocked),
        from_v6("a blocked IPv6 address inside a trusted range passes", [0x2001, 0xdba, 7, 0, 0, 0, 0, 0xbad], Trusted),
        from_v6("an IPv6 address is dropped while its ban runs", BANNED_V6, Banned),
        from_v6("an IPv6 address passes once its ban has ended, though nobody removed it", BAN_ENDED_V6, Clean),

        from_v6("a blocked IPv4 address written as v4-mapped IPv6 is dropped", mapped(BLOCKED_V4), Blocked),
        from_v6("a banned IPv4 address written as v4-mapped IPv6 is dropped", mapped(BANNED_V4), Banned),
        from_v6("a trusted IPv4 address written as v4-mapped IPv6 passes", mapped(TRUSTED_V4), Trusted),
        from_v6("an unlisted IPv4 address written as v4-mapped IPv6 passes", mapped(UNLISTED_V4), Clean),
        from_v6("an IPv6 address that merely ends in a blocked IPv4 address passes", [0x2001, 0xdb8, 2, 0, 0, F, 0xc633, 0x6407], Clean),

        row(
            "6in4 from a blocked outer source is dropped, whoever is inside",
            ethernet(IPV4, &ipv4(BLOCKED_V4, IPV6_INSIDE, &ipv6(UNLISTED_V6, UDP, &udp(b"hello")))),
            Blocked,
        ),
        row(
            "6in4 is judged by its outer source although the inner one is blocked",
            ethernet(IPV4, &ipv4(UNLISTED_V4, IPV6_INSIDE, &ipv6(BLOCKED_V6, UDP, &udp(b"hello")))),
            Clean,
        ),
        row(
            "6in4 from a trusted outer source passes although the inner one is blocked",
            ethernet(IPV4, &ipv4(TRUSTED_V4, IPV6_INSIDE, &ipv6(BLOCKED_V6, UDP, &udp(b"hello")))),
            Trusted,
        ),
        row(
            "IPv4 inside IPv6 is judged by its outer source",
            ethernet(IPV6, &ipv6(BLOCKED_V6, 4, &ipv4(UNLISTED_V4, UDP, &udp(b"hello")))),
            Blocked,
        ),
        from_v4("a packet that claims to come from ourselves is nobody special", US_V4, Clean),
        from_v4("a DHCP client's source, 0.0.0.0, is unlisted", [0, 0, 0, 0], Clean),
    ]
}
