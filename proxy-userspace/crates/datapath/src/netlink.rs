//! Which XDP program an interface runs, asked over rtnetlink.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
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
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetLink(request));
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (reply, _) = socket.recv_from_full()?;
    let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match reply.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            Ok(link.attributes.iter().find_map(xdp_attribute))
        }
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an answer that is no link: {other:?}"),
        )),
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
