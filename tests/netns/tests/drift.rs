//! Drift: noticed by the kernel's notifications, put right, counted; what is ours or nobody's business is not noticed.

use podwire_hostnet::pod::{self, PodWiring};
use podwire_hostnet::{Attachment, Doomed, NodeNet, Noticed, Part, Repair, Watch};
use podwire_netns::node::{SECOND, net, node_config, ready_node, second_eni};
use podwire_netns::tcp::{Client, Server};
use podwire_netns::{Ns, Stage, kernel_state, on_stage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Long enough for any notification, short enough to wait for in vain.
const SHORT: Duration = Duration::from_secs(2);
/// Design D19.
const REPAIRED: Duration = Duration::from_secs(1);

/// Waits until something that concerns us is noticed.
fn noticed(watch: &mut Watch, node: &NodeNet) -> Noticed {
    let deadline = Instant::now() + SHORT;
    while Instant::now() < deadline {
        watch.wait(deadline, Duration::ZERO).expect("waited");
        let noticed = watch.take(node).expect("read");
        if !noticed.is_empty() {
            return noticed;
        }
    }
    Noticed::default()
}

fn nobody(_: &Attachment) -> Vec<IpAddr> {
    Vec::new()
}

fn repair(node: &mut NodeNet, noticed: &Noticed) -> Repair {
    let repair = node.repair(&noticed.parts, &mut nobody);
    assert!(repair.failures.is_empty(), "{:?}", repair.failures);
    repair
}

/// As the daemon repairs: what may only just be being wired is looked at again.
fn repair_pods(
    node: &mut NodeNet,
    noticed: &Noticed,
    held: &mut dyn FnMut(&Attachment) -> Vec<IpAddr>,
) -> Repair {
    let mut repair = node.repair(&noticed.parts, held);
    while let Some(at) = repair.again_at {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let again = node.repair(&BTreeSet::from([Part::PodRoute]), held);
        repair.made.extend(again.made);
        repair.failures.extend(again.failures);
        repair.again_at = again.again_at;
    }
    repair
}

/// A rebuilt table lists its chains in another order.
fn sorted(lines: &Value) -> BTreeSet<String> {
    lines.as_array().into_iter().flatten().map(Value::to_string).collect()
}

#[track_caller]
fn same(stage: &Stage, before: &Value, damage: &str) {
    let after = kernel_state(stage);
    for part in ["links", "routes", "permanent"] {
        assert_eq!(after[part], before[part], "{damage}");
    }
    assert_eq!(sorted(&after["rules"]), sorted(&before["rules"]), "{damage}");
    assert_eq!(sorted(&after["nft"]), sorted(&before["nft"]), "{damage}");
    for device in ["eth0", "eth1"] {
        let rp_filter = stage.run(&format!("sysctl -n net.ipv4.conf.{device}.rp_filter"));
        assert_eq!(rp_filter.trim(), "2", "{damage}");
    }
    assert_eq!(stage.run("sysctl -n net.ipv4.ip_forward").trim(), "1", "{damage}");
}

/// Damages the node and has it repaired. Returns how long noticing and repairing took.
#[track_caller]
fn repair_of(
    stage: &Stage,
    (node, watch): (&mut NodeNet, &mut Watch),
    state: &Value,
    (damage, part): (&str, Part),
) -> Duration {
    stage.run(damage);
    let started = Instant::now();
    let seen = noticed(watch, node);
    assert!(!seen.is_empty() && !seen.overrun, "{damage}: {seen:?}");
    let made = repair(node, &seen);
    let took = started.elapsed();
    assert!(made.parts().contains(&part), "{damage}: {:?}", made.made);
    same(stage, state, damage);
    let all = Noticed { parts: Part::ALL.into(), ..Noticed::default() };
    assert!(repair(node, &all).made.is_empty(), "{damage}: something was left to do");
    took
}

/// D19, scenarios 42 and 43: whatever is taken away or put in is noticed at once, comes right by one repair of the parts
/// that were noticed, is counted under the part that was damaged, and leaves nothing more to do.
#[test]
fn drift_is_noticed_repaired_and_counted_by_part() {
    use Part::{Address, Forwarding, Link, Mtu, ReversePath, Route, Rule, Ruleset};
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        node.prune().expect("pruned");
        let state = kernel_state(stage);
        let mut watch = Watch::open().expect("sockets");
        for (damage, part) in [
            ("ip rule flush; ip rule add pref 32767 lookup default", Rule),
            ("ip rule del pref 512", Rule),
            ("ip rule del pref 1536", Rule),
            ("ip rule del pref 32766", Rule),
            ("ip rule add pref 1536 fwmark 0x9/0x7f lookup 10 protocol 80", Rule),
            ("ip route flush table 2", Route),
            ("ip route del default table 2", Route),
            ("ip route add 10.0.2.0/24 dev eth1 table 2", Route),
            ("ip route replace default via 10.0.1.99 dev eth1 onlink table 2", Route),
            ("ip route replace unreachable default table 2", Route),
            ("ip route prepend unreachable default table 2", Route),
            ("ip route add blackhole 10.0.2.0/24 table 2", Route),
            ("ip link set eth1 down", Link),
            ("ip link set eth1 down; ip link set eth1 up", Route),
            ("ip addr flush dev eth1", Address),
            ("ip addr add 10.0.1.101/24 dev eth1", Address),
            ("ip link set eth1 mtu 1500", Mtu),
            ("sysctl -qw net.ipv4.conf.eth1.rp_filter=1", ReversePath),
            ("sysctl -qw net.ipv4.conf.eth0.rp_filter=1", ReversePath),
            ("sysctl -qw net.ipv4.ip_forward=0", Forwarding),
            ("nft flush ruleset", Ruleset),
            ("nft delete table ip podwire", Ruleset),
            ("nft flush chain ip podwire egress", Ruleset),
            ("nft add rule ip podwire egress drop", Ruleset),
            ("nft insert rule ip podwire egress accept", Ruleset),
            ("nft flush map ip podwire addresses", Ruleset),
            ("nft flush map ip podwire prefixes", Ruleset),
            ("nft delete element ip podwire addresses '{ 10.0.1.101 : jump eni-2 }'", Ruleset),
            ("nft add element ip podwire no-snat '{ 192.0.2.0/24 }'", Ruleset),
            ("nft delete element ip podwire no-snat '{ 10.0.0.0/16 }'", Ruleset),
            ("nft add chain ip podwire stray", Ruleset),
            (
                "nft 'delete chain ip podwire leave-vpc; add chain ip podwire leave-vpc { type nat hook postrouting priority 90; }'",
                Ruleset,
            ),
            ("nft chain ip podwire egress '{ policy drop; }'", Ruleset),
            ("nft add table ip podwire '{ flags dormant; }'", Ruleset),
            ("nft flush set ip podwire secondary", Ruleset),
        ] {
            // On a busy machine one try may be slow; a slow repair is slow every time.
            let tries: Vec<Duration> = (0..3)
                .map(|_| repair_of(stage, (&mut node, &mut watch), &state, (damage, part)))
                .take_while(|took| *took >= REPAIRED)
                .collect();
            assert!(tries.len() < 3, "{damage}: {tries:?}");
        }
    });
}

