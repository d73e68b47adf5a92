//! Who reaches whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use vpcsim::probe::{self, Echo};
use vpcsim::wires::Wires;

use crate::bench::{Bench, eventually, ip, loosen, name, nft, ping, set_up_secondary, silent, wire_pod};

#[test]
fn pods_of_two_nodes_reach_each_other_across_subnets_with_jumbo_frames() {
    let mut bench = Bench::new(name("across"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let second = bench.plug(&one, 1, 0, 12);
    set_up_secondary(&one, &second);
    bench.fabric.route("eni-one-1", "10.0.0.101/32".parse().unwrap()).unwrap();
    bench.fabric.route("eni-two-0", "10.0.1.64/28".parse().unwrap()).unwrap();
    let secondary = wire_pod(&one, "p1", Ipv4Addr::new(10, 0, 0, 101), 2);
    let prefixed = wire_pod(&two, "p2", Ipv4Addr::new(10, 0, 1, 65), 254);

    let from = secondary.namespaces().unwrap();
    let before = bench.fabric.received_from("eni-one-1").unwrap();
    assert!(ping(&from, [10, 0, 1, 65]), "pod to pod");
    assert!(bench.fabric.received_from("eni-one-1").unwrap() > before, "left by its own ENI");
    // 8973 + 8 (ICMP) + 20 (IP) = 9001.
    assert!(probe::ping(&from, None, IpAddr::from([10, 0, 1, 65]), 8973).unwrap(), "jumbo");
    assert!(probe::silent(&from, None, IpAddr::from([10, 0, 1, 65]), 8974).unwrap(), "too big for any ENI");
    assert!(ping(&from, [10, 0, 1, 21]), "pod to the other node");
    assert!(ping(two.namespaces(), [10, 0, 0, 101]), "node to pod");
    assert!(ping(&prefixed.namespaces().unwrap(), [10, 0, 0, 11]), "pod to the other node's primary");
    assert!(ping(one.namespaces(), [10, 0, 0, 1]), "the gateway answers");
    assert_eq!(bench.fabric.drops().unwrap().spoofed, 0);
}

#[test]
fn nodes_of_one_subnet_reach_each_other() {
    let mut bench = Bench::new(name("subnet"));
    let (one, _two) = (bench.node("one", 0, 11), bench.node("two", 0, 12));
    assert!(ping(one.namespaces(), [10, 0, 0, 12]), "the fabric answers ARP for the neighbour");
    assert!(silent(one.namespaces(), [10, 0, 0, 77]), "and not for what nobody has");
}

#[test]
fn a_source_that_is_not_assigned_to_the_eni_is_dropped_and_counted() {
    let mut bench = Bench::new(name("spoof"));
    let (one, _two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let second = bench.plug(&one, 1, 0, 12);
    set_up_secondary(&one, &second);
    bench.fabric.route("eni-one-1", "10.0.0.101/32".parse().unwrap()).unwrap();
    let pod = wire_pod(&one, "p1", Ipv4Addr::new(10, 0, 0, 101), 2);
    let from = pod.namespaces().unwrap();
    assert!(ping(&from, [10, 0, 1, 21]));

    // Assigned to eth1, sent by eth0: what a missing policy rule does.
    ip(one.namespaces(), "rule del from 10.0.0.101 lookup 2 pref 1536\n");
    assert!(silent(&from, [10, 0, 1, 21]), "wrong ENI");
    assert_eq!(bench.fabric.drops().unwrap().spoofed, 1);

    ip(one.namespaces(), "rule add from 10.0.0.101 lookup 2 pref 1536\n");
    assert!(ping(&from, [10, 0, 1, 21]), "right ENI again");

    // Assigned to nobody. From the node itself: a stock node's own rp_filter would stop a pod.
    ip(one.namespaces(), "addr add 10.0.0.240/32 dev lo\n");
    let spoofed = Some(IpAddr::from([10, 0, 0, 240]));
    assert!(probe::silent(one.namespaces(), spoofed, IpAddr::from([10, 0, 1, 21]), 56).unwrap(), "spoofed");
    assert_eq!(bench.fabric.drops().unwrap().spoofed, 2);
}

#[test]
fn without_source_dest_check_any_source_passes() {
    let mut bench = Bench::new(name("nocheck"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let mut port = bench.port(&one, 1, 0, 12);
    port.source_dest_check = false;
    bench.fabric.plug(&port).unwrap();
    set_up_secondary(&one, &port);
    ip(one.namespaces(), "rule add from 10.0.0.11 lookup 2 pref 1536\n");
    loosen(&one, "eth0");
    let echo = Echo::start(two.namespaces(), SocketAddr::from(([10, 0, 1, 21], 7000))).unwrap();
    let seen = probe::seen_as(one.namespaces(), echo.address().unwrap()).unwrap();
    assert_eq!(seen.ip(), IpAddr::from([10, 0, 0, 11]), "eth0's address, sent by eth1");
}

#[test]
fn an_unassigned_address_stops_at_once_even_for_open_connections() {
    let mut bench = Bench::new(name("unassign"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let net = "10.0.0.101/32".parse().unwrap();
    bench.fabric.route("eni-one-0", net).unwrap();
    let pod = wire_pod(&one, "p1", Ipv4Addr::new(10, 0, 0, 101), 254);
    let echo = Echo::start(two.namespaces(), SocketAddr::from(([10, 0, 1, 21], 7000))).unwrap();
    let from = pod.namespaces().unwrap();
    assert!(probe::tcp(&from, echo.address().unwrap()).unwrap());
    bench.fabric.unroute("eni-one-0", net).unwrap();
    assert!(probe::closed(&from, echo.address().unwrap()).unwrap(), "cannot send");
    assert!(silent(two.namespaces(), [10, 0, 0, 101]), "cannot receive");
    bench.fabric.route("eni-one-0", net).unwrap();
    assert!(probe::tcp(&from, echo.address().unwrap()).unwrap(), "assigned again");
    bench.fabric.unroute("eni-one-0", net).unwrap();
    assert!(bench.fabric.unroute("eni-one-0", net).is_err(), "twice is a mistake of the caller");
}

#[test]
fn the_internet_sees_the_nodes_address_after_snat() {
    let mut bench = Bench::new(name("snat"));
    let one = bench.node("one", 0, 11);
    bench.fabric.route("eni-one-0", "10.0.0.101/32".parse().unwrap()).unwrap();
    let pod = wire_pod(&one, "p1", Ipv4Addr::new(10, 0, 0, 101), 254);
    let from = pod.namespaces().unwrap();
    let there = bench.internet.address();
    assert_eq!(probe::seen_as(&from, there).unwrap().ip(), IpAddr::from([10, 0, 0, 101]), "untranslated");
    nft(
        one.namespaces(),
        "table ip t { chain c { type nat hook postrouting priority srcnat; \
         ip daddr != 10.0.0.0/16 snat to 10.0.0.11\n }\n }\n",
    );
    assert_eq!(probe::seen_as(&from, there).unwrap().ip(), IpAddr::from([10, 0, 0, 11]));
    assert!(silent(bench.internet.namespaces(), [10, 0, 0, 11]), "nobody outside gets in");
}

#[test]
fn ipv6_prefixes_are_delivered_and_checked() {
    let mut bench = Bench::new(name("v6"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    bench.fabric.route("eni-one-0", "2001:db8::a/128".parse().unwrap()).unwrap();
    bench.fabric.route("eni-two-0", "2001:db8::b:0/112".parse().unwrap()).unwrap();
    for (node, address) in [(&one, "2001:db8::a"), (&two, "2001:db8::b:1")] {
        ip(
            node.namespaces(),
            &format!("addr add {address}/128 dev eth0 nodad\nroute add default via fe80::1 dev eth0\n"),
        );
    }
    let to = "2001:db8::b:1".parse().unwrap();
    // The node's own link-local address must have passed duplicate detection first.
    eventually("IPv6 across the fabric", || probe::ping(one.namespaces(), None, to, 56).unwrap());
    ip(one.namespaces(), "addr add 2001:db8::c/128 dev eth0 nodad\n");
    let spoofed = Some("2001:db8::c".parse().unwrap());
    assert!(probe::silent(one.namespaces(), spoofed, to, 56).unwrap());
    assert!(bench.fabric.drops().unwrap().spoofed > 0);
}
