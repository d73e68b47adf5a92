//! Comparing a pod's interface with what it should be. Changes nothing.

use super::{PodNet, del, find, way};
use crate::error::{During, HostError};
use crate::names::Attachment;
use crate::netlink::link::{Key, Link};
use crate::netlink::route::{self, Route};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::{AF_INET, AF_UNSPEC};
use crate::netlink::{addr, neigh};
use crate::numbers::{EniSlot, GROUP_BATCH, TABLE_MAIN, TABLE_PODS};
use crate::plan::{Layout, pod as plan};
use std::net::IpAddr;

/// What a pod's interface is compared with.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Whose it is; its interface name is the one inside the pod.
    pub attachment: &'a Attachment,
    /// Names its host end may have. Each is only a guess: what decides is whose the link says it is.
    pub host_ifnames: &'a [String],
    /// The pod's addresses.
    pub addresses: &'a [IpAddr],
    /// How packets come and go; not looked at where nobody can say.
    pub way: Option<Way>,
}

/// By which ENI a pod's packets leave, and how they find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The ENI that carries the addresses.
    pub slot: EniSlot,
    /// How pods are found and find their way.
    pub layout: Layout,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Seen {
    /// The host end, where it is there.
    pub host: Option<End>,
    /// The pod's end, where it is there.
    pub pod: Option<End>,
    /// What differs, in words; empty when all is well.
    pub differences: Vec<String>,
}

/// One end of the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Option<[u8; 6]>,
}

impl From<&Link> for End {
    fn from(link: &Link) -> Self {
        Self { name: link.name.clone(), mac: link.mac }
    }
}

/// Looks for everything that ADD made and the daemon keeps.
///
/// MTU and further addresses, routes and settings are not looked at: a plugin later in the chain may change them. What the
/// ends should be called and which MACs they should have, ADD's last result says.
///
/// # Errors
/// The kernel cannot be asked.
pub fn check(net: &mut PodNet, expected: &Expected<'_>) -> Result<Seen, HostError> {
    let mut seen = Seen::default();
    host_side(&mut net.host, expected, &mut seen)?;
    if let Some(way) = expected.way {
        way::check(&mut net.host, expected.addresses, way, &mut seen.differences)?;
    }
    pod_side(&mut net.pod, expected, &mut seen)?;
    Ok(seen)
}

fn host_side(host: &mut Socket, expected: &Expected<'_>, seen: &mut Seen) -> Result<(), HostError> {
    let Some(link) = del::locate(host, expected.host_ifnames, expected.attachment)? else {
        let name = expected.host_ifnames.first().map_or("", String::as_str);
        seen.differences.push(format!("host interface {name} is missing, or another's"));
        return Ok(());
    };
    seen.host = Some(End::from(&link));
    let (name, alias, differences) = (&link.name, expected.attachment.alias(), &mut seen.differences);
    if link.alias != alias {
        differences.push(format!("host interface {name} has alias {:?} instead of {alias:?}", link.alias));
    }
    if !link.up {
        differences.push(format!("host interface {name} is down"));
    }
    if link.group == GROUP_BATCH {
        differences.push(format!("host interface {name} waits for its deletion"));
    }
    for table in [TABLE_PODS, TABLE_MAIN] {
        let routes = routes(host, table)?;
        let leads = |address: &IpAddr| {
            routes.iter().any(|r| r.destination == route::host_net(*address) && r.device == link.index)
        };
        for address in expected.addresses.iter().filter(|a| !leads(a)) {
            differences.push(format!("table {table} does not lead {address} to {name}"));
        }
    }
    Ok(())
}

fn pod_side(pod: &mut Socket, expected: &Expected<'_>, seen: &mut Seen) -> Result<(), HostError> {
    let name = &expected.attachment.ifname;
    let Some(link) = find(pod, Key::Name(name))? else {
        seen.differences.push(format!("interface {name} is missing in the pod"));
        return Ok(());
    };
    seen.pod = Some(End::from(&link));
    let differences = &mut seen.differences;
    if !link.up {
        differences.push(format!("interface {name} is down"));
    }
    pod_addresses(pod, expected.addresses, &link, differences)?;
    let routes = routes(pod, TABLE_MAIN)?;
    for wanted in plan::pod_routes(name, link.index) {
        // Whatever its metric: an earlier version made others.
        let same = |r: &Route| {
            // Multus moves a pod's default route to another interface where the pod asks for that.
            (r.destination == wanted.destination && r.destination.prefix() == 0)
                || (r.destination == wanted.destination
                    && r.gateway == wanted.gateway
                    && r.device == link.index)
        };
        if !routes.iter().any(same) {
            differences.push(format!("route {} is missing in the pod", wanted.destination));
        }
    }
    // A pod taken over from the incumbent has a host end with another MAC than ours would have.
    let host_mac = seen.host.as_ref().and_then(|host| host.mac);
    let gateway_mac = host_mac.unwrap_or_else(|| expected.attachment.host_mac());
    let neighbours = pod.list(&neigh::list(AF_INET), neigh::parse).during(|| "list neighbours".into())?;
    let right = |n: &neigh::Neighbour| {
        n.device == link.index
            && n.address == IpAddr::V4(plan::GATEWAY)
            && n.mac == Some(gateway_mac)
            && n.permanent
    };
    if !neighbours.iter().any(right) {
        differences.push(format!("the permanent neighbour {} is missing in the pod", plan::GATEWAY));
    }
    Ok(())
}

fn pod_addresses(
    pod: &mut Socket,
    addresses: &[IpAddr],
    link: &Link,
    differences: &mut Vec<String>,
) -> Result<(), HostError> {
    let list = addr::list(AF_UNSPEC, link.index);
    let seen = pod.list(&list, addr::parse).during(|| format!("list the addresses of {}", link.name))?;
    let present: Vec<IpAddr> =
        seen.into_iter().filter(|a| a.index == link.index).map(|a| a.address).collect();
    for wanted in addresses.iter().filter(|a| !present.contains(a)) {
        differences.push(format!("address {wanted} is missing on {}", link.name));
    }
    Ok(())
}

/// The routes of a table that lead anywhere.
pub(super) fn routes(socket: &mut Socket, table: u32) -> Result<Vec<Route>, HostError> {
    match socket.list(&route::list(AF_INET, table), route::parse) {
        Ok(routes) => Ok(routes.into_iter().filter(Route::leads_on).collect()),
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error).during(|| format!("list the routes of table {table}")),
    }
}