/// Where the kernel does not promote secondaries, a foreign address that came first takes the ENI's own with it.
#[test]
fn own_address_outlives_foreign_ones() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let state = kernel_state(stage);
        stage.run(
            "sysctl -qw net.ipv4.conf.all.promote_secondaries=0 net.ipv4.conf.eth1.promote_secondaries=0",
        );
        for own in ["", "ip addr add 10.0.1.12/24 dev eth1"] {
            stage.run("ip addr flush dev eth1; ip addr add 10.0.1.101/24 dev eth1; ip addr add 10.0.1.102/24 dev eth1");
            stage.run(own);
            let all = Noticed { parts: Part::ALL.into(), ..Noticed::default() };
            assert!(repair(&mut node, &all).parts().contains(&Part::Address));
            let addresses = stage.run("ip -br -4 addr show eth1");
            assert!(addresses.trim().ends_with(" 10.0.1.12/24"), "{own}: {addresses}");
            same(stage, &state, own);
            assert!(repair(&mut node, &all).made.is_empty(), "{own}: something was left to do");
        }
    });
}

/// Who did it: nftables names the process, routing the port.
#[test]
fn culprit_is_named() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let mut watch = Watch::open().expect("sockets");
        stage.run("nft flush chain ip podwire egress");
        let seen = noticed(&mut watch, &node);
        assert!(seen.by.iter().any(|who| who.starts_with("nft (pid ")), "{seen:?}");
        repair(&mut node, &seen);
        stage.run("ip rule del pref 512");
        let seen = noticed(&mut watch, &node);
        assert!(seen.by.iter().any(|who| who.contains("netlink port ") || who.contains("(pid ")), "{seen:?}");
    });
}

