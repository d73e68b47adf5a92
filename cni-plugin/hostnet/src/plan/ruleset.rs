//! The nftables ruleset: chains, sets and maps as data. Pure.
//!
//! | chain | hook, priority | does |
//! |---|---|---|
//! | `arrival` | prerouting, −150 | remembers in the connection mark by which ENI a connection to the node came in |
//! | `egress` | prerouting, −90 | chooses the ENI a packet leaves by; after kube-proxy's DNAT at −100, so that the true destination counts |
//! | `reroute` | output, −150 | chooses again for what IPVS sends on: its destination was not known in `egress` |
//! | `leave-vpc` | postrouting, 110 | gives what leaves the VPC the node's primary address; after kube-proxy's masquerade at 100 |
//! | `unmark` | postrouting, 300 | takes an ENI's number off again: the way is chosen |
//!
//! *Why a number is taken off*: Cilium, chained behind the plugin, reads these bits at a pod's device as a cluster's number.
//!
//! kube-proxy's IPVS mode takes a pod's packet to a service address in as if it were for the node, and sends it on to an
//! endpoint as if the node had made it: routed without mark or source, and then through `output`. A chain of type *route*
//! has the kernel look the route up again, with the mark of `egress`, when it changes the mark: so it adds a bit. An endpoint
//! outside the VPC is bound to the primary ENI there, as `egress` does for a destination it sees.
//!
//! No chain has a name that is a word of nft's own language: people must be able to type it.
//!
//! `egress` in order: a reply of a remembered connection leaves by that ENI; a connection bound to the primary ENI stays
//! there; a new one that leaves the VPC under SNAT is bound to the primary ENI; everything else from a pod leaves by the
//! ENI that holds its address. A packet of a pod on the primary ENI is in no map and needs no mark: `main` leads there.
//!
//! *Why a map for addresses and one for prefixes*: the kernel hashes the keys of the one and searches the ranges of the
//! other in a tree. With 737 single addresses in the tree a packet cost 5 % more than with one; hashed it costs the same
//! (`scripts/bench --only forward`).

use super::intervals::{Range, merged, range_v4};
use super::{EniConfig, Layout, NodeConfig, RandomSnat};
use crate::netlink::route::is_host;
use crate::nft::expr::{
    Cmp, Expr, accept, ct_direction_is, ct_dnat_or_not_assured, ct_mark_set, ct_mark_test, ct_state_new,
    daddr_in, daddr_local, has_socket, iifname_is, map_iif, map_masked_ct_mark, map_saddr, meta_mark_set,
    meta_mark_test, oif_in, oifname_is, saddr_is, snat,
};
use crate::numbers::{MARK_ENI, MARK_PRIMARY, MARK_REROUTE};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The table's name.
pub(crate) const TABLE: &str = "podwire";
/// Single addresses pods may send from → chain of their ENI.
pub(crate) const ADDRESSES: &str = "addresses";
/// Prefixes pods may send from → chain of their ENI.
pub(crate) const PREFIXES: &str = "prefixes";
/// Number in the connection mark → chain of that ENI.
const MARKS: &str = "marks";
/// Device → chain that remembers it.
const ARRIVALS: &str = "arrivals";
/// Devices of secondary ENIs.
const SECONDARY: &str = "secondary";
/// Networks that are never under SNAT.
const NO_SNAT: &str = "no-snat";
/// The sets that hold something of each ENI.
pub(crate) const SETS_OF_ENIS: [&str; 5] = [ADDRESSES, PREFIXES, MARKS, ARRIVALS, SECONDARY];
/// All mark bits that say by which ENI.
const MARK_BITS: u32 = MARK_ENI | MARK_PRIMARY;

/// Where a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// *Source*: linux/netfilter.h, `NF_INET_PRE_ROUTING`.
pub(crate) const PREROUTING: u32 = 0;
/// *Source*: linux/netfilter.h, `NF_INET_LOCAL_OUT`.
pub(crate) const OUTPUT: u32 = 3;
/// *Source*: linux/netfilter.h, `NF_INET_POST_ROUTING`.
pub(crate) const POSTROUTING: u32 = 4;

/// A chain and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Vec<Expr>>,
}

/// What a set's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Ipv4,
    Mark,
    Device,
}

/// A set, or a map to chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: KeyKind,
    pub(crate) interval: bool,
    pub(crate) verdicts: bool,
    pub(crate) elements: BTreeSet<Element>,
}

/// One element; `end` is the first key behind an interval.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) key: [u8; 4],
    pub(crate) end: Option<[u8; 4]>,
    pub(crate) jump: Option<String>,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: Vec<Chain>,
    pub(crate) sets: Vec<Set>,
}

/// An ENI with its device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub(crate) eni: &'a EniConfig,
    pub(crate) device: u32,
}

/// The chain that sends a packet to the ENI with this number.
pub(crate) fn eni_chain(mark: u32) -> String {
    format!("eni-{mark}")
}

