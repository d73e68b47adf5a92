//! Neighbour entries: requests and readings.

use super::uapi::{
    NDA_DST, NDA_LLADDR, NLM_F_CREATE, NLM_F_REPLACE, NUD_PERMANENT, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH,
};
use super::wire::{Message, attrs, u16_at, u32_at};
use super::{address, family, octets};
use std::net::IpAddr;

/// Length of `struct ndmsg`.
const HEADER_LEN: usize = 12;

/// A neighbour on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) device: u32,
    pub(crate) address: IpAddr,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) permanent: bool,
}

fn header(family: u8, device: u32, state: u16) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&device.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

/// Adds a permanent entry.
pub(crate) fn permanent(device: u32, ip: IpAddr, mac: [u8; 6]) -> Message {
    Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)
        .raw(&header(family(ip), device, NUD_PERMANENT))
        .attr(NDA_DST, &octets(ip))
        .attr(NDA_LLADDR, &mac)
}

/// Removes an entry.
pub(crate) fn delete(device: u32, ip: IpAddr) -> Message {
    Message::new(RTM_DELNEIGH, 0).raw(&header(family(ip), device, 0)).attr(NDA_DST, &octets(ip))
}

/// Asks for all entries of a family.
pub(crate) fn list(family: u8) -> Message {
    Message::new(RTM_GETNEIGH, 0).raw(&header(family, 0, 0))
}

/// Reads an entry out of an answer.
pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Neighbour> {
    if kind != RTM_NEWNEIGH {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attr in attrs(payload.get(HEADER_LEN..)?) {
        match attr.kind {
            NDA_DST => ip = address(attr.payload),
            NDA_LLADDR => mac = attr.payload.try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour {
        device: u32_at(payload, 4)?,
        address: ip?,
        mac,
        permanent: u16_at(payload, 8)? & NUD_PERMANENT != 0,
    })
}
