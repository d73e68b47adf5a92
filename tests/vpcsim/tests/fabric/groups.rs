//! Security groups.

use std::net::SocketAddr;

use ipnetwork::IpNetwork;
use vpcsim::probe::Echo;
use vpcsim::wires::{GroupRule, Peer, Wires};

use crate::bench::{Bench, OPEN, closed, name, ping, silent, tcp, wire_pod};

fn tcp_port(port: u16, peer: Peer) -> GroupRule {
    GroupRule { protocol: Some(6), ports: Some((port, port)), peer }
}

#[test]
fn only_what_a_group_allows_comes_in_and_answers_come_back() {
    let mut bench = Bench::new(name("sg"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let _servers = [5432, 8080]
        .map(|port| Echo::start(two.namespaces(), SocketAddr::from(([10, 0, 1, 21], port))).unwrap());
    assert!(tcp(one.namespaces(), [10, 0, 1, 21], 8080), "open at first");

    let icmp = GroupRule { protocol: Some(1), ports: None, peer: Peer::Cidr("10.0.0.0/16".parse().unwrap()) };
    bench.fabric.set_group_rules("sg-db", &[tcp_port(5432, Peer::Group(OPEN.to_owned())), icmp]).unwrap();
    bench.fabric.set_groups("eni-two-0", &["sg-db".to_owned()]).unwrap();
    let before = bench.fabric.drops().unwrap().group_denied;
    assert!(tcp(one.namespaces(), [10, 0, 1, 21], 5432), "allowed port");
    assert!(closed(one.namespaces(), [10, 0, 1, 21], 8080), "denied port");
    assert!(bench.fabric.drops().unwrap().group_denied > before, "and counted");
    assert!(ping(one.namespaces(), [10, 0, 1, 21]), "allowed protocol");
    assert!(silent(two.namespaces(), [10, 0, 0, 11]), "no longer a member of the open group");

    // Both groups: the union.
    bench.fabric.set_groups("eni-two-0", &["sg-db".to_owned(), OPEN.to_owned()]).unwrap();
    assert!(tcp(one.namespaces(), [10, 0, 1, 21], 8080));
    assert!(ping(two.namespaces(), [10, 0, 0, 11]));
}

#[test]
fn members_count_with_every_address_they_have() {
    let mut bench = Bench::new(name("members"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let _server = Echo::start(two.namespaces(), SocketAddr::from(([10, 0, 1, 21], 7000))).unwrap();
    bench.fabric.set_group_rules("sg-b", &[tcp_port(7000, Peer::Group("sg-a".to_owned()))]).unwrap();
    bench.fabric.set_groups("eni-two-0", &["sg-b".to_owned()]).unwrap();
    bench.fabric.route("eni-one-0", "10.0.0.96/28".parse().unwrap()).unwrap();
    let pod = wire_pod(&one, "p1", [10, 0, 0, 101].into(), 254).namespaces().unwrap();
    assert!(closed(&pod, [10, 0, 1, 21], 7000), "not a member yet");
    bench.fabric.set_groups("eni-one-0", &["sg-a".to_owned()]).unwrap();
    assert!(tcp(&pod, [10, 0, 1, 21], 7000), "its prefix came along");
    bench.fabric.unroute("eni-one-0", "10.0.0.96/28".parse().unwrap()).unwrap();
    bench.fabric.route("eni-one-0", "10.0.0.101/32".parse().unwrap()).unwrap();
    assert!(tcp(&pod, [10, 0, 1, 21], 7000), "later addresses are members as well");
}

#[test]
fn new_rules_replace_the_old_ones() {
    let mut bench = Bench::new(name("rules"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let _server = Echo::start(two.namespaces(), SocketAddr::from(([10, 0, 1, 21], 7000))).unwrap();
    bench.fabric.set_groups("eni-two-0", &["sg-x".to_owned()]).unwrap();
    assert!(closed(one.namespaces(), [10, 0, 1, 21], 7000), "a group without rules allows nothing");
    let everyone: IpNetwork = "0.0.0.0/0".parse().unwrap();
    bench.fabric.set_group_rules("sg-x", &[tcp_port(7000, Peer::Cidr(everyone))]).unwrap();
    assert!(tcp(one.namespaces(), [10, 0, 1, 21], 7000));
    bench.fabric.set_group_rules("sg-x", &[tcp_port(7001, Peer::Cidr(everyone))]).unwrap();
    assert!(closed(one.namespaces(), [10, 0, 1, 21], 7000));
    assert!(bench.fabric.set_group_rules("sg x; flush ruleset", &[]).is_err(), "names are checked");
}
