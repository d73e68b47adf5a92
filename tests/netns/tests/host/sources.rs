//! What pods may send from, and by which ENI: an address leads one way, and what failed is done when it is asked for again.

use podwire_hostnet::{EniConfig, EniSlot, NodeNet, Part, probe};
use podwire_netns::node::{Fabric, SECOND, net, node_config, ready_node, second_eni};
use podwire_netns::{Stage, on_stage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(2);
const THIRD: EniSlot = EniSlot { card: 0, device: 2 };

fn third_eni(sources: &[&str]) -> EniConfig {
    EniConfig { slot: THIRD, mac: [2, 0, 0, 0, 0, 3], primary: [10, 0, 1, 13].into(), ..second_eni(sources) }
}

/// A node with the second and the third ENI.
fn node_of_three(stage: &Stage, second: &[&str], third: &[&str]) -> (Fabric, NodeNet) {
    let (fabric, mut node) = ready_node(stage);
    fabric.attach(2, "02:00:00:00:00:03", "10.0.1.1", "10.0.1.13");
    node.apply_eni(&second_eni(second), SHORT).expect("ENI");
    node.apply_eni(&third_eni(third), SHORT).expect("ENI");
    node.prune().expect("pruned");
    (fabric, node)
}

/// Every source and the chain it leads to.
fn ways(stage: &Stage) -> BTreeSet<String> {
    let maps = ["addresses", "prefixes"].map(|map| stage.json(&format!("nft -j list map ip podwire {map}")));
    let objects = maps.iter().flat_map(|map| map["nftables"].as_array().into_iter().flatten());
    let elements = objects.flat_map(|object| object["map"]["elem"].as_array().into_iter().flatten());
    let way = |element: &Value| {
        let (key, chain) = (&element[0], &element[1]["jump"]["target"]);
        let prefix = &key["prefix"];
        let source = match key.as_str() {
            Some(address) => address.to_owned(),
            None => format!("{}/{}", prefix["addr"].as_str().unwrap_or("?"), prefix["len"]),
        };
        format!("{source} : jump {}", chain.as_str().unwrap_or("?"))
    };
    elements.map(way).collect()
}

fn set(ways: &[&str]) -> BTreeSet<String> {
    ways.iter().map(|way| (*way).to_owned()).collect()
}

/// Whether all that was applied is still there, can be applied again, and comes back when it is taken away.
fn stands(stage: &Stage, node: &mut NodeNet) {
    let wanted = ways(stage);
    node.apply_node(&node_config()).expect("node");
    assert_eq!(ways(stage), wanted);
    stage.run("nft flush ruleset");
    let repair = node.repair(&BTreeSet::from([Part::Ruleset]), &mut |_| Vec::new());
    assert!(repair.failures.is_empty(), "{:?}", repair.failures);
    assert_eq!(ways(stage), wanted, "after a repair");
}

/// An address that EC2 moved to another ENI while the daemon was away follows.
#[test]
fn sources_follow_an_address_to_another_eni() {
    on_stage(|stage| {
        let (_fabric, _node) = node_of_three(stage, &["10.0.1.101/32"], &["10.0.1.64/28"]);
        assert_eq!(ways(stage), set(&["10.0.1.101 : jump eni-2", "10.0.1.64/28 : jump eni-3"]));
        // Without knowing of the removal first.
        let mut restarted = NodeNet::open().expect("sockets");
        restarted.apply_node(&node_config()).expect("node");
        restarted.apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), SHORT).expect("ENI");
        assert_eq!(ways(stage), set(&["10.0.1.101 : jump eni-2", "10.0.1.64/28 : jump eni-2"]));
        // What it had before it was named is nobody's: a single address would hide the prefix around it.
        let mut again = NodeNet::open().expect("sockets");
        again.apply_node(&node_config()).expect("node");
        again.apply_eni(&third_eni(&["10.0.1.96/28"]), SHORT).expect("ENI");
        again.add_sources(THIRD, &[net("10.0.1.64/28")]).expect("added");
        assert_eq!(ways(stage), set(&["10.0.1.64/28 : jump eni-3", "10.0.1.96/28 : jump eni-3"]));
    });
}

