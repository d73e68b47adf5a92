//! Which routing rules and ENI routes should exist. Pure.

use super::{EniConfig, Layout, NodeConfig};
use crate::error::HostError;
use crate::netlink::route::{Route, everything, host_net, is_host};
use crate::netlink::rule::Rule;
use crate::numbers::{
    EniSlot, MARK_ENI, MARK_PRIMARY, PRIORITY_ENI_MARK, PRIORITY_ENI_SOURCE, PRIORITY_EXTERNAL_SERVICE,
    PRIORITY_PODS, PRIORITY_PRIMARY_MARK, TABLE_MAIN, TABLE_PODS,
};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rules of the node and its ENIs: their number does not depend on the number of pods. In layout compat pods are found
/// by rules of their own ([`pod_rules`]); those by mark stay, for answers to what came in by an ENI.
pub(crate) fn rules<'a>(node: &NodeConfig, enis: impl IntoIterator<Item = &'a EniConfig>) -> Vec<Rule> {
    let mut rules = match node.layout {
        Layout::Constant => vec![Rule::all(PRIORITY_PODS, TABLE_PODS)],
        Layout::Compat => Vec::new(),
    };
    if node.uses_primary_mark() {
        rules.push(Rule::marked(PRIORITY_PRIMARY_MARK, MARK_PRIMARY, MARK_PRIMARY, TABLE_MAIN));
    }
    // IPv4 only: the rules are of one family.
    let external: BTreeSet<IpNetwork> =
        node.external_service_cidrs.iter().copied().filter(IpNetwork::is_ipv4).collect();
    rules.extend(external.into_iter().map(|net| Rule::to(PRIORITY_EXTERNAL_SERVICE, net, TABLE_MAIN)));
    for eni in enis.into_iter().filter(|e| !e.slot.is_primary()) {
        let table = eni.slot.table();
        if let Some(mark) = eni.slot.mark() {
            rules.push(Rule::marked(PRIORITY_ENI_MARK, mark, MARK_ENI, table));
        }
        rules.push(Rule::from(PRIORITY_ENI_SOURCE, host_net(eni.primary), table));
    }
    rules
}

/// The rules of one address of a pod in layout compat; `slot` is that of the ENI that carries it, where it is known.
/// *Source*: incumbent-behaviour §2.6 and §4.1.
pub(crate) fn pod_rules(address: IpAddr, slot: Option<EniSlot>) -> Vec<Rule> {
    let mut rules = vec![Rule::to(PRIORITY_PODS, host_net(address), TABLE_MAIN)];
    if let Some(slot) = slot.filter(|slot| !slot.is_primary()) {
        rules.push(Rule::from(PRIORITY_ENI_MARK, host_net(address), slot.table()));
    }
    rules
}

/// The one address that a rule is for, where it is at a place of [`pod_rules`]; whoever made it.
pub(crate) fn address_of(rule: &Rule) -> Option<IpAddr> {
    match (rule.priority, rule.source, rule.destination) {
        (PRIORITY_PODS, None, Some(net)) | (PRIORITY_ENI_MARK, Some(net), None) => {
            is_host(net).then(|| net.ip())
        }
        _ => None,
    }
}

/// The routes in a secondary ENI's own table, in the order in which they must be made.
///
/// # Errors
/// The subnet has no room for a gateway.
pub(crate) fn eni_routes(eni: &EniConfig, device: u32) -> Result<Vec<Route>, HostError> {
    let gateway = gateway(eni.subnet)?;
    let table = eni.slot.table();
    Ok(vec![
        Route::host(table, gateway, device),
        Route::ours(table, everything(gateway), Some(gateway), device),
    ])
}