/// A device that is gone is told and keeps nothing else from being repaired; back under another index, it is taken up.
#[test]
fn eni_that_vanishes_and_comes_back_is_taken_up() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let rules = stage.run("ip rule");
        stage.run("ip link del eth1; ip rule del pref 512");
        let all: BTreeSet<Part> = Part::ALL.into();
        let first = node.repair(&all, &mut nobody);
        assert_eq!(first.failures.len(), 1, "{:?}", first.failures);
        assert!(first.failures[0].1.to_string().contains("02:00:00:00:00:02"));
        assert_eq!(stage.run("ip rule | sort"), sort(&rules));
        let mut watch = Watch::open().expect("sockets");
        fabric.router.run("ip neigh flush all; nft flush set ip vpc assigned");
        fabric.attach_second();
        let seen = noticed(&mut watch, &node);
        assert!(seen.parts.contains(&Part::Link), "{seen:?}");
        repair(&mut node, &seen);
        let index = stage.json("ip -j link show eth1")[0]["ifindex"].to_string();
        assert!(stage.run("ip route show table 2").contains("dev eth1"));
        assert!(stage.run("nft -nn list set ip podwire secondary; ip link show eth1").contains(&index));
        let again = node.repair(&all, &mut nobody);
        assert!(again.made.is_empty() && again.failures.is_empty(), "{again:?}");
    });
}

fn sort(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.iter().map(|l| format!("{l}\n")).collect()
}

struct Pod {
    ns: Ns,
    wiring: PodWiring,
}

fn pod(stage: &Stage, number: u32) -> Pod {
    let ns = stage.netns(&format!("pod{number}"));
    let wiring = PodWiring {
        attachment: Attachment { container_id: format!("c{number}"), ifname: "eth0".into() },
        host_ifname: format!("enipod{number}"),
        addresses: vec![IpAddr::from([10, 0, 1, u8::try_from(number).expect("few pods")])],
        mtu: 9001,
        compat: None,
    };
    pod::add(ns.open(), &wiring).expect("wired");
    Pod { ns, wiring }
}

impl Pod {
    fn doomed(&self) -> Doomed {
        Doomed { attachment: self.wiring.attachment.clone(), names: vec![self.wiring.host_ifname.clone()] }
    }
}

