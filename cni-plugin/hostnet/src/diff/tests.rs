use super::*;
use crate::numbers::EniSlot;
use crate::plan::ruleset::{Placed, ruleset as planned};
use crate::plan::{EniConfig, Layout, NodeConfig, RandomSnat};
use ipnetwork::{IpNetwork, Ipv4Network};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// What the kernel does with steps, as far as [`Seen`] tells; refuses what it would refuse.
fn applied(seen: Option<&Seen>, steps: &[Step]) -> Option<Seen> {
    let mut now = seen.cloned();
    for step in steps {
        if matches!(step, Step::AddTable) {
            now = Some(now.unwrap_or_default());
        } else if matches!(step, Step::DeleteTable) {
            now = None;
        } else {
            inside(now.as_mut().expect("the table exists"), step);
        }
    }
    now
}

fn inside(seen: &mut Seen, step: &Step) {
    match step {
        Step::AddTable | Step::DeleteTable => {}
        Step::AddSet(set) => {
            let fresh = SeenSet {
                flags: set_flags(set),
                key_type: key_type(set.key),
                key_len: 4,
                ..SeenSet::default()
            };
            assert!(seen.sets.insert(set.name.to_owned(), fresh).is_none());
        }
        Step::DeleteSet(name) => assert!(seen.sets.remove(name).is_some()),
        Step::AddChain(chain) => {
            let hook = chain.hook.map(|h| (h.number, h.priority, h.kind.to_owned()));
            assert!(
                seen.chains.insert(chain.name.clone(), SeenChain { hook, ..SeenChain::default() }).is_none()
            );
        }
        Step::FlushChain(name) => seen.chains.get_mut(name).expect("the chain exists").tags.clear(),
        Step::DeleteChain(name) => {
            let gone = seen.chains.remove(name).expect("the chain exists");
            assert!(gone.tags.is_empty(), "{name} has rules");
            let jump = Some(name.clone());
            assert!(
                seen.sets.values().all(|s| s.elements.iter().all(|e| e.jump != jump)),
                "{name} is led to"
            );
        }
        Step::AddRule(name, rule) => {
            seen.chains.get_mut(name).expect("the chain exists").tags.push(tag(rule))
        }
        Step::AddElements(name, elements) => {
            let known: Vec<String> = seen.chains.keys().cloned().collect();
            let set = seen.sets.get_mut(*name).expect("the set exists");
            for element in elements {
                assert!(
                    element.jump.as_ref().is_none_or(|chain| known.contains(chain)),
                    "{element:?} leads nowhere"
                );
                assert!(set.elements.iter().all(|e| e.key != element.key), "{element:?} twice");
                set.elements.insert(element.clone());
            }
        }
        Step::DeleteElements(name, elements) => {
            let set = seen.sets.get_mut(*name).expect("the set exists");
            assert!(elements.iter().all(|e| set.elements.remove(e)), "an element is missing");
        }
    }
}

fn node(external_snat: bool, node_port_support: bool) -> NodeConfig {
    NodeConfig {
        primary_mac: [2, 0, 0, 0, 0, 1],
        primary_ip: Ipv4Addr::new(10, 0, 0, 11),
        vpc_cidrs: vec![IpNetwork::V4(Ipv4Network::new(Ipv4Addr::new(10, 0, 0, 0), 16).expect("a network"))],
        external_snat,
        exclude_snat_cidrs: Vec::new(),
        random_snat: RandomSnat::Prng,
        node_port_support,
        external_service_cidrs: Vec::new(),
        veth_prefix: "eni".into(),
        eni_mtu: 9001,
        layout: Layout::Constant,
    }
}