/// The VPC router's address as an ENI sees it.
///
/// *Source*: VPC User Guide, "Subnet CIDR blocks": the second address of each IPv4 subnet is the VPC router's; for IPv6
/// incumbent-behaviour §4.2.
fn gateway(subnet: IpNetwork) -> Result<IpAddr, HostError> {
    match subnet {
        IpNetwork::V4(v4) => u32::from(v4.network())
            .checked_add(1)
            .map(|g| IpAddr::V4(Ipv4Addr::from(g)))
            .filter(|g| subnet.contains(*g))
            .ok_or_else(|| HostError::Setting(format!("subnet {subnet} has no room for a gateway"))),
        IpNetwork::V6(_) => Ok(IpAddr::V6(Ipv6Addr::new(0xfe80, 0x0ec2, 0, 0, 0, 0, 0, 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::EniSlot;
    use crate::plan::RandomSnat;

    fn node() -> NodeConfig {
        NodeConfig {
            primary_mac: [2, 0, 0, 0, 0, 1],
            primary_ip: Ipv4Addr::new(10, 0, 0, 11),
            vpc_cidrs: vec!["10.0.0.0/16".parse().expect("a network")],
            external_snat: false,
            exclude_snat_cidrs: Vec::new(),
            random_snat: RandomSnat::Prng,
            node_port_support: true,
            external_service_cidrs: Vec::new(),
            veth_prefix: "eni".into(),
            eni_mtu: 9001,
            layout: Layout::Constant,
        }
    }

    fn eni(device: u32) -> EniConfig {
        EniConfig {
            slot: EniSlot { card: 0, device },
            mac: [2, 0, 0, 0, 1, 1],
            primary: "10.0.1.12".parse().expect("an address"),
            subnet: "10.0.1.0/24".parse().expect("a network"),
            mtu: 9001,
            sources: Vec::new(),
        }
    }

    #[test]
    fn rules_do_not_depend_on_pods() {
        let mut full = eni(1);
        full.sources = (0..200u8).map(|i| host_net(IpAddr::from([10, 0, 1, i]))).collect();
        assert_eq!(rules(&node(), [&full]), rules(&node(), [&eni(1)]));
        assert_eq!(rules(&node(), [&eni(0), &full]).len(), 4);
    }

    /// The matrix of incumbent-behaviour §4.4, column "rule 1024".
    #[test]
    fn primary_mark_rule_as_the_incumbents() {
        for (external, node_port, wanted) in
            [(false, true, true), (false, false, true), (true, true, true), (true, false, false)]
        {
            let config = NodeConfig { external_snat: external, node_port_support: node_port, ..node() };
            let present = rules(&config, []).iter().any(|r| r.priority == PRIORITY_PRIMARY_MARK);
            assert_eq!(present, wanted, "{external} {node_port}");
        }
    }

    /// Layout compat against the table of incumbent-behaviour §4.1.
    #[test]
    fn pod_rules_are_the_incumbents() {
        let address = IpAddr::from([10, 0, 1, 5]);
        let text = |slot| pod_rules(address, slot).iter().map(Rule::to_string).collect::<Vec<_>>().join(", ");
        let to = "512: from all to 10.0.1.5/32 lookup 254";
        assert_eq!((text(None).as_str(), text(Some(EniSlot::PRIMARY)).as_str()), (to, to));
        let second = EniSlot { card: 0, device: 1 };
        assert_eq!(text(Some(second)), format!("{to}, 1536: from 10.0.1.5/32 lookup 2"));
        assert!(pod_rules(address, Some(second)).iter().all(|r| address_of(r) == Some(address)));

        let compat = NodeConfig { layout: Layout::Compat, ..node() };
        let shared = rules(&compat, [&eni(1)]);
        assert!(shared.iter().all(|r| r.priority != PRIORITY_PODS && address_of(r).is_none()), "{shared:?}");
        assert_eq!(shared.len() + 1, rules(&node(), [&eni(1)]).len());
    }

    #[test]
    fn eni_routes_by_the_second_address_of_the_subnet() {
        let routes = eni_routes(&eni(1), 7).expect("routes");
        assert_eq!(routes[0].destination.to_string(), "10.0.1.1/32");
        assert_eq!(routes[1].gateway, Some(IpAddr::from([10, 0, 1, 1])));
        assert!(routes.iter().all(|r| r.table == 2 && r.device == 7));
        let tiny = EniConfig { subnet: "10.0.1.0/32".parse().expect("a network"), ..eni(1) };
        assert!(eni_routes(&tiny, 7).is_err());
    }
}
