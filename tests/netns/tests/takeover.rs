//! What the incumbent made for the whole node, and what becomes of it after a take-over.

use podwire_hostnet::{Layout, NodeNet, has_legacy_nat};
use podwire_netns::node::{Fabric, SECOND, net, node_config, ready_node, second_eni, set, wired_pod};
use podwire_netns::tcp::{Server, seen_as};
use podwire_netns::{Ns, Stage, on_stage};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(2);
const OUTSIDE: &str = "198.51.100.10:80";

/// What the incumbent makes for the node by this flavour of iptables. *Source*: incumbent-behaviour §4.4.
fn by_iptables(stage: &Stage, iptables: &str) {
    for rule in [
        "nat -N AWS-SNAT-CHAIN-0",
        "nat -A POSTROUTING -m comment --comment 'AWS SNAT CHAIN' -j AWS-SNAT-CHAIN-0",
        "nat -A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment 'AWS SNAT CHAIN' -j RETURN",
        "nat -A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment 'AWS, SNAT' -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.0.11 --random-fully",
        "mangle -A PREROUTING -i eth0 -m comment --comment 'AWS, primary ENI' -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-mark 0x80/0x80",
        "mangle -A PREROUTING -i eni+ -m comment --comment 'AWS, primary ENI' -j CONNMARK --restore-mark --mask 0x80",
        "mangle -A PREROUTING -i vlan+ -m comment --comment 'AWS, primary ENI' -j CONNMARK --restore-mark --mask 0x80",
    ] {
        stage.run(&format!("{iptables} -w -t {rule}"));
    }
}

/// Its marks of outbound connections, made by iptables as well.
fn marks_by_iptables(stage: &Stage) {
    for rule in [
        "-N AWS-CONNMARK-CHAIN-0",
        "-A PREROUTING -i eni+ -m comment --comment 'AWS, outbound connections' -j AWS-CONNMARK-CHAIN-0",
        "-A PREROUTING -m comment --comment 'AWS, CONNMARK' -j CONNMARK --restore-mark --mask 0x80",
        "-A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/16 -m comment --comment 'AWS CONNMARK CHAIN' -j RETURN",
        "-A AWS-CONNMARK-CHAIN-0 -m comment --comment 'AWS, CONNMARK' -j CONNMARK --set-xmark 0x80/0x80",
    ] {
        stage.run(&format!("iptables-nft -w -t nat {rule}"));
    }
}

/// The same made by itself.
fn marks_by_nft(stage: &Stage) {
    stage.run(
        "nft -f - <<'E'
table ip aws-cni {
  chain snat-mark { counter ip daddr 10.0.0.0/16 return; counter ct mark set ct mark | 0x80; }
  chain nat-prerouting { type nat hook prerouting priority -90; policy accept;
    fib daddr type local return
    iifname \"eni*\" counter jump snat-mark
    counter meta mark set ct mark & 0x80
  }
}
E",
    );
}

/// What kube-proxy and others keep in the same tables.
fn of_others(stage: &Stage) {
    for rule in [
        "nat -N KUBE-POSTROUTING",
        "nat -A POSTROUTING -m comment --comment 'kubernetes postrouting rules' -j KUBE-POSTROUTING",
        "nat -A POSTROUTING -m comment --comment 'AWS, by an operator' -d 203.0.113.1 -j ACCEPT",
        "nat -N AWS-MINE",
        "nat -A PREROUTING -j AWS-MINE",
        "mangle -A PREROUTING -i lo -m comment --comment 'primary ENI' -j ACCEPT",
    ] {
        stage.run(&format!("iptables-nft -w -t {rule}"));
    }
    stage.run("ip rule add pref 1535 to 203.0.113.0/24 lookup 77; ip rule add pref 1534 to 203.0.113.0/24 lookup main");
}

/// A node that was the incumbent's yesterday, and a pod of it. The others' part is told.
fn taken_over(stage: &Stage, marks: fn(&Stage)) -> (Fabric, NodeNet, Ns, Vec<String>) {
    of_others(stage);
    let others = rules_of_others(stage);
    by_iptables(stage, "iptables-nft");
    marks(stage);
    for service in ["198.51.100.0/24", "192.0.2.0/24"] {
        stage.run(&format!("ip rule add pref 1535 to {service} lookup main"));
    }
    let (fabric, node) = ready_node(stage);
    let pod = wired_pod(stage, "other", "10.0.1.101");
    (fabric, node, pod, others)
}

