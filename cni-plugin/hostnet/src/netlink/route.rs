//! Routes: requests and readings.

use super::uapi::{
    NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RTA_DST,
    RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE,
    RTN_BLACKHOLE, RTN_PROHIBIT, RTN_THROW, RTN_UNICAST, RTN_UNREACHABLE, RTNH_F_ONLINK,
};
use super::wire::{Message, attrs};
use super::{address, family, host_bits, octets};
use crate::numbers::PROTOCOL;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of `struct rtmsg`.
const HEADER_LEN: usize = 12;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) table: u32,
    pub(crate) destination: IpNetwork,
    pub(crate) gateway: Option<IpAddr>,
    /// 0 where it leads to no device, or to several.
    pub(crate) device: u32,
    /// `RTN_UNICAST`, or what becomes of a packet instead of being sent on.
    pub(crate) kind: u8,
    pub(crate) protocol: u8,
    pub(crate) metric: u32,
    pub(crate) source: Option<IpAddr>,
    /// The gateway is reachable through the device whatever the tables say.
    pub(crate) onlink: bool,
}

impl Route {
    /// A route of ours.
    pub(crate) fn ours(table: u32, destination: IpNetwork, gateway: Option<IpAddr>, device: u32) -> Self {
        Self {
            table,
            destination,
            gateway,
            device,
            kind: RTN_UNICAST,
            protocol: PROTOCOL,
            metric: 0,
            source: None,
            onlink: gateway.is_some(),
        }
    }

    /// A route of ours to one address on the device itself.
    pub(crate) fn host(table: u32, address: IpAddr, device: u32) -> Self {
        Self::ours(table, host_net(address), None, device)
    }

    /// Whether packets are sent on through one device.
    pub(crate) fn leads_on(&self) -> bool {
        self.kind == RTN_UNICAST && self.device != 0
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            RTN_UNICAST => {}
            RTN_BLACKHOLE => f.write_str("blackhole ")?,
            RTN_UNREACHABLE => f.write_str("unreachable ")?,
            RTN_PROHIBIT => f.write_str("prohibit ")?,
            RTN_THROW => f.write_str("throw ")?,
            other => write!(f, "of type {other} ")?,
        }
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " in table {}", self.table)
    }
}

/// The network that holds one address.
pub(crate) fn host_net(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// The network that holds every address of the family.
pub(crate) fn everything(like: IpAddr) -> IpNetwork {
    let zero = match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNetwork::new(zero, 0).expect("0 is a prefix length of every family")
}

fn header(route: &Route, scope: u8) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[0] = family(route.destination.ip());
    bytes[1] = route.destination.prefix();
    // Tables above 255 are named by an attribute alone.
    bytes[4] = u8::try_from(route.table).unwrap_or(0);
    bytes[5] = route.protocol;
    bytes[6] = scope;
    bytes[7] = route.kind;
    let flags = if route.onlink { RTNH_F_ONLINK } else { 0 };
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn body(kind: u16, flags: u16, route: &Route) -> Message {
    let destination = route.destination;
    let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
    // One that leads nowhere has none of its own.
    let scope = if route.leads_on() { scope } else { RT_SCOPE_NOWHERE };
    let target = (destination.prefix() > 0).then(|| octets(destination.network()));
    let gateway = route.gateway.map(octets);
    let source = route.source.map(octets);
    let message = Message::new(kind, flags)
        .raw(&header(route, scope))
        .u32(RTA_TABLE, route.table)
        .maybe(RTA_DST, target.as_deref())
        .maybe(RTA_GATEWAY, gateway.as_deref())
        .maybe(RTA_PREFSRC, source.as_deref())
        .u32(RTA_OIF, route.device);
    if route.metric == 0 { message } else { message.u32(RTA_PRIORITY, route.metric) }
}

/// Adds a route, in the place of one to the same destination.
pub(crate) fn replace(route: &Route) -> Message {
    body(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route)
}

/// Adds a route unless there is one to the same destination.
pub(crate) fn add(route: &Route) -> Message {
    body(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route)
}

/// Removes exactly this route.
pub(crate) fn delete(route: &Route) -> Message {
    body(RTM_DELROUTE, 0, route)
}

/// Asks for the routes of one table.
pub(crate) fn list(family: u8, table: u32) -> Message {
    let mut head = [0; HEADER_LEN];
    head[0] = family;
    head[4] = u8::try_from(table).unwrap_or(0);
    Message::new(RTM_GETROUTE, 0).raw(&head).u32(RTA_TABLE, table)
}

/// Reads a route out of an answer.
pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<Route> {
    if !matches!(kind, RTM_NEWROUTE | RTM_DELROUTE) {
        return None;
    }
    let mut table = u32::from(*payload.get(4)?);
    let (mut destination, mut gateway, mut device, mut metric, mut source) = (None, None, None, 0, None);
    for attr in attrs(payload.get(HEADER_LEN..)?) {
        match attr.kind {
            RTA_TABLE => table = attr.u32()?,
            RTA_DST => destination = address(attr.payload),
            RTA_GATEWAY => gateway = address(attr.payload),
            RTA_PREFSRC => source = address(attr.payload),
            RTA_OIF => device = attr.u32(),
            RTA_PRIORITY => metric = attr.u32()?,
            _ => {}
        }
    }
    let zero = if *payload.first()? == super::uapi::AF_INET {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let destination = IpNetwork::new(destination.unwrap_or(zero), *payload.get(1)?).ok()?;
    Some(Route {
        table,
        destination,
        gateway,
        device: device.unwrap_or(0),
        kind: *payload.get(7)?,
        protocol: *payload.get(5)?,
        metric,
        source,
        onlink: false,
    })
}

/// Whether a network holds exactly one address.
pub(crate) fn is_host(net: IpNetwork) -> bool {
    net.prefix() == host_bits(net.ip())
}
