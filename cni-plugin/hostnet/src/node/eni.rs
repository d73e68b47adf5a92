//! One ENI: its device, address, table.

use super::change::{Edit, Part};
use super::{NodeNet, Ready};
use crate::error::{During, HostError};
use crate::netlink::link::{self, Link};
use crate::netlink::route::{self, Route};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::{RT_SCOPE_UNIVERSE, RTNLGRP_LINK, RTPROT_KERNEL};
use crate::netlink::{addr, family};
use crate::numbers::{EniSlot, TABLE_MAIN};
use crate::plan::{EniConfig, routing};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Kinds of device that are made on top of an ENI and carry its MAC.
const STACKED: [&str; 8] = ["vlan", "macvlan", "macvtap", "ipvlan", "bridge", "bond", "team", "vrf"];

impl NodeNet {
    /// Makes one ENI usable: waits for its device, then MTU, reverse-path filter, address, table, rules, ruleset. Of the
    /// primary ENI only the sources are taken note of: `main` leads there. Another ENI that had these sources has them no
    /// longer.
    ///
    /// # Errors
    /// The slot has no packet mark, the device does not appear in time, or the kernel refuses a change.
    pub fn apply_eni(&mut self, eni: &EniConfig, deadline: Duration) -> Result<(), HostError> {
        let until = Instant::now() + deadline;
        if let Some(v6) = Some(eni.primary).filter(IpAddr::is_ipv6) {
            return Err(HostError::Family(v6));
        }
        if eni.slot.mark().is_none() {
            return Err(HostError::Slot(eni.slot));
        }
        if self.node.is_none() {
            return Err(super::not_applied());
        }
        let link = await_device(&mut self.route, eni.mac, until)?;
        self.sync_device(eni, &link)?;
        // What it took from others leaves the kernel with the comparison.
        self.take_from_others(eni.slot, &eni.sources);
        self.leaving.remove(&eni.slot);
        self.enis.insert(eni.slot, Ready { config: eni.clone(), device: link.index });
        self.sync_paths()?;
        self.forget_rules(&eni.sources)
    }

    pub(super) fn sync_device(&mut self, eni: &EniConfig, link: &Link) -> Result<(), HostError> {
        if eni.slot.is_primary() {
            return Ok(());
        }
        self.tune_device(link, eni.mtu)?;
        self.sync_address(eni, link)?;
        self.sync_routes(eni, link)
    }

    /// The ENI carries its primary address and no other: pods own the rest (an operating system that configures every
    /// address would answer for them). No route to the subnet in `main`: the node itself speaks through the primary ENI.
    fn sync_address(&mut self, eni: &EniConfig, link: &Link) -> Result<(), HostError> {
        let right = |a: &addr::Address| a.address == eni.primary && a.prefix_len == eni.subnet.prefix();
        let present = self.seen_addresses(eni, link)?;
        // Before the removals: with its last address a device loses its routes.
        self.add_address(eni, link, present.iter().any(right))?;
        let others: Vec<_> = present.iter().filter(|a| !right(a)).collect();
        for other in &others {
            let what = format!("removed address {}/{} from {}", other.address, other.prefix_len, link.name);
            let message = addr::delete(link.index, other.address, other.prefix_len);
            self.attempt(Edit::new(Part::Address, what, message))?;
        }
        if others.is_empty() {
            return Ok(());
        }
        // A subnet's first address takes the others with it, unless `promote_secondaries` is set.
        let there = self.seen_addresses(eni, link)?.iter().any(right);
        self.add_address(eni, link, there)
    }

    fn seen_addresses(&mut self, eni: &EniConfig, link: &Link) -> Result<Vec<addr::Address>, HostError> {
        let list = addr::list(family(eni.primary), link.index);
        let seen =
            self.route.list(&list, addr::parse).during(|| format!("list the addresses of {}", link.name))?;
        Ok(seen.into_iter().filter(|a| a.index == link.index && a.scope == RT_SCOPE_UNIVERSE).collect())
    }

    fn add_address(&mut self, eni: &EniConfig, link: &Link, there: bool) -> Result<(), HostError> {
        if there {
            return Ok(());
        }
        let (name, prefix) = (&link.name, eni.subnet.prefix());
        let what = format!("added address {}/{prefix} to {name}", eni.primary);
        let edit = Edit::new(Part::Address, what, addr::add(link.index, eni.primary, prefix, false));
        self.send(vec![edit], || format!("set the address of {name} to {}", eni.primary))
    }

