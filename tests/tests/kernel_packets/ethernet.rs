//! What isn't IP, and VLAN tags in front of what is.

use portcullis_tests::frames::{
    ARP, CUSTOMER_TAG, IPV4, IPV6, LLDP, OLD_SERVICE_TAG, SERVICE_TAG, UDP, US_V4, arp_request,
    cut, ethernet, ipv4, ipv6, padded, udp, vlan,
};
use proxy_common::Reason::{Blocked, Clean, Malformed, NotIp, Trusted, VlanTooDeep};

use crate::{
    Row,
    lists::{BLOCKED_V4, BLOCKED_V6, TRUSTED_V4, UNLISTED_V4},
    row,
};

/// A spanning-tree hello behind its LLC header (IEEE 802.1D, 9.3.1).
const SPANNING_TREE: [u8; 38] = {
    let mut bytes = [0; 38];
    (bytes[0], bytes[1], bytes[2]) = (0x42, 0x42, 0x03);
    bytes
};

#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Row> {
    let unlisted = ipv4(UNLISTED_V4, UDP, &udp(b"hello"));
    let blocked = ipv4(BLOCKED_V4, UDP, &udp(b"hello"));
    let trusted = ipv4(TRUSTED_V4, UDP, &udp(b"hello"));
    let blocked_v6 = ipv6(BLOCKED_V6, UDP, &udp(b"hello"));
    vec![
        row("ARP passes, also from a blocked address", padded(ethernet(ARP, &arp_request(BLOCKED_V4, US_V4))), NotIp),
        row("ARP behind a VLAN tag passes", ethernet(CUSTOMER_TAG, &vlan(7, ARP, &arp_request(UNLISTED_V4, US_V4))), NotIp),
        row("ARP behind two VLAN tags passes", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, ARP, &arp_request(UNLISTED_V4, US_V4)))), NotIp),
        row("LLDP passes", padded(ethernet(LLDP, &[0x02, 0x07, 0x04, 2, 0, 0, 0, 0, 2])), NotIp),
        row("an 802.3 frame, whose type is a length, passes", padded(ethernet(38, &SPANNING_TREE)), NotIp),
        row("an 802.3 frame as long as a length can say passes", ethernet(1500, &[0xaa; 1500]), NotIp),
        row("a frame of an EtherType nobody knows passes", ethernet(0xffff, &[]), NotIp),
        row("an Ethernet header alone that announces IPv4 is malformed", ethernet(IPV4, &[]), Malformed),
        row("an Ethernet header alone that announces IPv6 is malformed", ethernet(IPV6, &[]), Malformed),
        row("an Ethernet header alone that announces a VLAN tag is malformed", ethernet(CUSTOMER_TAG, &[]), Malformed),

        row("IPv4 behind a customer VLAN tag is judged", ethernet(CUSTOMER_TAG, &vlan(7, IPV4, &unlisted)), Clean),
        row("a blocked source behind a customer VLAN tag is dropped", ethernet(CUSTOMER_TAG, &vlan(7, IPV4, &blocked)), Blocked),
        row("a blocked source behind a priority tag, VLAN 0, is dropped", ethernet(CUSTOMER_TAG, &vlan(0xe000, IPV4, &blocked)), Blocked),
        row("a blocked source behind a service VLAN tag is dropped", ethernet(SERVICE_TAG, &vlan(7, IPV4, &blocked)), Blocked),
        row("a blocked source behind a tag of the old type 0x9100 is dropped", ethernet(OLD_SERVICE_TAG, &vlan(7, IPV4, &blocked)), Blocked),
        row("a blocked IPv6 source behind a VLAN tag is dropped", ethernet(CUSTOMER_TAG, &vlan(7, IPV6, &blocked_v6)), Blocked),
        row("a trusted source behind a VLAN tag passes", ethernet(CUSTOMER_TAG, &vlan(7, IPV4, &trusted)), Trusted),
        row("a blocked source behind two VLAN tags is dropped", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &blocked))), Blocked),
        row("a blocked source behind two customer tags is dropped", ethernet(CUSTOMER_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &blocked))), Blocked),
        row("a blocked IPv6 source behind two VLAN tags is dropped", ethernet(OLD_SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV6, &blocked_v6))), Blocked),
        row("an unlisted source behind two VLAN tags passes", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &unlisted))), Clean),
        row("three VLAN tags are too many", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, CUSTOMER_TAG, &vlan(9, IPV4, &unlisted)))), VlanTooDeep),
        row("three VLAN tags are too many for a trusted source too", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, CUSTOMER_TAG, &vlan(9, IPV4, &trusted)))), VlanTooDeep),
        row("three VLAN tags are too many for ARP too", ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, CUSTOMER_TAG, &vlan(9, ARP, &arp_request(UNLISTED_V4, US_V4))))), VlanTooDeep),

        row("a VLAN tag cut off before its inner type is malformed", cut(ethernet(CUSTOMER_TAG, &vlan(7, IPV4, &unlisted)), 16), Malformed),
        row("a VLAN tag cut off inside its inner type is malformed", cut(ethernet(CUSTOMER_TAG, &vlan(7, IPV4, &unlisted)), 17), Malformed),
        row("a second VLAN tag cut off before its inner type is malformed", cut(ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &unlisted))), 20), Malformed),
        row("IPv4 cut off behind two VLAN tags is malformed", cut(ethernet(SERVICE_TAG, &vlan(7, CUSTOMER_TAG, &vlan(8, IPV4, &unlisted))), 22 + 19), Malformed),
    ]
}
