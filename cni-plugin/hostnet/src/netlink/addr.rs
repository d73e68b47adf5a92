//! Interface addresses: requests and readings.

use super::uapi::{
    IFA_ADDRESS, IFA_F_NOPREFIXROUTE, IFA_FLAGS, IFA_LOCAL, NLM_F_CREATE, NLM_F_REPLACE, RT_SCOPE_UNIVERSE,
    RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR,
};
use super::wire::{Message, attrs, u32_at};
use super::{address, family, octets};
use std::net::IpAddr;

/// Length of `struct ifaddrmsg`.
const HEADER_LEN: usize = 8;

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix_len: u8,
    pub(crate) scope: u8,
    pub(crate) flags: u32,
}

fn header(family: u8, prefix_len: u8, scope: u8, index: u32) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[0] = family;
    bytes[1] = prefix_len;
    bytes[3] = scope;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

fn body(kind: u16, flags: u16, index: u32, ip: IpAddr, prefix_len: u8) -> Message {
    let bytes = octets(ip);
    Message::new(kind, flags)
        .raw(&header(family(ip), prefix_len, RT_SCOPE_UNIVERSE, index))
        .attr(IFA_LOCAL, &bytes)
        .attr(IFA_ADDRESS, &bytes)
}

/// Adds an address. `prefix_route` asks the kernel for the route to its subnet in `main`.
pub(crate) fn add(index: u32, ip: IpAddr, prefix_len: u8, prefix_route: bool) -> Message {
    let message = body(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, ip, prefix_len);
    if prefix_route { message } else { message.u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE) }
}

/// Removes an address.
pub(crate) fn delete(index: u32, ip: IpAddr, prefix_len: u8) -> Message {
    body(RTM_DELADDR, 0, index, ip, prefix_len)
}

/// Asks for the addresses of one link.
pub(crate) fn list(family: u8, index: u32) -> Message {
    Message::new(RTM_GETADDR, 0).raw(&header(family, 0, 0, index))
}

/// Reads an address out of an answer.
pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Address> {
    if !matches!(kind, RTM_NEWADDR | RTM_DELADDR) {
        return None;
    }
    let (mut local, mut peer, mut flags) = (None, None, 0);
    for attr in attrs(payload.get(HEADER_LEN..)?) {
        match attr.kind {
            IFA_LOCAL => local = address(attr.payload),
            IFA_ADDRESS => peer = address(attr.payload),
            IFA_FLAGS => flags = attr.u32()?,
            _ => {}
        }
    }
    Some(Address {
        index: u32_at(payload, 4)?,
        address: local.or(peer)?,
        prefix_len: *payload.get(1)?,
        scope: *payload.get(3)?,
        flags,
    })
}