fn rules_of_others(stage: &Stage) -> Vec<String> {
    let dump = "iptables-nft-save -t nat; iptables-nft-save -t mangle; ip rule show pref 1534; ip rule show pref 1535";
    let ours = |line: &str| !line.starts_with('#') && !line.starts_with(':');
    stage.run(dump).lines().filter(|line| ours(line)).map(str::to_owned).collect()
}

/// The incumbent's SNAT and marks come first, with the networks of its last day. Once they are gone ours decide: a network
/// that is added to the VPC is reached from the pod's own address, through the pod's own ENI.
#[test]
fn settings_take_effect_where_the_incumbent_had_its_own() {
    for marks in [marks_by_iptables, marks_by_nft] {
        on_stage(move |stage| {
            let (fabric, mut node, pod, others) = taken_over(stage, marks);
            let _server = Server::start(&fabric.internet, OUTSIDE);
            set(&mut node, |config| config.vpc_cidrs.push(net("198.51.100.0/24")));
            assert_eq!(seen_as(&pod, OUTSIDE).expect("connected"), "10.0.0.11", "what the incumbent knew");
            assert!(node.remove_incumbents().expect("removed") > 5);
            assert_eq!(seen_as(&pod, OUTSIDE).expect("connected"), "10.0.1.101");
            assert_eq!(rules_of_others(stage), others);
            let ruleset = stage.run("nft list ruleset");
            assert!(!ruleset.contains("AWS-SNAT") && !ruleset.contains("AWS-CONN"), "{ruleset}");
            assert!(!ruleset.contains("aws-cni") && ruleset.contains("KUBE-POSTROUTING"), "{ruleset}");
            assert_eq!(node.remove_incumbents().expect("asked"), 0, "twice");
            // What is not in the VPC is under SNAT as ever, by our rule; the incumbent would find its own place free.
            set(&mut node, |config| config.layout = Layout::Compat);
            assert_eq!(seen_as(&pod, OUTSIDE).expect("connected"), "10.0.0.11");
            by_iptables(stage, "iptables-nft");
            assert_eq!(fabric.spoofed(), 0);
        });
    }
}

/// An external service that is in our settings keeps its rule, although the incumbent made it.
#[test]
fn external_service_that_is_still_set_keeps_its_rule() {
    on_stage(|stage| {
        let (_fabric, mut node, _pod, _) = taken_over(stage, marks_by_nft);
        set(&mut node, |config| config.external_service_cidrs.push(net("192.0.2.0/24")));
        node.remove_incumbents().expect("removed");
        let left = stage.run("ip rule show pref 1535");
        assert!(left.contains("to 192.0.2.0/24 lookup main") && !left.contains("198.51.100.0"), "{left}");
    });
}

/// Rules of the older flavour are out of reach; that there are some is told.
#[test]
fn rules_of_legacy_iptables_are_told_of() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        assert!(!has_legacy_nat());
        by_iptables(stage, "iptables-legacy");
        assert!(has_legacy_nat());
        assert_eq!(node.remove_incumbents().expect("asked"), 0);
        assert!(stage.run("iptables-legacy -t nat -S").contains("AWS-SNAT-CHAIN-0"));
    });
}

/// The incumbent's rule for an ENI that is gone leads a pod astray that has the ENI's address later; that of a live ENI,
/// the same one as ours, stays, whoever made it.
#[test]
fn rule_of_an_eni_that_is_gone_leads_no_pod_astray() {
    on_stage(|stage| {
        let (_fabric, node) = ready_node(stage);
        drop(node);
        stage.run("ip rule del pref 32765; ip rule add pref 32765 from 10.0.1.12 lookup 2");
        for gone in ["10.0.1.70", "10.0.1.101", "10.0.9.70"] {
            stage.run(&format!("ip rule add pref 32765 from {gone} lookup 99"));
        }
        stage.run("ip rule add pref 32765 from 10.0.1.72/31 lookup 99");
        let rules = |wanted: &[&str]| {
            let seen = stage.run("ip rule show pref 32765");
            let sources: Vec<&str> = seen.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
            assert_eq!(sources, wanted, "{seen}");
        };
        let mut node = NodeNet::open().expect("sockets");
        node.apply_node(&node_config()).expect("node");
        node.apply_eni(&second_eni(&["10.0.1.64/28"]), SHORT).expect("ENI");
        rules(&["10.0.1.12", "10.0.1.101", "10.0.9.70", "10.0.1.72/31"]);
        node.add_sources(SECOND, &[net("10.0.1.101/32")]).expect("added");
        rules(&["10.0.1.12", "10.0.9.70", "10.0.1.72/31"]);
        node.flush_addresses(&[[10, 0, 1, 12].into()]).expect("flushed");
        rules(&["10.0.1.12", "10.0.9.70", "10.0.1.72/31"]);
    });
}