/// The table of a daemon that kept single addresses and prefixes in one map: an upgrade takes no pod's way out before its
/// ENI is named.
#[test]
fn sources_of_an_older_table_stay_through_an_upgrade() {
    on_stage(|stage| {
        let (_fabric, node) = ready_node(stage);
        drop(node);
        let before = ways(stage);
        stage.run(
            "nft -f - <<'E'
add map ip podwire sources { type ipv4_addr : verdict; flags interval; }
add element ip podwire sources { 10.0.1.101 : jump eni-2, 10.0.1.64/28 : jump eni-2 }
flush chain ip podwire egress
add rule ip podwire egress ip saddr vmap @sources
delete map ip podwire addresses
delete map ip podwire prefixes
E",
        );
        let mut upgraded = NodeNet::open().expect("sockets");
        upgraded.apply_node(&node_config()).expect("node");
        assert_eq!(ways(stage), before);
        assert!(!stage.run("nft list table ip podwire").contains("sources"));
        upgraded.apply_eni(&second_eni(&["10.0.1.101/32"]), SHORT).expect("ENI");
        assert_eq!(ways(stage), set(&["10.0.1.101 : jump eni-2"]));
    });
}

/// An ENI that others detached is still remembered when EC2 assigns what it had to another one: single on single, prefix
/// around single, single out of a prefix, prefix on prefix.
#[test]
fn sources_of_an_eni_that_is_gone_lead_to_the_one_named_last() {
    for (had, given, wanted) in [
        ("10.0.1.101/32", "10.0.1.101/32", &["10.0.1.101 : jump eni-3"][..]),
        ("10.0.1.101/32", "10.0.1.96/28", &["10.0.1.96/28 : jump eni-3"]),
        ("10.0.1.64/28", "10.0.1.64/28", &["10.0.1.64/28 : jump eni-3"]),
        ("10.0.1.64/28", "10.0.1.70/32", &["10.0.1.64/28 : jump eni-2", "10.0.1.70 : jump eni-3"]),
    ] {
        for at_once in [false, true] {
            on_stage(move |stage| {
                let (_fabric, mut node) = node_of_three(stage, &[had], &["10.0.1.13/32"]);
                stage.run("ip link del eth1");
                if at_once {
                    node.apply_eni(&third_eni(&["10.0.1.13/32", given]), SHORT).expect("ENI");
                } else {
                    node.add_sources(THIRD, &[net(given)]).expect("added");
                }
                let mut wanted = set(wanted);
                wanted.insert("10.0.1.13 : jump eni-3".into());
                assert_eq!(ways(stage), wanted, "{had}, then {given}");
                stands(stage, &mut node);
                assert_eq!(ways(stage), wanted, "{had}, then {given}");
                // What is no longer its own cannot be taken away by its name.
                node.remove_sources(SECOND, &[net(had)]).expect("removed");
                assert!(
                    ways(stage).is_superset(&wanted.into_iter().filter(|w| w.contains("eni-3")).collect())
                );
            });
        }
    }
}

/// EC2 assigned to an ENI that others had just detached: the address is not taken for one that works.
#[test]
fn sources_of_an_eni_without_device_are_refused() {
    on_stage(|stage| {
        let (_fabric, mut node) = node_of_three(stage, &["10.0.1.101/32"], &["10.0.1.64/28"]);
        let before = ways(stage);
        stage.run("ip link del eth1");
        let refused = node.add_sources(SECOND, &[net("10.0.1.102/32")]).expect_err("no device");
        assert!(refused.to_string().contains("no network device with MAC"), "{refused}");
        assert_eq!(ways(stage), before);
    });
}