/// Pods that come and go, plugin and daemon at work: nobody's drift, nothing to look at.
#[test]
fn own_changes_and_pods_are_not_drift() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let mut watch = Watch::open().expect("sockets");
        let pods: Vec<Pod> = (101..=140).map(|n| pod(stage, n)).collect();
        node.add_sources(SECOND, &[net("10.0.1.0/28")]).expect("added");
        node.remove_sources(SECOND, &[net("10.0.1.0/28")]).expect("removed");
        let doomed: Vec<Doomed> = pods.iter().map(Pod::doomed).collect();
        // As the daemon does: by another value, with sockets of its own.
        let outcomes = NodeNet::open().expect("sockets").delete_pods(&doomed);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let mut config = node_config();
        config.vpc_cidrs.push(net("10.1.0.0/16"));
        node.apply_node(&config).expect("node");
        stage.run("nft add table ip other; nft 'add chain ip other c'; ip rule add pref 77 lookup main");
        stage.run("ip route add 10.99.0.0/16 dev lo; ip link add dummy-1 type veth peer name dummy-2; ip link del dummy-1");
        watch.wait(Instant::now() + SHORT, Duration::ZERO).expect("waited");
        assert_eq!(watch.take(&node).expect("read"), Noticed::default());
    });
}

/// D19: a pod's route comes back while its own link is there, carries its alias and is not doomed; no link is made.
#[test]
fn pod_route_comes_back_only_to_its_own_live_link() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let (one, two, doomed) = (pod(stage, 101), pod(stage, 66), pod(stage, 67));
        let mut held = |attachment: &Attachment| {
            [&one, &two, &doomed]
                .iter()
                .find(|p| p.wiring.attachment == *attachment)
                .map_or_else(Vec::new, |p| p.wiring.addresses.clone())
        };
        // As a daemon leaves it that is killed while it deletes.
        stage.run(&format!("ip link set {} group 1886846978 down", doomed.wiring.host_ifname));
        let state = kernel_state(stage);
        let mut watch = Watch::open().expect("sockets");
        for damage in [
            "ip route del 10.0.1.101/32 table 5120",
            "ip route flush table 5120",
            "ip route del 10.0.1.101/32 table main",
            "ip route flush table 5120; ip route flush dev enipod101",
            "ip route replace 10.0.1.101/32 dev enipod66 table 5120",
            "ip route add 10.0.1.0/24 dev lo table 5120",
            "ip route replace blackhole 10.0.1.101/32 table 5120",
            "ip route replace prohibit 10.0.1.101/32 table 5120 protocol 80",
            "ip route replace unreachable 10.0.1.101/32",
            "ip route replace blackhole 10.0.1.0/24 table 5120",
            "ip link set enipod101 down",
            "ip link set enipod101 down; ip link set enipod101 up",
        ] {
            stage.run(damage);
            let seen = noticed(&mut watch, &node);
            assert!(seen.parts.contains(&Part::PodRoute), "{damage}: {seen:?}");
            let repair = repair_pods(&mut node, &seen, &mut held);
            assert!(repair.failures.is_empty(), "{damage}: {:?}", repair.failures);
            assert_eq!(repair.parts(), [Part::PodRoute].into(), "{damage}: {:?}", repair.made);
            stage.await_true("ip link show enipod101 | grep -q 'state UP'");
            same(stage, &state, damage);
        }
        // Somebody took its alias: what it has stays, and what it loses does not come back.
        stage.run("ip link set enipod101 alias vm-7");
        let repair = node.repair(&Part::ALL.into(), &mut held);
        assert!(repair.made.is_empty() && repair.failures.is_empty(), "{repair:?}");
        assert!(stage.run("ip route show table 5120").contains("dev enipod101"));
        stage.run("ip route flush table 5120; ip link set enipod66 alias ''");
        let repair = node.repair(&[Part::PodRoute].into(), &mut nobody);
        assert!(repair.made.is_empty() && repair.failures.is_empty(), "{repair:?}");
        assert_eq!(stage.run("ip route show table 5120"), "");
        assert_eq!(
            stage.json("ip -j link show type veth").as_array().map(Vec::len),
            Some(5),
            "pods and ENIs"
        );
        drop((one.ns, two.ns));
    });
}

