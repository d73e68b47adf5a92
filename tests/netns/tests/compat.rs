//! Layout compat: the incumbent's rules for each pod, with packets; live changes of layout; what stays when our daemon goes.

use podwire_hostnet::pod::{self, Expected, PodNet, PodWiring, Teardown, Way};
use podwire_hostnet::{Attachment, Doomed, EniSlot, Layout, NodeConfig, NodeNet, Part, Watch};
use podwire_netns::flow::Flow;
use podwire_netns::node::{Fabric, SECOND, node_config, ready_node, second_eni};
use podwire_netns::tcp::{Client, Server, seen_as};
use podwire_netns::{Ns, Stage, kernel_state, on_stage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
const FIRST: &str = "10.0.0.101";
const OTHER: &str = "10.0.1.101";
const PREFIXED: &str = "10.0.1.65";
const SOURCES: [&str; 2] = ["10.0.1.101/32", "10.0.1.64/28"];

fn config(layout: Layout) -> NodeConfig {
    NodeConfig { layout, ..node_config() }
}

fn wiring(name: &str, address: &str, compat: Option<EniSlot>) -> PodWiring {
    PodWiring {
        attachment: Attachment { container_id: name.into(), ifname: "eth0".into() },
        host_ifname: format!("eni{name}"),
        addresses: vec![address.parse().expect("an address")],
        mtu: 9001,
        compat,
    }
}

fn add(stage: &Stage, name: &str, address: &str, compat: Option<EniSlot>) -> Ns {
    let ns = stage.netns(name);
    pod::add(ns.open(), &wiring(name, address, compat)).expect("wired");
    ns
}

/// A node in layout compat with a pod on the primary ENI, one on the second, and one on the second's prefix.
fn compat_node(stage: &Stage) -> (Fabric, NodeNet, [Ns; 3]) {
    let (fabric, mut node) = ready_node(stage);
    // The primary ENI's addresses are known to the daemon, too.
    let primary = podwire_hostnet::EniConfig {
        slot: EniSlot::PRIMARY,
        mac: podwire_netns::node::MAC0,
        primary: [10, 0, 0, 11].into(),
        subnet: podwire_netns::node::net("10.0.0.0/24"),
        sources: vec![podwire_netns::node::net("10.0.0.101/32")],
        ..second_eni(&[])
    };
    node.apply_eni(&primary, PATIENCE).expect("ENI");
    node.apply_node(&config(Layout::Compat)).expect("node");
    let pods = [
        add(stage, "first", FIRST, Some(EniSlot::PRIMARY)),
        add(stage, "other", OTHER, Some(SECOND)),
        add(stage, "prefixed", PREFIXED, Some(SECOND)),
    ];
    // The kernel drops what is sent to a new link until it has taken note, a moment later, that the link is up.
    for ns in &pods {
        ns.run("ping -n -q -c 5 -i 0.1 -W 1 10.0.9.9");
    }
    (fabric, node, pods)
}

/// Rules for single addresses, without the number of who made them.
fn rules_of_pods(stage: &Stage) -> BTreeSet<String> {
    let lines = stage.run("ip rule");
    let of_pods = lines.lines().filter(|l| l.starts_with("512:") || l.starts_with("1536:"));
    let of_pods = of_pods.filter(|l| !l.contains("fwmark"));
    of_pods
        .map(|l| l.split_whitespace().take_while(|w| *w != "proto").collect::<Vec<_>>().join(" "))
        .collect()
}

fn incumbents() -> BTreeSet<String> {
    let rules = [
        "512: from all to 10.0.0.101 lookup main",
        "512: from all to 10.0.1.101 lookup main",
        "512: from all to 10.0.1.65 lookup main",
        "1536: from 10.0.1.101 lookup 2",
        "1536: from 10.0.1.65 lookup 2",
    ];
    rules.map(str::to_owned).into()
}

fn sources_in_nft(stage: &Stage) -> bool {
    stage.run("nft list map ip podwire addresses; nft list map ip podwire prefixes").contains("elements")
}

/// Every direction works by the rules alone: out of either ENI, in, across, out of the VPC.
fn packets_flow(fabric: &Fabric, pods: &[Ns; 3]) {
    let addresses = [FIRST, OTHER, PREFIXED];
    for (ns, own) in pods.iter().zip(addresses) {
        let _there = Server::start(&fabric.peer, "10.0.9.9:80");
        assert_eq!(seen_as(ns, "10.0.9.9:80").expect("out"), own);
        let _outside = Server::start(&fabric.internet, "198.51.100.10:80");
        assert_eq!(seen_as(ns, "198.51.100.10:80").expect("out of the VPC"), "10.0.0.11");
        let _here = Server::start(ns, &format!("{own}:80"));
        assert_eq!(seen_as(&fabric.peer, &format!("{own}:80")).expect("in"), "10.0.9.9");
        for (from, address) in pods.iter().zip(addresses).filter(|(_, address)| *address != own) {
            assert_eq!(seen_as(from, &format!("{own}:80")).expect("across"), address);
        }
    }
    assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
}

#[test]
fn pods_of_compat_have_the_incumbents_rules_and_packets_flow() {
    on_stage(|stage| {
        let (fabric, mut node, pods) = compat_node(stage);
        assert_eq!(rules_of_pods(stage), incumbents());
        assert!(!sources_in_nft(stage) && !stage.run("ip rule").contains("lookup 5120"));
        packets_flow(&fabric, &pods);
        let before = node.changes();
        node.apply_node(&config(Layout::Compat)).expect("node");
        node.apply_eni(&second_eni(&SOURCES), PATIENCE).expect("ENI");
        assert_eq!(node.changes(), before, "applied twice: {:?}", node.take_changes());
    });
}

/// CHECK looks for the rules; drift of them is noticed and repaired; what goes with a pod's link comes back with it.
#[test]
fn rules_of_a_pod_are_checked_and_repaired() {
    on_stage(|stage| {
        let (fabric, mut node, pods) = compat_node(stage);
        let mut watch = Watch::open().expect("sockets");
        let wired = wiring("other", OTHER, Some(SECOND));
        let check = |ns: &Ns| {
            let expected = Expected {
                attachment: &wired.attachment,
                host_ifnames: std::slice::from_ref(&wired.host_ifname),
                addresses: &wired.addresses,
                way: Some(Way { slot: SECOND, layout: Layout::Compat }),
            };
            pod::check(&mut PodNet::open(ns.open()).expect("sockets"), &expected).expect("asked").differences
        };
        assert_eq!(check(&pods[1]), Vec::<String>::new());
        for damage in [
            "ip rule del pref 512 to 10.0.1.101",
            "ip rule del pref 1536 from 10.0.1.101",
            "ip rule flush; ip rule add pref 32767 lookup default",
            "ip link set eniother down",
        ] {
            stage.run(damage);
            assert!(!check(&pods[1]).is_empty(), "{damage}: CHECK sees nothing");
            let (began, mut again) = (Instant::now(), None);
            while !check(&pods[1]).is_empty() || rules_of_pods(stage) != incumbents() {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{damage}: {:?}, {:?}",
                    check(&pods[1]),
                    rules_of_pods(stage)
                );
                watch.wait(Instant::now() + Duration::from_millis(50), Duration::ZERO).expect("waited");
                let mut parts = watch.take(&node).expect("read").parts;
                parts.extend(again.map(|_| Part::PodRoute));
                let repair = node.repair(&parts, &mut |a| {
                    if a.container_id == "other" { wired.addresses.clone() } else { Vec::new() }
                });
                assert!(repair.failures.is_empty(), "{damage}: {:?}", repair.failures);
                again = repair.again_at;
            }
        }
        packets_flow(&fabric, &pods);
        // A plugin's own ADD is no drift.
        let _more = add(stage, "more", "10.0.1.66", Some(SECOND));
        watch.wait(Instant::now() + Duration::from_millis(200), Duration::ZERO).expect("waited");
        let parts = watch.take(&node).expect("read").parts;
        assert!(!parts.contains(&Part::Rule), "{parts:?}");
    });
}