/// An address of a secondary ENI that is gone, now the primary ENI's: its way out is `main`.
#[test]
fn sources_given_to_the_primary_eni_lead_nowhere_else() {
    on_stage(|stage| {
        let (_fabric, mut node) = node_of_three(stage, &["10.0.1.101/32"], &["10.0.1.64/28"]);
        let primary = EniConfig { slot: EniSlot::PRIMARY, mac: podwire_netns::node::MAC0, ..second_eni(&[]) };
        node.apply_eni(&primary, SHORT).expect("ENI");
        node.add_sources(EniSlot::PRIMARY, &[net("10.0.1.101/32")]).expect("added");
        assert_eq!(ways(stage), set(&["10.0.1.64/28 : jump eni-3"]));
        stands(stage, &mut node);
    });
}

/// What the kernel refused once is done when it is asked for again.
#[test]
fn sources_refused_once_are_changed_the_second_time() {
    on_stage(|stage| {
        let (_fabric, mut node) = node_of_three(stage, &["10.0.1.101/32"], &["10.0.1.64/28"]);
        let before = ways(stage);
        // One that is free, and one that is another ENI's so far.
        for (moved, steps) in [("10.0.1.102/32", 1), ("10.0.1.101/32", 2)] {
            for step in 0..steps {
                probe::refuse_after(Some(step));
                let refused = node.add_sources(THIRD, &[net(moved)]);
                probe::refuse_after(None);
                refused.expect_err("refused");
                assert_eq!(ways(stage), before, "{moved}, message {step} refused");
                stands(stage, &mut node);
            }
        }
        let more = [net("10.0.1.102/32"), net("10.0.1.101/32")];
        node.add_sources(THIRD, &more).expect("added");
        let with = ["10.0.1.101 : jump eni-3", "10.0.1.102 : jump eni-3", "10.0.1.64/28 : jump eni-3"];
        assert_eq!(ways(stage), set(&with));
        probe::refuse_after(Some(0));
        let refused = node.remove_sources(THIRD, &more);
        probe::refuse_after(None);
        refused.expect_err("refused");
        assert_eq!(ways(stage), set(&with));
        stands(stage, &mut node);
        node.remove_sources(THIRD, &more).expect("removed");
        assert_eq!(ways(stage), set(&["10.0.1.64/28 : jump eni-3"]));
    });
}

/// Whatever step of the removal the kernel refuses, the next one ends it; a repair in between brings nothing back.
#[test]
fn remove_eni_refused_once_is_ended_the_second_time() {
    for repaired in [false, true] {
        on_stage(move |stage| {
            let (_fabric, mut node) = node_of_three(stage, &["10.0.1.101/32"], &["10.0.1.64/28"]);
            let mut steps = 0..;
            while steps.next().is_some_and(|step| refused_at(step, stage, &mut node, repaired)) {}
            assert!(!left_of_second(stage));
            assert!(steps.start > 10, "only {} messages", steps.start);
        });
    }
}

fn left_of_second(stage: &Stage) -> bool {
    let seen = stage.run("ip rule; nft list table ip podwire");
    let routes = stage.run("ip route show table 2 2>/dev/null || true");
    seen.contains("lookup 2 ") || seen.contains("eni-2") || !routes.is_empty()
}

/// Removes the second ENI with this message refused, and sets it up again; false when there were not so many.
fn refused_at(step: u32, stage: &Stage, node: &mut NodeNet, repaired: bool) -> bool {
    assert!(left_of_second(stage), "nothing to remove");
    probe::refuse_after(Some(step));
    let refused = node.remove_eni(SECOND);
    probe::refuse_after(None);
    if refused.is_ok() {
        return false;
    }
    if repaired {
        let repair = node.repair(&Part::ALL.into_iter().collect(), &mut |_| Vec::new());
        assert!(repair.failures.is_empty(), "{:?}", repair.failures);
    }
    node.remove_eni(SECOND).expect("removed");
    assert!(!left_of_second(stage), "message {step} refused, then removed again");
    node.apply_eni(&second_eni(&["10.0.1.101/32"]), SHORT).expect("ENI");
    true
}