    /// The routes of a table that lead anywhere.
    pub(super) fn seen_routes(&mut self, like: IpAddr, table: u32) -> Result<Vec<Route>, HostError> {
        let mut routes = self.all_routes(like, table)?;
        routes.retain(Route::leads_on);
        Ok(routes)
    }

    /// The routes of a table, with those that lead nowhere, such as `blackhole`.
    pub(super) fn all_routes(&mut self, like: IpAddr, table: u32) -> Result<Vec<Route>, HostError> {
        let routes = match self.route.list(&route::list(family(like), table), route::parse) {
            Ok(routes) => routes,
            // A table that never held a route does not exist.
            Err(error) if error.is_absent() => Vec::new(),
            Err(error) => return Err(error).during(|| format!("list the routes of table {table}")),
        };
        Ok(routes.into_iter().filter(|r| r.table == table).collect())
    }

    fn sync_routes(&mut self, eni: &EniConfig, link: &Link) -> Result<(), HostError> {
        let wanted = routing::eni_routes(eni, link.index)?;
        let seen = self.all_routes(eni.primary, eni.slot.table())?;
        let leads = |a: &Route, b: &Route| {
            a.destination == b.destination
                && a.gateway == b.gateway
                && a.device == b.device
                && a.metric == b.metric
                && a.kind == b.kind
        };
        let missing: Vec<&Route> = wanted.iter().filter(|w| !seen.iter().any(|s| leads(s, w))).collect();
        let mut edits: Vec<Edit> = missing
            .iter()
            .map(|r| Edit::new(Part::Route, format!("added route {r} to {}", link.name), route::replace(r)))
            .collect();
        let replaced =
            |s: &Route| missing.iter().any(|w| w.destination == s.destination && w.metric == s.metric);
        let right = |s: &Route| wanted.iter().any(|w| leads(s, w));
        edits.extend(seen.iter().filter(|s| !right(s) && !replaced(s)).map(removal));
        let subnet_in_main = self.seen_routes(eni.primary, TABLE_MAIN)?.into_iter().filter(|r| {
            r.device == link.index
                && r.destination.network() == eni.subnet.network()
                && r.protocol == RTPROT_KERNEL
        });
        edits.extend(subnet_in_main.map(|r| removal(&r)));
        self.send(edits, || format!("change the routes of table {}", eni.slot.table()))
    }

    pub(super) fn remove_routes_of(&mut self, slot: EniSlot) -> Result<(), HostError> {
        let like = IpAddr::from([0, 0, 0, 0]);
        let seen = self.all_routes(like, slot.table())?;
        let mut failures = Vec::new();
        for gone in seen {
            match self.route.request(route::delete(&gone)) {
                // The device went away meanwhile, and its routes with it.
                Ok(_) => self.note(Part::Route, format!("removed route {gone}")),
                Err(error) if error.is_absent() => {}
                Err(error) => failures.extend(
                    Err::<(), _>(error).during(|| format!("remove a route of table {}", slot.table())).err(),
                ),
            }
        }
        super::several(failures)
    }
}

fn removal(route: &Route) -> Edit {
    Edit::new(Part::Route, format!("removed route {route}"), route::delete(route))
}

/// The ENI's device among all links: the one with its MAC that nothing is stacked on.
pub(super) fn by_mac(socket: &mut Socket, mac: [u8; 6]) -> Result<Option<Link>, HostError> {
    Ok(among(&all_links(socket)?, mac).cloned())
}

pub(super) fn all_links(socket: &mut Socket) -> Result<Vec<Link>, HostError> {
    socket.list(&link::list(None), link::parse).during(|| "list network devices".into())
}

pub(super) fn among(links: &[Link], mac: [u8; 6]) -> Option<&Link> {
    links.iter().filter(|l| is_eni(l, mac)).min_by_key(|l| (!l.kind.is_empty(), l.index))
}

fn is_eni(link: &Link, mac: [u8; 6]) -> bool {
    link.mac == Some(mac) && !STACKED.contains(&link.kind.as_str())
}

/// Waits for the device; the kernel's own notifications wake it, not a timer.
fn await_device(socket: &mut Socket, mac: [u8; 6], until: Instant) -> Result<Link, HostError> {
    if let Some(link) = by_mac(socket, mac)? {
        return Ok(link);
    }
    // Listening starts before the second look, so that nothing is missed in between.
    let mut listener = Socket::listen(&[RTNLGRP_LINK]).during(|| "listen for network devices".into())?;
    while Instant::now() < until {
        if let Some(link) = by_mac(socket, mac)? {
            return Ok(link);
        }
        // An overrun listener has lost notifications, not the list.
        let _ = listener.notifications(until);
    }
    Err(HostError::NoDevice { mac })
}