/// A plugin that fails half-way, a DEL without daemon and the flush at cooling leave no rule.
#[test]
fn rules_go_with_the_pod() {
    on_stage(|stage| {
        let (_fabric, mut node, _pods) = compat_node(stage);
        let before = kernel_state(stage);
        let ns = stage.netns("brief");
        let brief = wiring("brief", "10.0.1.66", Some(SECOND));
        for step in 0.. {
            podwire_hostnet::probe::refuse_after(Some(step));
            let outcome = pod::add(ns.open(), &brief);
            podwire_hostnet::probe::refuse_after(None);
            if outcome.is_ok() {
                assert!(step > 10, "only {step} messages");
                break;
            }
            assert_eq!(kernel_state(stage)["rules"], before["rules"], "message {step} refused");
        }
        assert_eq!(rules_of_pods(stage).len(), incumbents().len() + 2);
        let names = [brief.host_ifname.clone()];
        let teardown = Teardown { attachment: &brief.attachment, host_ifnames: &names };
        // As DEL does when the daemon is away.
        let gone = pod::delete_own(&teardown).expect("gone");
        assert!(gone.was_there && gone.rules.is_ok(), "{gone:?}");
        assert_eq!(kernel_state(stage), before);

        pod::add(ns.open(), &brief).expect("wired once more");
        // After the look at the link and its deletion.
        podwire_hostnet::probe::refuse_after(Some(2));
        let gone = pod::delete_own(&teardown).expect("the link is gone all the same");
        podwire_hostnet::probe::refuse_after(None);
        assert!(gone.was_there && gone.rules.is_err(), "{gone:?}");
        assert!(!stage.succeeds(&format!("ip link show {}", brief.host_ifname)));
        assert_ne!(rules_of_pods(stage), incumbents(), "a rule was refused");
        node.flush_addresses(&brief.addresses).expect("flushed");
        assert_eq!(kernel_state(stage), before, "as the daemon does when it takes the pending release in");

        pod::add(ns.open(), &brief).expect("wired again");
        let doomed = Doomed { attachment: brief.attachment.clone(), names: names.to_vec() };
        assert!(node.delete_pods(&[doomed]).iter().all(Result::is_ok));
        node.flush_addresses(&brief.addresses).expect("flushed");
        assert_eq!(kernel_state(stage), before);
        assert_eq!(rules_of_pods(stage), incumbents(), "those of the others stay");
    });
}

