//! Comparing a pod's interface with what it should be. Changes nothing.

use super::{PodNet, PodWiring, find};
use crate::error::{During, HostError, mac_text};
use crate::netlink::link::{Key, Link};
use crate::netlink::route::{self, Route};
use crate::netlink::rule::{self, Rule};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::{AF_INET, AF_UNSPEC};
use crate::netlink::{addr, neigh};
use crate::numbers::{GROUP_BATCH, PRIORITY_PODS, TABLE_MAIN, TABLE_PODS};
use crate::plan::pod as plan;
use std::net::IpAddr;

/// What differs, in words; empty when all is well.
///
/// The pod's MAC is compared where one is given: a plugin later in the chain may change it, and ADD's last result then says
/// so. MTU and further addresses, routes and settings are not looked at, for the same reason.
///
/// # Errors
/// The kernel cannot be asked.
pub fn check(net: &mut PodNet, wiring: &PodWiring, pod_mac: Option<&str>) -> Result<Vec<String>, HostError> {
    let mut differences = Vec::new();
    let host_mac = host_side(&mut net.host, wiring, &mut differences)?;
    // A pod taken over from the incumbent has a host end that has another MAC than ours would have.
    let macs = Macs { pod: pod_mac, gateway: host_mac.unwrap_or_else(|| wiring.attachment.host_mac()) };
    pod_side(&mut net.pod, wiring, &macs, &mut differences)?;
    Ok(differences)
}

/// The MACs that are wanted in the pod.
struct Macs<'a> {
    /// Its own, where known.
    pod: Option<&'a str>,
    /// That of the host end, which is the gateway's.
    gateway: [u8; 6],
}

/// Returns the host end's MAC.
fn host_side(
    host: &mut Socket,
    wiring: &PodWiring,
    differences: &mut Vec<String>,
) -> Result<Option<[u8; 6]>, HostError> {
    let name = &wiring.host_ifname;
    let Some(link) = find(host, Key::Name(name))? else {
        differences.push(format!("host interface {name} is missing"));
        return Ok(None);
    };
    let alias = wiring.attachment.alias();
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
        for wanted in plan::host_routes(&wiring.addresses, link.index).iter().filter(|r| r.table == table) {
            if !routes.iter().any(|r| r.destination == wanted.destination && r.device == link.index) {
                differences
                    .push(format!("host route {} to {name} is missing in table {table}", wanted.destination));
            }
        }
    }
    let seen = host.list(&rule::list(AF_INET), rule::parse).during(|| "list routing rules".into())?;
    let present: Vec<Rule> = seen.into_iter().map(|s| s.rule).collect();
    let shared = wiring.compat.is_none().then(|| Rule::all(PRIORITY_PODS, TABLE_PODS));
    for wanted in super::rules(wiring).chain(shared).filter(|r| !present.contains(r)) {
        differences.push(format!("rule {wanted} is missing"));
    }
    Ok(link.mac)
}

fn pod_side(
    pod: &mut Socket,
    wiring: &PodWiring,
    macs: &Macs<'_>,
    differences: &mut Vec<String>,
) -> Result<(), HostError> {
    let name = &wiring.attachment.ifname;
    let Some(link) = find(pod, Key::Name(name))? else {
        differences.push(format!("interface {name} is missing in the pod"));
        return Ok(());
    };
    if !link.up {
        differences.push(format!("interface {name} is down"));
    }
    let present = link.mac.as_ref().map(mac_text);
    if let (Some(wanted), Some(present)) = (macs.pod, &present)
        && !wanted.eq_ignore_ascii_case(present)
    {
        differences.push(format!("interface {name} has MAC {present} instead of {wanted}"));
    }
    pod_addresses(pod, wiring, &link, differences)?;
    let routes = routes(pod, TABLE_MAIN)?;
    for wanted in plan::pod_routes(name, link.index) {
        // Whatever its metric: an earlier version made others.
        let same = |r: &Route| {
            r.destination == wanted.destination && r.gateway == wanted.gateway && r.device == link.index
        };
        if !routes.iter().any(same) {
            differences.push(format!("route {} is missing in the pod", wanted.destination));
        }
    }
    let neighbours = pod.list(&neigh::list(AF_INET), neigh::parse).during(|| "list neighbours".into())?;
    let gateway = IpAddr::V4(plan::GATEWAY);
    if !neighbours.iter().any(|n| n.address == gateway && n.mac == Some(macs.gateway) && n.permanent) {
        differences.push(format!("the permanent neighbour {gateway} is missing in the pod"));
    }
    Ok(())
}

fn pod_addresses(
    pod: &mut Socket,
    wiring: &PodWiring,
    link: &Link,
    differences: &mut Vec<String>,
) -> Result<(), HostError> {
    let list = addr::list(AF_UNSPEC, link.index);
    let seen = pod.list(&list, addr::parse).during(|| format!("list the addresses of {}", link.name))?;
    let present: Vec<IpAddr> = seen.into_iter().map(|a| a.address).collect();
    for wanted in wiring.addresses.iter().filter(|a| !present.contains(a)) {
        differences.push(format!("address {wanted} is missing on {}", link.name));
    }
    Ok(())
}

pub(super) fn routes(socket: &mut Socket, table: u32) -> Result<Vec<Route>, HostError> {
    match socket.list(&route::list(AF_INET, table), route::parse) {
        Ok(routes) => Ok(routes),
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error).during(|| format!("list the routes of table {table}")),
    }
}