/// Connections across a secondary ENI live on through everything that somebody can do to us.
#[test]
fn established_connections_survive_damage_and_repair() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        // As kube-proxy does on every node, something else keeps NAT at work while our table is away.
        stage.run(
            "nft -f - <<'E'
table ip kube {
  chain pre { type nat hook prerouting priority dstnat; }
  chain post { type nat hook postrouting priority srcnat; }
}
E",
        );
        let pod = pod(stage, 101);
        let wiring = &pod.wiring;
        let _servers =
            [Server::start(&fabric.internet, "198.51.100.10:80"), Server::start(&fabric.peer, "10.0.9.9:80")];
        let mut outside = Client::connect(&pod.ns, "198.51.100.10:80").expect("connected");
        let mut inside = Client::connect(&pod.ns, "10.0.9.9:80").expect("connected");
        let mut watch = Watch::open().expect("sockets");
        for damage in [
            "ip rule flush",
            "ip route flush table 2",
            "ip link set eth1 down; ip link set eth1 up",
            "nft delete table ip podwire",
            "ip addr flush dev eth1; ip rule del pref 1536; ip route flush table 2",
            "sysctl -qw net.ipv4.conf.eth1.rp_filter=1",
            "ip route flush table 5120",
        ] {
            stage.run(damage);
            // Sent while nothing leads anywhere: TCP has to bring it through afterwards.
            outside.send().expect("not reset");
            inside.send().expect("not reset");
            let seen = noticed(&mut watch, &node);
            let done = repair_pods(&mut node, &seen, &mut |_| wiring.addresses.clone());
            assert!(done.failures.is_empty() && !done.made.is_empty(), "{damage}: {done:?}");
            assert_eq!(outside.receive().expect("still there"), "10.0.0.11", "{damage}");
            assert_eq!(inside.receive().expect("still there"), "10.0.1.101", "{damage}");
        }
    });
}

/// Scenario 49: per-pod rules that an earlier owner of an address left lead its next owner astray; those of a pod of the
/// incumbent that still runs stay, and so does what others keep elsewhere.
#[test]
fn rules_of_earlier_owners_are_removed() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        stage.run(
            "ip rule add pref 512 to 10.0.1.101 lookup main; ip rule add pref 1536 from 10.0.1.101 lookup 99",
        );
        stage.run(
            "ip rule add pref 1536 from 10.0.1.70 lookup 99; ip rule add pref 900 from 10.0.1.71 lookup 99",
        );
        // A pod of the incumbent.
        stage.run("ip link add eni0123 type veth peer name x; ip link set eni0123 up; ip route add 10.0.1.72 dev eni0123");
        stage.run(
            "ip rule add pref 512 to 10.0.1.72 lookup main; ip rule add pref 1536 from 10.0.1.72 lookup 2",
        );
        node.apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), SHORT).expect("ENI");
        let left = stage.run("ip rule");
        for gone in ["10.0.1.101", "10.0.1.70"] {
            assert!(!left.contains(gone), "{gone}: {left}");
        }
        assert!(left.contains("10.0.1.71") && left.matches("10.0.1.72").count() == 2, "{left}");
        let leftovers = node.take_changes().iter().filter(|c| c.part == Part::Leftover).count();
        assert_eq!(leftovers, 3);
        drop(fabric);
    });
}

/// Pods are wired all the time, also while they are looked at: their plugins make all of it. No route of theirs is taken for
/// nobody's, and no link for one that somebody set down.
#[test]
fn repair_beside_adds_changes_nothing() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let done = AtomicBool::new(false);
        // As the ledger knows them before they are wired.
        let mut held = |attachment: &Attachment| {
            let number = attachment.container_id.trim_start_matches('c').parse().expect("a number");
            vec![IpAddr::from([10, 0, 1, number])]
        };
        let made = std::thread::scope(|scope| {
            let repairing = scope.spawn(|| {
                let mut made = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    made.extend(node.repair(&BTreeSet::from([Part::PodRoute]), &mut held).made);
                }
                made
            });
            let pods: Vec<Pod> = (1..=120).map(|number| pod(stage, number)).collect();
            done.store(true, Ordering::Relaxed);
            assert_eq!(pods.len(), 120);
            repairing.join().expect("a thread")
        });
        assert!(made.is_empty(), "{made:?}");
    });
}