/// 300 packets a second; every answer is a line.
fn flood(ns: &Ns, to: &str, packets: u32) -> Child {
    let mut ping = Command::new("ping");
    ping.args(["-n", "-i", "0.003", "-W", "2", "-c", &packets.to_string(), to]).stdout(Stdio::piped());
    ns.within(|| ping.spawn()).expect("ping")
}

fn without_loss(child: Child, what: &str) {
    let output = child.wait_with_output().expect("ping ends");
    let flow = Flow::of(&String::from_utf8_lossy(&output.stdout));
    assert!(flow.answered > 20 && flow.lost.is_empty(), "{what}: {flow:?}");
}

/// D15: switching is live. Not one packet of any flow is lost, in either direction, and no connection is reset.
#[test]
fn layout_changes_live_without_losing_a_packet() {
    on_stage(|stage| {
        let (fabric, mut node, pods) = compat_node(stage);
        let (peer, outside) =
            (Server::start(&fabric.peer, "10.0.9.9:80"), Server::start(&fabric.internet, "198.51.100.10:80"));
        let servers = [FIRST, OTHER, PREFIXED].map(|a| format!("{a}:80"));
        let inside: Vec<Server> = pods.iter().zip(&servers).map(|(ns, at)| Server::start(ns, at)).collect();
        let mut clients: Vec<Client> = Vec::new();
        for (ns, server) in pods.iter().zip(&servers) {
            for (from, to) in [(ns, "10.0.9.9:80"), (ns, "198.51.100.10:80"), (&fabric.peer, server)] {
                clients.push(Client::connect(from, to).expect("connected"));
            }
        }
        const PACKETS: u32 = 600;
        let mut floods: Vec<(Child, &str)> = Vec::new();
        for ns in &pods {
            floods.push((flood(ns, "10.0.9.9", PACKETS), "to the VPC"));
            floods.push((flood(ns, "198.51.100.10", PACKETS), "out of the VPC"));
        }
        floods.push((flood(&pods[0], OTHER, PACKETS), "across"));
        floods.push((flood(&fabric.peer, PREFIXED, PACKETS), "in"));
        let mut switches = 0;
        while floods[0].0.try_wait().expect("asked").is_none() {
            for layout in [Layout::Constant, Layout::Compat] {
                node.apply_node(&config(layout)).expect("switched");
                switches += 1;
                for client in &mut clients {
                    client.ask().expect("the connection lives");
                }
            }
        }
        assert!(switches >= 4, "{switches} switches while packets flowed");
        floods.into_iter().for_each(|(child, what)| without_loss(child, what));
        assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
        assert_eq!(rules_of_pods(stage), incumbents());
        drop((clients, peer, outside, inside));

        node.apply_node(&config(Layout::Constant)).expect("switched");
        assert!(sources_in_nft(stage));
        assert_eq!(rules_of_pods(stage), BTreeSet::from(["512: from all lookup 5120".to_owned()]));
        packets_flow(&fabric, &pods);
    });
}

