//! What only the kernel's routing side knows, asked over rtnetlink: which XDP program an interface
//! runs, which addresses this host has, and through whom it reaches the rest of the world.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteVia},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What the kernel says is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XdpOnInterface {
    pub(crate) program_id: u32,
    pub(crate) native: bool,
}

/// The XDP program of the interface with this index in the caller's network namespace.
pub(crate) fn xdp_on(ifindex: u32) -> io::Result<Option<XdpOnInterface>> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    for answer in ask(RouteNetlinkMessage::GetLink(request), 0)? {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            return Ok(link.attributes.iter().find_map(xdp_attribute));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "an answer that is no link",
    ))
}

/// The addresses of all interfaces in the caller's network namespace.
///
/// # Errors
/// When the kernel can't be asked.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut addresses = Vec::new();
    for answer in ask(request, NLM_F_DUMP)? {
        let RouteNetlinkMessage::NewAddress(message) = answer else {
            continue;
        };
        // On a point-to-point link `Address` is the other end, which is as good as a gateway.
        let found = message.attributes.iter().filter_map(|fact| match fact {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        addresses.extend(found);
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The gateways of all default routes in the caller's network namespace.
///
/// # Errors
/// When the kernel can't be asked.
pub fn default_gateways() -> io::Result<Vec<IpAddr>> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let mut gateways = Vec::new();
    for answer in ask(request, NLM_F_DUMP)? {
        let RouteNetlinkMessage::NewRoute(route) = answer else {
            continue;
        };
        if route.header.destination_prefix_length > 0 {
            continue;
        }
        for fact in &route.attributes {
            match fact {
                RouteAttribute::MultiPath(hops) => {
                    let facts = hops.iter().flat_map(|hop| &hop.attributes);
                    gateways.extend(facts.filter_map(gateway));
                }
                fact => gateways.extend(gateway(fact)),
            }
        }
    }
    gateways.sort_unstable();
    gateways.dedup();
    Ok(gateways)
}

fn gateway(fact: &RouteAttribute) -> Option<IpAddr> {
    match fact {
        RouteAttribute::Gateway(RouteAddress::Inet(address))
        | RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(address))
        | RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

/// Everything the kernel answers to one request.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let unreadable = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| unreadable(error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(answers),
                other => return Err(unreadable(format!("an unexpected answer: {other:?}"))),
            }
            if flags & NLM_F_DUMP == 0 {
                return Ok(answers);
            }
            // Messages are aligned to four bytes (`NLMSG_ALIGN`).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
    }
}

fn xdp_attribute(attribute: &LinkAttribute) -> Option<XdpOnInterface> {
    let LinkAttribute::Xdp(facts) = attribute else {
        return None;
    };
    let program_id = facts.iter().find_map(|fact| match fact {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    })?;
    let native = facts
        .iter()
        .any(|fact| matches!(fact, LinkXdp::Attached(XdpAttached::Driver)));
    Some(XdpOnInterface { program_id, native })
}