/// ENI number `device` with these last octets of 10.0.<device>.0/24 as sources.
fn eni(device: u32, hosts: &BTreeSet<u8>) -> EniConfig {
    let third = u8::try_from(device).expect("small");
    // The upper half are prefixes.
    let net = |last: u8| match last {
        0..128 => Ipv4Network::from(Ipv4Addr::new(10, 0, third, last)),
        128.. => Ipv4Network::new(Ipv4Addr::new(10, 0, third, last & 0xf0), 28).expect("a prefix"),
    };
    EniConfig {
        slot: EniSlot { card: 0, device },
        mac: [2, 0, 0, 0, 0, third],
        primary: Ipv4Addr::new(10, 0, third, 12).into(),
        subnet: IpNetwork::V4(Ipv4Network::new(Ipv4Addr::new(10, 0, third, 0), 24).expect("a network")),
        mtu: 9001,
        sources: hosts.iter().map(|h| IpNetwork::V4(net(*h))).collect(),
    }
}

fn wanted(node: &NodeConfig, enis: &[EniConfig]) -> Ruleset {
    let placed: Vec<Placed<'_>> =
        enis.iter().map(|e| Placed { eni: e, device: 10 + e.slot.device }).collect();
    planned(node, &BTreeSet::new(), 10, &placed)
}

type World = (bool, bool, std::collections::BTreeMap<u32, BTreeSet<u8>>);

fn world() -> impl Strategy<Value = World> {
    let sources = proptest::collection::btree_set(any::<u8>(), 0..6);
    (any::<bool>(), any::<bool>(), proptest::collection::btree_map(1u32..4, sources, 0..4))
}

fn plan((external, node_port, enis): &World) -> Ruleset {
    let enis: Vec<EniConfig> = enis.iter().map(|(device, hosts)| eni(*device, hosts)).collect();
    wanted(&node(*external, *node_port), &enis)
}

proptest! {
    /// From any world to any other; a second time there is nothing to do.
    #[test]
    fn steps_lead_to_the_plan_and_end_there(from in world(), to in world(), damage in any::<u8>()) {
        let mut seen = applied(None, &ruleset(&plan(&from), None, Strangers::Remove)).expect("a table");
        if damage & 1 == 1 && let Some(chain) = seen.chains.values_mut().next() {
            chain.tags.push("somebody else".into());
        }
        if damage & 2 == 2 && let Some(set) = seen.sets.values_mut().next() {
            set.elements.clear();
        }
        if damage & 4 == 4 && let Some(set) = seen.sets.values_mut().next() {
            set.flags ^= 1;
        }
        let target = plan(&to);
        let after = applied(Some(&seen), &ruleset(&target, Some(&seen), Strangers::Remove)).expect("a table");
        prop_assert_eq!(&after, &applied(None, &ruleset(&target, None, Strangers::Remove)).expect("a table"));
        prop_assert_eq!(ruleset(&target, Some(&after), Strangers::Remove), []);
        prop_assert_eq!(ruleset(&target, Some(&after), Strangers::Keep), []);
    }

    /// A daemon that has not named its ENIs yet takes nothing from them.
    #[test]
    fn strangers_keep_their_way_out(before in world()) {
        let seen = applied(None, &ruleset(&plan(&before), None, Strangers::Remove)).expect("a table");
        let bare = (before.0, before.1, std::collections::BTreeMap::new());
        prop_assert_eq!(ruleset(&plan(&bare), Some(&seen), Strangers::Keep), []);
    }

    /// Taking one ENI out is the same as a plan without it.
    #[test]
    fn without_eni_is_the_plan_without_it(before in world()) {
        let seen = applied(None, &ruleset(&plan(&before), None, Strangers::Remove)).expect("a table");
        for device in before.2.keys() {
            let mark = EniSlot { card: 0, device: *device }.mark().expect("a small slot");
            let after = applied(Some(&seen), &without_eni(&seen, mark, 10 + device)).expect("a table");
            let mut rest = before.clone();
            rest.2.remove(device);
            prop_assert_eq!(ruleset(&plan(&rest), Some(&after), Strangers::Remove), []);
        }
    }
}