/// A daemon restarted with the other layout learns its ENIs one by one: packets flow at every step.
#[test]
fn restart_with_another_layout_costs_no_packet() {
    on_stage(|stage| {
        let (fabric, _node, pods) = compat_node(stage);
        for layout in [Layout::Constant, Layout::Compat, Layout::Constant] {
            let floods = [
                (flood(&pods[1], "10.0.9.9", 400), "out"),
                (flood(&fabric.peer, OTHER, 400), "in"),
                (flood(&pods[2], "198.51.100.10", 400), "out of the VPC"),
            ];
            let mut node = NodeNet::open().expect("sockets");
            node.apply_node(&config(layout)).expect("node");
            pods[1].run("ping -n -q -c 3 -i 0.1 -W 2 10.0.9.9");
            node.apply_eni(&second_eni(&SOURCES), PATIENCE).expect("ENI");
            pods[1].run("ping -n -q -c 3 -i 0.1 -W 2 10.0.9.9");
            assert!(node.prune().expect("pruned"));
            // That no answer is missing at the end of a flow, which says nothing of its last packets.
            pods[1].run("ping -n -q -c 3 -i 0.1 -W 2 10.0.9.9");
            fabric.peer.run(&format!("ping -n -q -c 3 -i 0.1 -W 2 {OTHER}"));
            floods.into_iter().for_each(|(child, what)| without_loss(child, what));
            let compat = layout == Layout::Compat;
            assert_eq!(rules_of_pods(stage) == incumbents(), compat, "{:?}", rules_of_pods(stage));
            assert_eq!(sources_in_nft(stage), !compat);
        }
        assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
    });
}

/// Handed back: with all that is ours alone taken away, pods live on what the incumbent knows; its DEL leaves nothing.
#[test]
fn pods_handed_back_live_on_the_incumbents_rules_alone() {
    on_stage(|stage| {
        let (fabric, node, pods) = compat_node(stage);
        drop(node);
        stage.run("nft delete table ip podwire; ip route flush table 5120");
        stage.run("for r in $(ip rule | grep -o 'fwmark 0x[0-9a-f]*/0x7f'); do case $r in 0x*) ip rule del pref 1536 fwmark $r;; esac; done");
        assert!(!stage.run("ip rule").contains("/0x7f"));
        let _there = Server::start(&fabric.peer, "10.0.9.9:80");
        for (ns, own) in pods.iter().zip([FIRST, OTHER, PREFIXED]) {
            assert_eq!(seen_as(ns, "10.0.9.9:80").expect("out"), own);
            fabric.peer.run(&format!("ping -n -q -c 1 -W 2 {own}"));
        }
        assert_eq!(fabric.spoofed(), 0);
        // Its teardown (incumbent-behaviour §2.6): it names no protocol, so that ours go as well.
        stage.run("ip rule del to 10.0.1.101/32 lookup main pref 512; ip rule del from 10.0.1.101/32 lookup 2 pref 1536");
        stage.run("ip route del 10.0.1.101/32 dev eniother scope link; ip link del eniother");
        assert_eq!(stage.run("ip rule; ip route show table all").matches("10.0.1.101").count(), 0);
    });
}

