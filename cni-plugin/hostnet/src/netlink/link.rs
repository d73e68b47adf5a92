//! Links: requests and readings.

use super::uapi::{
    AF_INET, AF_UNSPEC, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_GROUP, IFLA_IFALIAS,
    IFLA_IFNAME, IFLA_INET_CONF, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU,
    IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, IPV4_DEVCONF_RP_FILTER, NLM_F_CREATE, NLM_F_EXCL,
    RTEXT_FILTER_SKIP_STATS, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK, VETH_INFO_PEER,
};
use super::wire::{Attr, Message, attrs, u32_at};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Length of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;

/// A link as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: u32,
    pub(crate) alias: String,
    pub(crate) group: u32,
    /// `veth`, `vlan` …; empty for hardware.
    pub(crate) kind: String,
    /// Index of the peer or lower device.
    pub(crate) peer: Option<u32>,
    /// The device's own rp_filter.
    pub(crate) rp_filter: Option<u32>,
}

/// How to find one link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'a> {
    /// By name.
    Name(&'a str),
    /// By index.
    Index(u32),
}

/// Both ends of a veth pair.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: [u8; 6],
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: [u8; 6],
    pub(crate) peer_netns: BorrowedFd<'a>,
    pub(crate) mtu: u32,
}

fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[0] = AF_UNSPEC;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn addressed(kind: u16, key: Key<'_>, flags: u32, change: u32) -> Message {
    match key {
        Key::Name(name) => Message::new(kind, 0).raw(&header(0, flags, change)).text(IFLA_IFNAME, name),
        Key::Index(index) => Message::new(kind, 0).raw(&header(index, flags, change)),
    }
}

/// Makes a veth pair, each end born in its own namespace.
///
/// *Why one queue*: the default of one per processor makes the kernel wait for an RCU grace period.
pub(crate) fn create_veth(pair: &VethPair<'_>) -> Message {
    let (mtu, one) = (pair.mtu, 1);
    Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
        .raw(&header(0, 0, 0))
        .text(IFLA_IFNAME, pair.name)
        .attr(IFLA_ADDRESS, &pair.mac)
        .u32(IFLA_MTU, mtu)
        .u32(IFLA_NUM_TX_QUEUES, one)
        .u32(IFLA_NUM_RX_QUEUES, one)
        .nest(IFLA_LINKINFO, |info| {
            info.attr(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&header(0, 0, 0))
                        .text(IFLA_IFNAME, pair.peer_name)
                        .attr(IFLA_ADDRESS, &pair.peer_mac)
                        .u32(IFLA_MTU, mtu)
                        .u32(IFLA_NUM_TX_QUEUES, one)
                        .u32(IFLA_NUM_RX_QUEUES, one)
                        .attr(IFLA_NET_NS_FD, &pair.peer_netns.as_raw_fd().to_ne_bytes())
                })
            })
        })
}

/// Asks for one link.
pub(crate) fn get(key: Key<'_>) -> Message {
    addressed(RTM_GETLINK, key, 0, 0).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
}

/// Asks for all links, or for those of one kind.
pub(crate) fn list(kind: Option<&str>) -> Message {
    let message =
        Message::new(RTM_GETLINK, 0).raw(&header(0, 0, 0)).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    match kind {
        Some(kind) => message.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, kind)),
        None => message,
    }
}

/// Sets a link up.
pub(crate) fn set_up(key: Key<'_>) -> Message {
    addressed(RTM_SETLINK, key, IFF_UP, IFF_UP)
}

/// Sets a link's alias.
pub(crate) fn set_alias(key: Key<'_>, alias: &str) -> Message {
    addressed(RTM_SETLINK, key, 0, 0).attr(IFLA_IFALIAS, alias.as_bytes())
}

/// Moves a link to another group.
pub(crate) fn set_group(index: u32, group: u32) -> Message {
    addressed(RTM_SETLINK, Key::Index(index), 0, 0).u32(IFLA_GROUP, group)
}

/// Sets a link's MTU.
pub(crate) fn set_mtu(index: u32, mtu: u32) -> Message {
    addressed(RTM_SETLINK, Key::Index(index), 0, 0).u32(IFLA_MTU, mtu)
}

/// Sets a link's own rp_filter. *Why netlink*: /proc/sys may be read-only where the daemon runs.
pub(crate) fn set_rp_filter(index: u32, value: u32) -> Message {
    addressed(RTM_SETLINK, Key::Index(index), 0, 0).nest(IFLA_AF_SPEC, |spec| {
        spec.nest(u16::from(AF_INET), |inet| {
            inet.nest(IFLA_INET_CONF, |conf| conf.u32(IPV4_DEVCONF_RP_FILTER, value))
        })
    })
}

/// Deletes one link.
pub(crate) fn delete(key: Key<'_>) -> Message {
    addressed(RTM_DELLINK, key, 0, 0)
}

/// Deletes every link of a group: whoever put it there.
pub(crate) fn delete_group(group: u32) -> Message {
    Message::new(RTM_DELLINK, 0).raw(&header(0, 0, 0)).u32(IFLA_GROUP, group)
}

/// Reads a link out of an answer; `None` when it is something else.
pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Link> {
    if !matches!(kind, RTM_NEWLINK | RTM_DELLINK) {
        return None;
    }
    let mut link =
        Link { index: u32_at(payload, 4)?, up: u32_at(payload, 8)? & IFF_UP != 0, ..Link::default() };
    for attr in attrs(payload.get(HEADER_LEN..)?) {
        match attr.kind {
            IFLA_IFNAME => attr.text().unwrap_or_default().clone_into(&mut link.name),
            IFLA_ADDRESS => link.mac = attr.payload.try_into().ok(),
            IFLA_MTU => link.mtu = attr.u32()?,
            IFLA_IFALIAS => attr.text().unwrap_or_default().clone_into(&mut link.alias),
            IFLA_GROUP => link.group = attr.u32()?,
            IFLA_LINK => link.peer = attr.u32(),
            IFLA_LINKINFO => {
                let name = attr.nested().find(|a| a.kind == IFLA_INFO_KIND).and_then(Attr::text);
                name.unwrap_or_default().clone_into(&mut link.kind);
            }
            IFLA_AF_SPEC => link.rp_filter = rp_filter(attr),
            _ => {}
        }
    }
    Some(link)
}

/// The kernel reports a device's IPv4 settings as an array of numbers, the first setting at index 0.
fn rp_filter(spec: Attr<'_>) -> Option<u32> {
    let inet = spec.nested().find(|a| a.kind == u16::from(AF_INET))?;
    let conf = inet.nested().find(|a| a.kind == IFLA_INET_CONF)?;
    u32_at(conf.payload, usize::from(IPV4_DEVCONF_RP_FILTER - 1) * 4)
}