/// The chain that remembers that a connection came in by the ENI with this number.
pub(crate) fn arrival_chain(mark: u32) -> String {
    format!("arrival-{mark}")
}

/// The elements that lead these sources to an ENI's chain, by the map they belong in. IPv4 only; IPv6 needs a table of its
/// own.
pub(crate) fn source_elements(mark: u32, sources: &[IpNetwork]) -> [(&'static str, Vec<Element>); 2] {
    let jump = || Some(eni_chain(mark));
    let (single, wide): (Vec<IpNetwork>, Vec<IpNetwork>) = sources.iter().partition(|net| is_host(**net));
    let addresses = single.into_iter().filter_map(|net| match net.ip() {
        IpAddr::V4(ip) => Some(Element { key: ip.octets(), end: None, jump: jump() }),
        IpAddr::V6(_) => None,
    });
    let prefixes = wide.into_iter().filter_map(range_v4).map(|range| interval(range, jump()));
    [(ADDRESSES, addresses.collect()), (PREFIXES, prefixes.collect())]
}

/// Computes the table. `older`: what the names of running pods' links start with beside the present prefix.
pub(crate) fn ruleset(
    node: &NodeConfig,
    older: &BTreeSet<String>,
    primary_device: u32,
    enis: &[Placed<'_>],
) -> Ruleset {
    let prefixes: Vec<&String> = [&node.veth_prefix].into_iter().chain(older).collect();
    let marked: BTreeMap<u32, Placed<'_>> = enis
        .iter()
        .filter(|p| !p.eni.slot.is_primary())
        .filter_map(|p| p.eni.slot.mark().map(|m| (m, *p)))
        .collect();
    let mut chains: Vec<Chain> = marked.keys().map(|mark| to_eni(*mark)).collect();
    if node.node_port_support {
        chains.extend(marked.keys().map(|mark| remember(*mark, *mark)));
        chains.push(remember(0, MARK_PRIMARY));
        chains.push(arrival());
    }
    chains.push(egress(node, &prefixes));
    chains.push(reroute(node));
    if !node.external_snat {
        chains.push(snat_chain(node));
    }
    chains.push(unmark());
    Ruleset { chains, sets: sets(node, primary_device, &marked) }
}

fn to_eni(mark: u32) -> Chain {
    Chain {
        name: eni_chain(mark),
        hook: None,
        rules: vec![[meta_mark_set(MARK_ENI, mark), accept()].concat()],
    }
}

fn remember(number: u32, bits: u32) -> Chain {
    let rule = [daddr_local(Cmp::Equal), ct_mark_set(MARK_BITS, bits)].concat();
    Chain { name: arrival_chain(number), hook: None, rules: vec![rule] }
}

/// *Why not each packet*: to ask whether the destination is the node's own costs a look at the routes, and most packets are of
/// connections to a pod, which work. *Why not a connection's first packet only*: where that came while the table was away, the
/// next one is remembered; kube-proxy's connections show that they were to the node, IPVS's until their handshake is through.
fn arrival() -> Chain {
    let hook = Hook { kind: "filter", number: PREROUTING, priority: -150 };
    let rule = [ct_dnat_or_not_assured(), ct_direction_is(false), map_iif(ARRIVALS)].concat();
    Chain { name: "arrival".into(), hook: Some(hook), rules: vec![rule] }
}

fn egress(node: &NodeConfig, prefixes: &[&String]) -> Chain {
    let hook = Hook { kind: "filter", number: PREROUTING, priority: -90 };
    let to_primary = || [meta_mark_set(MARK_PRIMARY, MARK_PRIMARY), accept()].concat();
    let mut rules = Vec::new();
    if node.node_port_support {
        rules.push([ct_direction_is(true), map_masked_ct_mark(MARK_ENI, MARKS)].concat());
    }
    let not_from_pod = prefixes.iter().flat_map(|prefix| iifname_is(Cmp::NotEqual, prefix, true));
    rules.push(not_from_pod.chain(accept()).collect());
    if node.uses_primary_mark() {
        rules.push([ct_mark_test(MARK_PRIMARY), to_primary()].concat());
    }
    if !node.external_snat {
        rules.push(
            [
                ct_state_new(),
                daddr_in(NO_SNAT, false),
                daddr_local(Cmp::NotEqual),
                ct_mark_set(MARK_BITS, MARK_PRIMARY),
                to_primary(),
            ]
            .concat(),
        );
    }
    rules.push(map_saddr(ADDRESSES));
    rules.push(map_saddr(PREFIXES));
    // Whatever others wrote there is no ENI's number.
    rules.push(meta_mark_set(MARK_ENI, 0));
    Chain { name: "egress".into(), hook: Some(hook), rules }
}

fn unmark() -> Chain {
    let hook = Hook { kind: "filter", number: POSTROUTING, priority: 300 };
    Chain { name: "unmark".into(), hook: Some(hook), rules: vec![meta_mark_set(MARK_ENI, 0)] }
}

/// The node's own packets pass: they carry no ENI's number, and where a program gave them a mark that looks like one they
/// have a socket. In layout compat nothing carries a number; there a rule for the pod's address is found once the route is
/// looked up again with it.
fn reroute(node: &NodeConfig) -> Chain {
    let hook = Hook { kind: "route", number: OUTPUT, priority: -150 };
    let mut rules = Vec::new();
    if node.layout == Layout::Constant {
        rules.push([meta_mark_test(MARK_ENI, false), accept()].concat());
    }
    rules.push([has_socket(), accept()].concat());
    if !node.external_snat {
        rules.push(
            [
                ct_state_new(),
                daddr_in(NO_SNAT, false),
                ct_mark_set(MARK_BITS, MARK_PRIMARY),
                meta_mark_set(MARK_ENI | MARK_PRIMARY, MARK_PRIMARY),
                accept(),
            ]
            .concat(),
        );
    }
    rules.push(meta_mark_set(MARK_REROUTE, MARK_REROUTE));
    Chain { name: "reroute".into(), hook: Some(hook), rules }
}

/// *Why not where it leaves by a secondary ENI or a branch ENI's VLAN*: there the primary address would be spoofed.
/// *Why not what has the primary address already*: the node's own connections, open before this rule came, would get
/// another source port in the middle and be reset.
fn snat_chain(node: &NodeConfig) -> Chain {
    let hook = Hook { kind: "nat", number: POSTROUTING, priority: 110 };
    let flags = match node.random_snat {
        RandomSnat::Prng => NF_NAT_RANGE_PROTO_RANDOM_FULLY,
        RandomSnat::HashRandom => NF_NAT_RANGE_PROTO_RANDOM,
        RandomSnat::None => 0,
    };
    let rule = [
        saddr_is(Cmp::NotEqual, node.primary_ip),
        daddr_in(NO_SNAT, false),
        oif_in(SECONDARY, false),
        oifname_is(Cmp::NotEqual, "vlan", true),
        daddr_local(Cmp::NotEqual),
        snat(node.primary_ip, flags),
    ]
    .concat();
    Chain { name: "leave-vpc".into(), hook: Some(hook), rules: vec![rule] }
}

/// *Source*: linux/netfilter/nf_nat.h; what iptables calls `--random`.
const NF_NAT_RANGE_PROTO_RANDOM: u32 = 1 << 2;
/// *Source*: linux/netfilter/nf_nat.h; what iptables calls `--random-fully`.
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;

fn sets(node: &NodeConfig, primary_device: u32, marked: &BTreeMap<u32, Placed<'_>>) -> Vec<Set> {
    let never = node.vpc_cidrs.iter().chain(&node.exclude_snat_cidrs).copied();
    let no_snat = merged(never).into_iter().map(|r| interval(r, None)).collect();
    // In layout compat rules lead there.
    let led = marked.iter().filter(|_| node.layout == Layout::Constant);
    let [mut addresses, mut prefixes] = [BTreeSet::new(), BTreeSet::new()];
    for (mark, placed) in led {
        let [(_, single), (_, wide)] = source_elements(*mark, &placed.eni.sources);
        addresses.extend(single);
        prefixes.extend(wide);
    }
    let secondary = marked.values().map(|p| exact(p.device, None)).collect();
    let mut sets = vec![
        Set { name: ADDRESSES, key: KeyKind::Ipv4, interval: false, verdicts: true, elements: addresses },
        Set { name: PREFIXES, key: KeyKind::Ipv4, interval: true, verdicts: true, elements: prefixes },
        Set { name: NO_SNAT, key: KeyKind::Ipv4, interval: true, verdicts: false, elements: no_snat },
        Set { name: SECONDARY, key: KeyKind::Device, interval: false, verdicts: false, elements: secondary },
    ];
    if node.node_port_support {
        let marks = marked.keys().map(|m| exact(*m, Some(eni_chain(*m)))).collect();
        let mut arrivals: BTreeSet<_> =
            marked.iter().map(|(m, p)| exact(p.device, Some(arrival_chain(*m)))).collect();
        arrivals.insert(exact(primary_device, Some(arrival_chain(0))));
        sets.push(Set { name: MARKS, key: KeyKind::Mark, interval: false, verdicts: true, elements: marks });
        sets.push(Set {
            name: ARRIVALS,
            key: KeyKind::Device,
            interval: false,
            verdicts: true,
            elements: arrivals,
        });
    }
    sets
}

fn interval(range: Range, jump: Option<String>) -> Element {
    Element { key: range.start.to_be_bytes(), end: range.end.map(u32::to_be_bytes), jump }
}

fn exact(number: u32, jump: Option<String>) -> Element {
    Element { key: number.to_ne_bytes(), end: None, jump }
}