/// The incumbent's pods, taken over in layout compat, keep its own rules, and get no second ones.
#[test]
fn rules_of_the_incumbents_own_pods_stay_and_are_not_doubled() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        node.apply_node(&config(Layout::Compat)).expect("node");
        let old = add(stage, "old", OTHER, None);
        // As the incumbent left it: without our mark and route, with its rules.
        stage.run("ip link set eniold alias ''; ip route flush table 5120");
        stage.run("ip rule add to 10.0.1.101/32 lookup main pref 512; ip rule add from 10.0.1.101/32 lookup 2 pref 1536");
        let address: IpAddr = OTHER.parse().expect("an address");
        let whose = Attachment { container_id: "old".into(), ifname: "eth0".into() };
        node.mark_pod("eniold", &whose, &[address]).expect("taken over");
        node.apply_node(&config(Layout::Compat)).expect("node");
        node.apply_eni(&second_eni(&SOURCES), PATIENCE).expect("ENI");
        let rules: Value = stage.json("ip -j rule");
        let of_it = |key: &str| rules.as_array().into_iter().flatten().filter(|r| r[key] == OTHER).count();
        assert_eq!((of_it("dst"), of_it("src")), (1, 1), "{rules}");
        // The first packets of a new link may be lost, as above.
        old.run("ping -n -q -c 5 -i 0.1 -W 1 10.0.9.9");
        // Into the other layout they go with the setting up of their ENI.
        node.apply_node(&config(Layout::Constant)).expect("node");
        node.apply_eni(&second_eni(&SOURCES), PATIENCE).expect("ENI");
        assert_eq!(rules_of_pods(stage), BTreeSet::from(["512: from all lookup 5120".to_owned()]));
        old.run("ping -n -q -c 1 -W 2 10.0.9.9");
        assert_eq!(fabric.spoofed(), 0);
    });
}

/// An address of an ENI that others detached, now another one's: its pod's rule leads by the one named last, whichever slot
/// is the lower.
#[test]
fn rules_follow_an_address_from_an_eni_that_is_gone() {
    for given in ["10.0.1.101/32", "10.0.1.96/28", "10.0.1.65/32"] {
        on_stage(move |stage| {
            let (fabric, mut node) = ready_node(stage);
            fabric.attach(2, "02:00:00:00:00:03", "10.0.1.1", "10.0.1.13");
            let slot = EniSlot { card: 0, device: 2 };
            let third = podwire_hostnet::EniConfig {
                slot,
                mac: [2, 0, 0, 0, 0, 3],
                primary: [10, 0, 1, 13].into(),
                ..second_eni(&[])
            };
            node.apply_node(&config(Layout::Compat)).expect("node");
            node.apply_eni(&third, PATIENCE).expect("ENI");
            stage.run("ip link del eth1");
            let address = if given == "10.0.1.65/32" { PREFIXED } else { OTHER };
            // One that was wired before the news came, and is led the old way.
            let _early = add(stage, "early", address, Some(SECOND));
            node.add_sources(slot, &[podwire_netns::node::net(given)]).expect("added");
            let wanted: BTreeSet<String> =
                [format!("512: from all to {address} lookup main"), format!("1536: from {address} lookup 3")]
                    .into();
            assert_eq!(rules_of_pods(stage), wanted, "{given}");
            node.apply_node(&config(Layout::Compat)).expect("node");
            assert_eq!(rules_of_pods(stage), wanted, "{given}, applied again");
            assert!(!sources_in_nft(stage));
        });
    }
}
