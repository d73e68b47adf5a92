//! What podwire needs of the kernel, tried out before anything is changed.
//!
//! *Why by trial*: kernel versions and configuration files lie (back-ports, modules that are not shipped), and a rule that
//! cannot be loaded is known only when it is needed. A trial changes nothing: an nft transaction that ends in a refusal is
//! undone by the kernel as a whole, and a link that asks for an impossible MTU is refused after its kind has been found.

use crate::error::{During, HostError};
use crate::netlink::link::{self, VethPair};
use crate::netlink::rule;
use crate::netlink::socket::Socket;
use crate::netlink::uapi::{AF_INET, IPCTNL_MSG_CT_GET_STATS, NFNL_SUBSYS_CTNETLINK};
use crate::netlink::wire::Message;
use crate::netns::Netns;
use crate::nft::expr::{Cmp, Expr, accept, ct_mark_set, ct_state_new, daddr_local, meta_mark_set, snat};
use crate::nft::transaction::{Step, is_accepted};
use crate::numbers::{MARK_ENI, MARK_PRIMARY};
use crate::plan::ruleset::{Chain, Hook, KeyKind, OUTPUT, POSTROUTING, PREROUTING, Set};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

/// A feature that the running kernel lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// What it is, and how it is configured into a kernel.
    pub feature: &'static str,
    /// What is lost without it.
    pub lost: &'static str,
    /// Whether the node cannot serve pods without it.
    pub required: bool,
}

/// What the settings ask of the kernel: decides which features are required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The node translates addresses of what leaves the VPC.
    pub snat: bool,
    /// Replies of NodePort connections leave by the ENI they came in by.
    pub node_port: bool,
}

struct Feature {
    missing: Missing,
    is_there: fn(&mut Trial) -> Result<bool, HostError>,
}

struct Trial {
    route: Socket,
    filter: Socket,
}

const fn feature(
    feature: &'static str,
    lost: &'static str,
    required: bool,
    is_there: fn(&mut Trial) -> Result<bool, HostError>,
) -> Feature {
    Feature { missing: Missing { feature, lost, required }, is_there }
}

/// Tells which features the kernel lacks; changes nothing.
///
/// # Errors
/// The kernel cannot be asked at all.
pub fn missing(wanted: Wanted) -> Result<Vec<Missing>, HostError> {
    let mut trial = Trial {
        route: Socket::route().during(|| "open a routing socket".into())?,
        filter: Socket::netfilter().during(|| "open a netfilter socket".into())?,
    };
    let features = [
        feature("veth devices (CONFIG_VETH)", "pods cannot be connected", true, has_veth),
        feature(
            "policy routing (CONFIG_IP_MULTIPLE_TABLES)",
            "pods on secondary ENIs cannot leave by them",
            true,
            has_rules,
        ),
        feature(
            "nftables with maps (CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4)",
            "pods on secondary ENIs cannot leave by them",
            true,
            |t| t.accepts(PREROUTING, "filter", -90, meta_mark_set(MARK_ENI, 1)),
        ),
        feature(
            "nft connection tracking (CONFIG_NFT_CT, CONFIG_NF_CONNTRACK_MARK)",
            "connections cannot be kept on the ENI they began on",
            wanted.snat || wanted.node_port,
            |t| {
                let rule = [ct_state_new(), ct_mark_set(MARK_PRIMARY, MARK_PRIMARY)].concat();
                t.accepts(PREROUTING, "filter", -150, rule)
            },
        ),
        feature(
            "nft address types (CONFIG_NFT_FIB_IPV4)",
            "connections to the node cannot be told from those to pods",
            wanted.snat || wanted.node_port,
            |t| t.accepts(PREROUTING, "filter", -150, [daddr_local(Cmp::Equal), accept()].concat()),
        ),
        feature(
            "nft NAT (CONFIG_NFT_NAT)",
            "pods cannot reach anything outside the VPC; set AWS_VPC_K8S_CNI_EXTERNALSNAT=true where something else translates",
            wanted.snat,
            |t| t.accepts(POSTROUTING, "nat", 110, snat(Ipv4Addr::LOCALHOST, 0)),
        ),
        feature(
            "nft route chains (part of CONFIG_NF_TABLES_IPV4)",
            "with kube-proxy in mode ipvs, pods on secondary ENIs reach no Service elsewhere",
            true,
            |t| t.accepts(OUTPUT, "route", -150, meta_mark_set(MARK_ENI, 1)),
        ),
        feature(
            "connection tracking over netlink (CONFIG_NF_CT_NETLINK)",
            "connections of an address outlive its pod and may reach the address's next owner",
            false,
            has_conntrack,
        ),
    ];
    let mut lacking = Vec::new();
    for feature in features {
        if !(feature.is_there)(&mut trial)? {
            lacking.push(feature.missing);
        }
    }
    Ok(lacking)
}

impl Trial {
    /// Whether the kernel would take such a rule, in a base chain of its own beside a verdict map.
    fn accepts(
        &mut self,
        number: u32,
        kind: &'static str,
        priority: i32,
        rule: Vec<Expr>,
    ) -> Result<bool, HostError> {
        let name = "trial".to_owned();
        let hook = Some(Hook { kind, number, priority });
        let map = Set {
            name: "trial-map",
            key: KeyKind::Ipv4,
            interval: true,
            verdicts: true,
            elements: BTreeSet::new(),
        };
        let steps = [
            Step::AddTable,
            Step::AddSet(map),
            Step::AddChain(Chain { name: name.clone(), hook, rules: Vec::new() }),
            Step::AddRule(name, rule),
        ];
        is_accepted(&mut self.filter, &steps).during(|| "try an nft rule out".into())
    }
}

fn has_veth(trial: &mut Trial) -> Result<bool, HostError> {
    let own = Netns::own()?;
    let pair = VethPair {
        name: "podwire-trial",
        mac: [2, 0, 0, 0, 0, 1],
        peer_name: "podwire-trial2",
        peer_mac: [2, 0, 0, 0, 0, 2],
        peer_netns: own.as_fd(),
        // Below what any device takes, so that it is refused as soon as its kind is known.
        mtu: 1,
    };
    match trial.route.request(link::create_veth(&pair)) {
        Err(error) => Ok(error.errno() != Some(Errno::OPNOTSUPP)),
        // A kernel that takes it has it; then it must go.
        Ok(_) => {
            let gone = trial.route.request(link::delete(link::Key::Name(pair.name)));
            gone.during(|| "remove a trial link".into()).map(|_| true)
        }
    }
}

fn has_rules(trial: &mut Trial) -> Result<bool, HostError> {
    match trial.route.dump(&rule::list(AF_INET)) {
        Ok(rules) => Ok(!rules.is_empty()),
        Err(error) if lacks(error.errno()) => Ok(false),
        Err(error) => Err(error).during(|| "list routing rules".into()),
    }
}

fn has_conntrack(trial: &mut Trial) -> Result<bool, HostError> {
    let question = Message::new(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS, 0).raw(&[0; 4]);
    match trial.filter.request(question) {
        Ok(_) => Ok(true),
        Err(error) => Ok(!lacks(error.errno()) && error.errno() != Some(Errno::PROTONOSUPPORT)),
    }
}

fn lacks(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT))
}
