//! What leaves the VPC: under which address, by which ENI, from which port.

use super::{clean, ping, pods};
use podwire_hostnet::{NodeConfig, NodeNet, RandomSnat};
use podwire_netns::node::{net, ready_node, second_eni, set};
use podwire_netns::tcp::{Client, Server, seen_as};
use podwire_netns::{Ns, on_stage};
use std::time::Duration;

/// Out of the VPC: under the node's primary address, by the primary ENI, whatever ENI the pod is on.
#[test]
fn pods_leave_the_vpc_under_the_primary_address() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        let _server = Server::start(&fabric.internet, "198.51.100.10:80");
        for pod in [&pods.first, &pods.second, &pods.prefixed] {
            assert_eq!(seen_as(pod, "198.51.100.10:80").expect("an answer"), "10.0.0.11");
            pod.run(&ping("198.51.100.10"));
        }
        clean(&fabric);
    });
}

/// AWS_VPC_K8S_CNI_EXTERNALSNAT and …EXCLUDE_SNAT_CIDRS: no SNAT, and out by the pod's own ENI. Changed while running.
#[test]
fn pods_leave_the_vpc_as_themselves_where_told_so() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let pods = pods(stage);
        let _server = Server::start(&fabric.internet, "198.51.100.10:80");
        let seen = |pod: &Ns| seen_as(pod, "198.51.100.10:80").expect("an answer");
        let own = [(&pods.first, "10.0.0.101"), (&pods.second, "10.0.1.101"), (&pods.prefixed, "10.0.1.65")];
        for node_port_support in [true, false] {
            set(&mut node, |c| (c.external_snat, c.node_port_support) = (true, node_port_support));
            own.iter().for_each(|(pod, address)| assert_eq!(seen(pod), *address));
            set(&mut node, |c| c.node_port_support = node_port_support);
            own.iter().for_each(|(pod, _)| assert_eq!(seen(pod), "10.0.0.11"));
            set(&mut node, |c| c.exclude_snat_cidrs = vec![net("198.51.100.0/24"), net("10.0.0.0/8")]);
            own.iter().for_each(|(pod, address)| assert_eq!(seen(pod), *address));
        }
        set(&mut node, |c| c.vpc_cidrs.push(net("198.51.100.0/24")));
        own.iter().for_each(|(pod, address)| assert_eq!(seen(pod), *address));
        clean(&fabric);
    });
}

/// AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS=0.0.0.0/0, an interval without an end: pods leave as themselves, applying it again or
/// after a restart changes nothing, and it goes back.
#[test]
fn everything_may_be_excluded_from_snat() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let pods = pods(stage);
        let _server = Server::start(&fabric.internet, "198.51.100.10:80");
        let seen = |pod: &Ns| seen_as(pod, "198.51.100.10:80").expect("an answer");
        let own = [(&pods.first, "10.0.0.101"), (&pods.second, "10.0.1.101"), (&pods.prefixed, "10.0.1.65")];
        let everything = |c: &mut NodeConfig| c.exclude_snat_cidrs = vec![net("0.0.0.0/0")];
        set(&mut node, everything);
        own.iter().for_each(|(pod, address)| assert_eq!(seen(pod), *address));
        let before = node.changes();
        set(&mut node, everything);
        assert_eq!(node.changes(), before, "applied twice: {:?}", node.take_changes());
        let mut restarted = NodeNet::open().expect("sockets");
        set(&mut restarted, everything);
        restarted
            .apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), Duration::from_secs(5))
            .expect("ENI");
        restarted.prune().expect("pruned");
        assert_eq!(restarted.changes(), 0, "restarted: {:?}", restarted.take_changes());
        own.iter().for_each(|(pod, address)| assert_eq!(seen(pod), *address));
        set(&mut restarted, |_| {});
        own.iter().for_each(|(pod, _)| assert_eq!(seen(pod), "10.0.0.11"));
        clean(&fabric);
    });
}

/// AWS_EXTERNAL_SERVICE_CIDRS: these destinations are reached by the primary ENI, whatever ENI the pod is on; changed while
/// running. The incumbent's meaning, so that without SNAT a pod on a secondary ENI is not heard there.
#[test]
fn external_services_are_routed_by_main() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let pods = pods(stage);
        let _server = Server::start(&fabric.internet, "198.51.100.10:80");
        set(&mut node, |c| c.external_snat = true);
        assert_eq!(seen_as(&pods.second, "198.51.100.10:80").expect("by its own ENI"), "10.0.1.101");
        set(&mut node, |c| {
            c.external_snat = true;
            c.external_service_cidrs = vec![net("198.51.100.7/24"), net("192.0.2.1/32")];
        });
        let rules = stage.run("ip rule show pref 1535");
        assert_eq!(rules.matches("lookup main").count(), 2, "{rules}");
        let way = stage.run("ip route get 198.51.100.10 from 10.0.1.101 iif enisecond mark 2");
        assert!(way.contains("dev eth0"), "{way}");
        assert_eq!(seen_as(&pods.first, "198.51.100.10:80").expect("an answer"), "10.0.0.101");
        set(&mut node, |c| c.external_snat = true);
        assert_eq!(stage.run("ip rule show pref 1535"), "");
        assert_eq!(seen_as(&pods.second, "198.51.100.10:80").expect("by its own ENI"), "10.0.1.101");
    });
}

/// `AWS_VPC_K8S_CNI_RANDOMIZESNAT`: without it a source port that is free stays; with it, of either kind, it does not.
#[test]
fn source_ports_under_snat_follow_the_setting() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let pods = pods(stage);
        let _server = Server::start(&fabric.internet, "198.51.100.10:80");
        // (port it sends from, port that answers come to) of every connection.
        let ports = |ns: &Ns, own: &str| {
            // The other pod's, too: a port that it has would be taken.
            stage.run("conntrack -F 2>/dev/null");
            let _open: Vec<Client> =
                (0..4).map(|_| Client::connect(ns, "198.51.100.10:80").expect("connected")).collect();
            let table = stage.run(&format!("conntrack -L -p tcp -s {own} 2>/dev/null"));
            let connections = table.lines().map(|line| {
                let port = |key: &str, nth: usize| {
                    let mut found = line.split_whitespace().filter_map(|word| word.strip_prefix(key));
                    found.nth(nth).expect("a port").to_owned()
                };
                (port("sport=", 0), port("dport=", 1))
            });
            connections.collect::<Vec<_>>()
        };
        for (random, flags, kept) in [
            (RandomSnat::None, "", true),
            (RandomSnat::HashRandom, "random", false),
            (RandomSnat::Prng, "fully-random", false),
        ] {
            set(&mut node, |c| c.random_snat = random);
            // The ports alone do not tell the two kinds of random from each other.
            let rules = stage.run("nft list chain ip podwire leave-vpc");
            assert_eq!(rules.matches(" snat to ").count(), 1, "{rules}");
            let told = rules.lines().find_map(|line| line.trim().split_once(" snat to 10.0.0.11"));
            let told = told.and_then(|(_, rest)| rest.split_once("comment"));
            assert_eq!(told.map(|(flags, _)| flags.trim()), Some(flags), "{rules}");
            for (ns, own) in [(&pods.first, "10.0.0.101"), (&pods.second, "10.0.1.101")] {
                let seen = ports(ns, own);
                assert_eq!(seen.len(), 4, "{random:?}: {seen:?}");
                assert_eq!(
                    seen.iter().all(|(sent, answered)| sent == answered),
                    kept,
                    "{random:?}: {seen:?}"
                );
            }
        }
        clean(&fabric);
    });
}