/// An address that moved to another ENI is taken from the first one in the same transaction, even from a stranger.
#[test]
fn a_moved_address_is_taken_from_a_stranger() {
    let seen = applied(
        None,
        &ruleset(&wanted(&node(false, true), &[eni(1, &BTreeSet::from([5]))]), None, Strangers::Remove),
    );
    let moved = EniConfig { sources: eni(1, &BTreeSet::from([5])).sources, ..eni(2, &BTreeSet::new()) };
    let target = wanted(&node(false, true), &[moved]);
    let after = applied(seen.as_ref(), &ruleset(&target, seen.as_ref(), Strangers::Keep)).expect("a table");
    let jumps: Vec<_> = after.sets["addresses"].elements.iter().map(|e| e.jump.clone()).collect();
    assert_eq!(jumps, [Some("eni-3".to_owned())]);
}

/// The table of an older daemon: one map of ranges for single addresses and prefixes.
fn older_table(enis: &[EniConfig]) -> Seen {
    let target = wanted(&node(false, true), enis);
    let mut seen = applied(None, &ruleset(&target, None, Strangers::Remove)).expect("a table");
    let single = seen.sets.remove("addresses").expect("a map").elements;
    let mut sources = seen.sets.remove("prefixes").expect("a map");
    let behind = |key: [u8; 4]| (u32::from_be_bytes(key) + 1).to_be_bytes();
    sources.elements.extend(single.into_iter().map(|e| Element { end: Some(behind(e.key)), ..e }));
    seen.sets.insert("sources".into(), sources);
    seen.chains.get_mut("egress").expect("a chain").tags.push("looks into sources".into());
    seen
}

proptest! {
    /// An upgrade takes no pod's way out, however many of the ENIs have been named, and does not bring back what was given
    /// to another ENI meanwhile.
    #[test]
    fn sources_of_an_older_table_are_carried_over(before in world(), named in 0usize..4) {
        let enis: Vec<EniConfig> = before.2.iter().map(|(device, hosts)| eni(*device, hosts)).collect();
        let seen = older_table(&enis);
        let some = wanted(&node(false, true), &enis[..named.min(enis.len())]);
        let after = applied(Some(&seen), &ruleset(&some, Some(&seen), Strangers::Keep)).expect("a table");
        let all = wanted(&node(false, true), &enis);
        let built = applied(None, &ruleset(&all, None, Strangers::Remove)).expect("a table");
        for map in ["addresses", "prefixes"] {
            prop_assert_eq!(&after.sets[map].elements, &built.sets[map].elements);
        }
        prop_assert!(!after.sets.contains_key("sources"));
        prop_assert_eq!(ruleset(&some, Some(&after), Strangers::Keep), []);
        prop_assert_eq!(ruleset(&all, Some(&after), Strangers::Remove), []);
    }
}

/// The address of an ENI not named yet, in an older table; then the same with an ENI that has it now, alone or in a prefix.
#[test]
fn an_older_tables_address_stays_unless_another_eni_has_it() {
    let held =
        EniConfig { sources: vec!["10.0.1.101/32".parse().expect("a network")], ..eni(1, &BTreeSet::new()) };
    let seen = older_table(&[held]);
    for (now, jump) in [(None, "eni-2"), (Some("10.0.1.101/32"), "eni-3"), (Some("10.0.1.96/28"), "eni-3")] {
        let named: Vec<EniConfig> = now
            .map(|net| EniConfig {
                sources: vec![net.parse().expect("a network")],
                ..eni(2, &BTreeSet::new())
            })
            .into_iter()
            .collect();
        let target = wanted(&node(false, true), &named);
        let after = applied(Some(&seen), &ruleset(&target, Some(&seen), Strangers::Keep)).expect("a table");
        let maps = ["addresses", "prefixes"].map(|map| &after.sets[map].elements);
        let jumps: Vec<_> = maps.into_iter().flatten().map(|e| e.jump.as_deref()).collect();
        assert_eq!(jumps, [Some(jump)], "{now:?}");
    }
}
