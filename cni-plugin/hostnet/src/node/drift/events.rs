//! One notification: does it concern us, and which part? Pure but for the name of a culprit.

use super::{Interest, Noticed, Part, by_port, printable};
use crate::names::Attachment;
use crate::netlink::link::{self, Link};
use crate::netlink::route;
use crate::netlink::rule;
use crate::netlink::uapi::{
    NETCONFA_FORWARDING, NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL, NETCONFA_RP_FILTER, NFNL_SUBSYS_NFTABLES,
    RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_DELRULE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNETCONF,
    RTM_NEWROUTE, RTM_NEWRULE, RTPROT_KERNEL,
};
use crate::netlink::wire::{Attr, Received, find, u32_at};
use crate::nft::uapi::{
    NFPROTO_IPV4, NFT_MSG_NEWGEN, NFTA_GEN_PROC_NAME, NFTA_GEN_PROC_PID, NFTA_TABLE_NAME,
};
use crate::numbers::{GROUP_BATCH, PROTOCOL, TABLE_MAIN, TABLE_PODS};
use crate::plan::routing;
use crate::plan::ruleset::TABLE;
use std::collections::BTreeSet;

/// What has to be kept from one notification to the next.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Pod links that were down without being doomed: the kernel dropped their routes and says nothing about it. A pod
    /// being added looks so too, until its routes come.
    suspects: BTreeSet<u32>,
    /// Part of a transaction on our table has been seen; who did it comes last.
    transaction: bool,
}

impl Seen {
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    pub(super) fn forget_suspects(&mut self) {
        self.suspects.clear();
    }

    /// A notification of the routing family.
    pub(super) fn route(&mut self, message: &Received<'_>, ours: &Interest, noticed: &mut Noticed) {
        if message.port != 0 && ours.ports.contains(&message.port) {
            return;
        }
        let part = match message.kind {
            RTM_NEWLINK | RTM_DELLINK => self.link(message, ours),
            RTM_NEWADDR | RTM_DELADDR => address(message, ours),
            RTM_NEWROUTE | RTM_DELROUTE => self.one_route(message, ours),
            RTM_NEWRULE | RTM_DELRULE => one_rule(message, ours),
            RTM_NEWNETCONF => setting(message, ours),
            _ => None,
        };
        if let Some(part) = part {
            noticed.parts.insert(part);
            if let Some(who) = by_port(message.port) {
                noticed.blame(who);
            }
        }
    }

    fn link(&mut self, message: &Received<'_>, ours: &Interest) -> Option<Part> {
        let link = link::parse(message.kind, message.payload)?;
        if ours.devices.contains(&link.index) || link.mac.is_some_and(|mac| ours.macs.contains(&mac)) {
            return Some(Part::Link);
        }
        if message.kind == RTM_NEWLINK && !link.up && is_live_pod(&link) {
            self.suspects.insert(link.index);
        } else if message.kind == RTM_DELLINK || !is_live_pod(&link) {
            self.suspects.remove(&link.index);
        }
        None
    }

    fn one_route(&mut self, message: &Received<'_>, ours: &Interest) -> Option<Part> {
        let route = route::parse(message.kind, message.payload)?;
        let added = message.kind == RTM_NEWROUTE;
        match route.table {
            TABLE_PODS if added && route.protocol == PROTOCOL && route.leads_on() => {
                self.suspects.remove(&route.device);
                None
            }
            TABLE_PODS => Some(Part::PodRoute),
            // In the place of a pod's route, which nobody tells of.
            TABLE_MAIN if added && !route.leads_on() => {
                route::is_host(route.destination).then_some(Part::PodRoute)
            }
            TABLE_MAIN if added => (route.protocol == RTPROT_KERNEL
                && ours.secondary.contains(&route.device))
            .then_some(Part::Route),
            TABLE_MAIN => {
                (route.protocol == PROTOCOL && route::is_host(route.destination)).then_some(Part::PodRoute)
            }
            table => ours.tables.contains(&table).then_some(Part::Route),
        }
    }

    /// A notification of nftables.
    pub(super) fn filter(&mut self, message: &Received<'_>, ours: &Interest, noticed: &mut Noticed) {
        let [subsystem, kind] = [message.kind >> 8, message.kind & 0xff];
        if subsystem != NFNL_SUBSYS_NFTABLES || (message.port != 0 && ours.ports.contains(&message.port)) {
            return;
        }
        let Some(attributes) = message.payload.get(4..) else { return };
        if kind == NFT_MSG_NEWGEN {
            if std::mem::take(&mut self.transaction) {
                let name = find(attributes, NFTA_GEN_PROC_NAME).and_then(Attr::text).unwrap_or("a process");
                let pid = find(attributes, NFTA_GEN_PROC_PID).and_then(Attr::be32).unwrap_or(0);
                noticed.blame(format!("{} (pid {pid})", printable(name)));
            }
            return;
        }
        // Every other kind of object names its table in its first attribute.
        let table = find(attributes, NFTA_TABLE_NAME).and_then(Attr::text);
        if message.payload.first() == Some(&NFPROTO_IPV4) && table == Some(TABLE) {
            noticed.parts.insert(Part::Ruleset);
            self.transaction = true;
        }
    }
}

fn is_live_pod(link: &Link) -> bool {
    link.group != GROUP_BATCH && Attachment::from_alias(&link.alias).is_some()
}

fn address(message: &Received<'_>, ours: &Interest) -> Option<Part> {
    let device = u32_at(message.payload, 4)?;
    ours.secondary.contains(&device).then_some(Part::Address)
}

fn one_rule(message: &Received<'_>, ours: &Interest) -> Option<Part> {
    let seen = rule::parse(message.kind, message.payload)?;
    // In layout compat plugins add a pod's rules, and those that the incumbent made count as well.
    let of_pod = ours.rules_of_pods && routing::address_of(&seen.rule).is_some();
    let concerns = match message.kind {
        RTM_DELRULE => seen.is_ours() || seen.rule.is_main() || of_pod,
        _ => seen.is_ours() && !of_pod,
    };
    concerns.then_some(Part::Rule)
}

fn setting(message: &Received<'_>, ours: &Interest) -> Option<Part> {
    // `struct netconfmsg` is one byte; attributes begin at the next multiple of four.
    let attributes = message.payload.get(4..)?;
    let device = find(attributes, NETCONFA_IFINDEX).and_then(Attr::u32)?;
    let has = |kind| find(attributes, kind).is_some();
    if device == NETCONFA_IFINDEX_ALL {
        return has(NETCONFA_FORWARDING).then_some(Part::Forwarding);
    }
    (ours.devices.contains(&device) && has(NETCONFA_RP_FILTER)).then_some(Part::ReversePath)
}
