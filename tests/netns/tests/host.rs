//! The node's side: rules, ENIs, ruleset, deletion of links, against the kernel.

#[path = "host/refused.rs"]
mod refused;
#[path = "host/ruleset.rs"]
mod ruleset;
#[path = "host/sources.rs"]
mod sources;

use podwire_hostnet::features::{self, Wanted};
use podwire_hostnet::pod::{self, PodWiring};
use podwire_hostnet::{Attachment, Doomed, EniConfig, EniSlot, HostError, NodeNet, probe};
use podwire_netns::node::{Fabric, MAC1, SECOND, net, node_config, ready_node, second_eni};
use podwire_netns::{Ns, Stage, kernel_state, on_stage};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOURCES: [&str; 2] = ["10.0.1.101/32", "10.0.1.64/28"];
const SHORT: Duration = Duration::from_secs(2);
/// *Source*: linux/rtnetlink.h.
const RTM_DELLINK: u16 = 17;

fn again(node: &mut NodeNet) {
    node.apply_node(&node_config()).expect("node");
    node.apply_eni(&second_eni(&SOURCES), SHORT).expect("ENI");
}

/// H1: applying twice changes nothing; neither does a restarted daemon.
#[test]
fn applying_twice_changes_nothing() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let state = kernel_state(stage);
        let before = node.changes();
        again(&mut node);
        node.prune().expect("pruned");
        assert_eq!(node.changes(), before);
        let mut restarted = NodeNet::open().expect("sockets");
        again(&mut restarted);
        restarted.prune().expect("pruned");
        assert_eq!(restarted.changes(), 0);
        assert_eq!(kernel_state(stage), state);
    });
}

/// The plan, read back from the kernel.
#[test]
fn plan_is_in_the_kernel() {
    on_stage(|stage| {
        let (_fabric, _node) = ready_node(stage);
        let rules: Vec<String> = stage.run("ip rule").lines().map(|l| l.trim().replace('\t', " ")).collect();
        assert_eq!(
            rules,
            [
                "0: from all lookup local",
                "512: from all lookup 5120 proto 80",
                "1024: from all fwmark 0x80/0x80 lookup main proto 80",
                "1536: from all fwmark 0x2/0x7f lookup 2 proto 80",
                "32765: from 10.0.1.12 lookup 2 proto 80",
                "32766: from all lookup main",
                "32767: from all lookup default",
            ]
        );
        let table: Vec<Value> = stage
            .json("ip -j route show table 2")
            .as_array()
            .expect("routes")
            .iter()
            .map(|r| r["dst"].clone())
            .collect();
        assert_eq!(table, [json!("default"), json!("10.0.1.1")]);
        assert_eq!(stage.run("ip route show dev eth1"), "", "no route of a secondary ENI in main");
        for device in ["eth0", "eth1"] {
            assert_eq!(stage.run(&format!("sysctl -n net.ipv4.conf.{device}.rp_filter")).trim(), "2");
        }
        for map in ["addresses", "prefixes"] {
            let elements = stage.json(&format!("nft -j list map ip podwire {map}"));
            assert!(elements.to_string().contains("eni-2"), "{elements}");
        }
        assert_eq!(stage.run("sysctl -n net.ipv4.ip_forward").trim(), "1");
    });
}

/// The number of rules does not depend on the number of addresses (D15).
#[test]
fn rules_are_constant_in_addresses() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let count = || stage.run("ip rule").lines().count();
        let before = count();
        let many: Vec<_> = (0..200).map(|i| net(&format!("10.0.2.{i}/32"))).collect();
        node.add_sources(SECOND, &many).expect("added");
        assert_eq!(count(), before);
        let text = stage.run("nft list map ip podwire addresses");
        assert_eq!(text.matches("jump eni-2").count(), 201);
        node.remove_sources(SECOND, &many).expect("removed");
        assert_eq!(stage.run("nft list map ip podwire addresses").matches("jump eni-2").count(), 1);
    });
}

/// Scenario 26: the device appears while it is waited for, and is noticed at once.
#[test]
fn eni_is_waited_for() {
    on_stage(|stage| {
        let fabric = Fabric::build(stage);
        let mut node = NodeNet::open().expect("sockets");
        node.apply_node(&node_config()).expect("node");
        let started = Instant::now();
        let missing = node.apply_eni(&second_eni(&SOURCES), Duration::from_millis(200));
        assert!(matches!(missing, Err(HostError::NoDevice { mac: MAC1 })), "{missing:?}");
        assert!((200..5000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        let fabric = &fabric;
        std::thread::scope(|scope| {
            let started = Instant::now();
            let attaching = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                fabric.attach_second();
                started.elapsed()
            });
            node.apply_eni(&second_eni(&SOURCES), Duration::from_secs(10)).expect("ENI");
            let late = started.elapsed().saturating_sub(attaching.join().expect("attached"));
            assert!(late < Duration::from_secs(2), "{late:?} after it appeared");
        });
        assert!(stage.run("ip rule").contains("lookup 2"));
    });
}

/// Scenario 53, D42: an operating system that configures the ENI itself is corrected.
#[test]
fn foreign_configuration_of_an_eni_is_corrected() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let state = kernel_state(stage);
        stage.run("ip addr add 10.0.1.101/24 dev eth1; ip addr add 10.0.1.102/24 dev eth1");
        stage.run("ip addr del 10.0.1.12/24 dev eth1; ip addr add 10.0.1.12/24 dev eth1");
        again(&mut node);
        let addresses = stage.json("ip -j -4 addr show eth1");
        assert_eq!(addresses[0]["addr_info"].as_array().map(Vec::len), Some(1), "{addresses}");
        assert_eq!(stage.run("ip -4 addr show eth1").matches("10.0.1.12/24").count(), 1);
        assert_eq!(kernel_state(stage), state);
    });
}

/// A restarted daemon learns its ENIs one by one; until it has, nothing of them goes.
#[test]
fn restart_keeps_what_belongs_to_enis_not_named_yet() {
    on_stage(|stage| {
        let (_fabric, _node) = ready_node(stage);
        let state = kernel_state(stage);
        let mut restarted = NodeNet::open().expect("sockets");
        restarted.apply_node(&node_config()).expect("node");
        assert_eq!(kernel_state(stage), state);
        // Its device is there: it may only not have been named yet.
        assert!(!restarted.prune().expect("pruned"));
        assert_eq!(kernel_state(stage), state);
        // It vanishes while nobody looks.
        stage.run("ip link del eth1");
        assert!(restarted.prune().expect("pruned"));
        assert!(!stage.run("ip rule").contains("lookup 2 "), "no such ENI");
        assert!(!stage.run("nft list table ip podwire").contains("eni-2"));
        assert!(restarted.prune().expect("pruned"));
    });
}

/// Detaching leaves nothing, device there or gone.
#[test]
fn remove_eni_leaves_nothing() {
    for gone in [false, true] {
        on_stage(move |stage| {
            let fabric = Fabric::build(stage);
            let mut node = NodeNet::open().expect("sockets");
            node.apply_node(&node_config()).expect("node");
            node.prune().expect("pruned");
            let (rules, ruleset) = (stage.run("ip rule"), stage.run("nft list table ip podwire"));
            fabric.attach_second();
            node.apply_eni(&second_eni(&SOURCES), SHORT).expect("ENI");
            if gone {
                stage.run("ip link del eth1");
            }
            for _ in 0..2 {
                node.remove_eni(SECOND).expect("removed");
            }
            assert_eq!(stage.run("ip rule"), rules);
            assert_eq!(stage.run("nft list table ip podwire"), ruleset);
            assert!(!stage.succeeds("ip route show table 2 2>/dev/null | grep -q ."));
        });
    }
}

/// Other tables, rules and routes are nobody's business here.
#[test]
fn others_are_left_alone() {
    on_stage(|stage| {
        stage.run(
            "nft -f - <<'E'
table ip kube-proxy {
  chain c { type nat hook postrouting priority 100; ip daddr 1.2.3.4 masquerade; }
}
table inet podwire {
  chain c { }
}
E",
        );
        stage.run(
            "ip rule add pref 1536 fwmark 0x5/0x7f lookup 99; ip rule add pref 512 to 10.9.9.9 lookup main",
        );
        stage.run("ip rule add pref 32765 from 10.5.5.5 lookup 2; ip route add 10.77.0.0/16 dev lo table 99");
        let others = || {
            let rules = stage.run("ip rule | grep -v 'proto 80'");
            (
                stage.run("nft list table ip kube-proxy; nft list table inet podwire"),
                rules,
                stage.run("ip route show table 99"),
            )
        };
        let before = others();
        let (_fabric, mut node) = ready_node(stage);
        node.prune().expect("pruned");
        node.remove_eni(SECOND).expect("removed");
        assert_eq!(others(), before);
    });
}

#[test]
fn nonsense_is_refused_before_anything_is_changed() {
    on_stage(|stage| {
        let fabric = Fabric::build(stage);
        fabric.attach_second();
        let mut node = NodeNet::open().expect("sockets");
        let before = kernel_state(stage);
        assert!(node.apply_eni(&second_eni(&SOURCES), SHORT).is_err(), "the node's part comes first");
        assert!(node.prune().is_err());
        let mut config = node_config();
        for prefix in ["", "abcde", "a/b", "a:b", "a%d", "a b", "eth"] {
            config.veth_prefix = prefix.into();
            assert!(matches!(node.apply_node(&config), Err(HostError::Setting(_))), "{prefix:?}");
        }
        let nowhere = EniConfig { slot: EniSlot { card: 9, device: 9 }, ..second_eni(&SOURCES) };
        assert!(matches!(node.apply_eni(&nowhere, SHORT), Err(HostError::Slot(_))));
        assert!(matches!(
            node.add_sources(SECOND, &[net("10.0.1.5/32")]),
            Err(HostError::UnknownEni(SECOND))
        ));
        config = node_config();
        config.primary_mac = [2, 9, 9, 9, 9, 9];
        assert!(matches!(node.apply_node(&config), Err(HostError::NoDevice { .. })));
        let state = kernel_state(stage);
        assert_eq!((&state["rules"], &state["nft"]), (&before["rules"], &before["nft"]));
    });
}

fn wired(stage: &Stage, number: u32) -> (Ns, PodWiring) {
    let ns = stage.netns(&format!("pod{number}"));
    let wiring = PodWiring {
        attachment: Attachment { container_id: format!("c{number}"), ifname: "eth0".into() },
        host_ifname: format!("enipod{number}"),
        addresses: vec![format!("10.0.3.{number}").parse().expect("an address")],
        mtu: 9001,
        compat: None,
    };
    pod::add(ns.open(), &wiring).expect("wired");
    (ns, wiring)
}

fn doomed(wiring: &PodWiring) -> Doomed {
    Doomed { attachment: wiring.attachment.clone(), names: vec![wiring.host_ifname.clone()] }
}

/// D18: batches share one wait; nothing goes that is not theirs, whatever it is called; what is gone is no error.
#[test]
fn links_are_deleted_in_groups_and_only_ours() {
    on_stage(|stage| {
        let mut node = NodeNet::open().expect("sockets");
        let pods: Vec<_> = (1..=100).map(|n| wired(stage, n)).collect();
        let (gone, stay) = pods.split_at(98);
        stage.run("ip link add foreign type veth peer name foreign2");
        let mut all: Vec<Doomed> = gone.iter().map(|(_, wiring)| doomed(wiring)).collect();
        let stranger = Attachment { container_id: "stranger".into(), ifname: "eth0".into() };
        for name in ["foreign", stay[0].1.host_ifname.as_str(), "never-there"] {
            all.push(Doomed { attachment: stranger.clone(), names: vec![name.to_owned()] });
        }
        let _ = probe::sent();
        let answers = node.delete_pods(&all);
        let deletions = probe::sent().iter().filter(|(kind, _)| *kind == RTM_DELLINK).count();
        let expected: Vec<Option<String>> = gone.iter().map(|(_, w)| Some(w.host_ifname.clone())).collect();
        let told: Vec<Option<String>> = answers.into_iter().map(|a| a.expect("no failure")).collect();
        assert_eq!(told, [expected, vec![None; 3]].concat());
        assert_eq!(stage.json("ip -j link show type veth").as_array().map(Vec::len), Some(4));
        let answer = node.delete_pods(&[doomed(&stay[0].1)]).remove(0).expect("deleted");
        assert_eq!(answer, Some(stay[0].1.host_ifname.clone()));
        assert_eq!(deletions, 2, "98 links in groups of 64 at most");
    });
}

/// The container's next life, with a link of the same name and alias: made while the deletion waits, or there already.
#[test]
fn deletion_takes_the_link_it_found_and_no_later_one() {
    on_stage(|stage| {
        let mut node = NodeNet::open().expect("sockets");
        let pods: Vec<_> = (1..=3).map(|n| wired(stage, n)).collect();
        let all: Vec<Doomed> = pods.iter().map(|(_, wiring)| doomed(wiring)).collect();
        let ((ns, next), mut asked) = (&pods[0], Vec::new());
        let told = node.delete_pods_if(&all, &mut |found| {
            asked.extend_from_slice(found);
            stage.run(&format!("ip link del {}", next.host_ifname));
            pod::add(ns.open(), next).expect("wired again");
            // All are to go; the second has begun another life.
            Ok(vec![true, false, true])
        });
        assert_eq!(asked, [0, 1, 2]);
        assert!(told.iter().all(Result::is_ok), "{told:?}");
        let left = stage.run("ip -o link show type veth");
        assert!(left.contains("enipod1") && left.contains("enipod2") && !left.contains("enipod3"), "{left}");
        assert!(ns.succeeds("ip link show eth0"));
        // Nobody can say: nothing is touched. No link: nobody is asked.
        let told = node.delete_pods_if(&all[..2], &mut |_| Err("the driver is gone".into()));
        assert!(told.iter().all(Result::is_err), "{told:?}");
        let told = node.delete_pods_if(&all[2..], &mut |_| Err("the driver is gone".into()));
        assert!(matches!(told[..], [Ok(None)]), "{told:?}");
        assert!(node.delete_pods(&all).iter().all(Result::is_ok));
        assert_eq!(stage.run("ip -o link show type veth"), "");
    });
}

/// A link under a name nobody guesses, one whose ADD was killed before it had its alias, one whose alias
/// somebody overwrote, and one asked for twice.
#[test]
fn links_are_found_by_whose_they_are() {
    on_stage(|stage| {
        let mut node = NodeNet::open().expect("sockets");
        let pods: Vec<_> = (1..=3).map(|n| wired(stage, n)).collect();
        stage.run("ip link set enipod1 down; ip link set enipod1 name renamed; ip link set enipod2 alias ''; ip link set enipod3 alias foo");
        let mut all: Vec<Doomed> = pods.iter().map(|(_, wiring)| doomed(wiring)).collect();
        all.push(all[2].clone());
        let told: Vec<Option<String>> =
            node.delete_pods(&all).into_iter().map(|a| a.expect("no failure")).collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(told, [name("renamed"), name("enipod2"), name("enipod3"), name("enipod3")]);
        assert_eq!(stage.run("ip -o link show type veth"), "");
    });
}

/// D18: no foreign device is ever deleted. Where one carries our group's number, be it one that could be deleted or one
/// that would refuse the lot, the links go one by one and that device stays. What a killed daemon left in the group goes.
#[test]
fn links_are_deleted_one_by_one_where_the_group_holds_a_foreign_device() {
    for foreign in ["lo", "stranger"] {
        on_stage(move |stage| {
            let mut node = NodeNet::open().expect("sockets");
            let pods: Vec<_> = (1..=7).map(|n| wired(stage, n)).collect();
            stage.run("ip link set enipod6 group 1886846978; ip link set enipod7 group 1886846978");
            let all: Vec<Doomed> = pods.iter().map(|(_, wiring)| doomed(wiring)).collect();
            assert!(node.delete_pods(&all[..2]).iter().all(Result::is_ok));
            let left = stage.run("ip -o link show type veth");
            assert!(!left.contains("enipod6") && left.contains("enipod5"), "{left}");
            stage.run("ip link add stranger type veth peer name stranger2");
            stage.run(&format!("ip link set {foreign} group 1886846978"));
            let results = node.delete_pods(&all[2..5]);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            let left = stage.run("ip -o link show type veth");
            assert!(!left.contains("enipod") && left.contains("stranger"), "{left}");
            assert!(stage.run("ip link show lo").contains("UP"));
        });
    }
}

/// An interrupted list is asked for again; one that is interrupted for ever is told, and may be tried again.
#[test]
fn interrupted_lists_are_repeated() {
    on_stage(|stage| {
        let mut node = NodeNet::open().expect("sockets");
        let (_ns, wiring) = wired(stage, 1);
        probe::interrupt_lists(5);
        let pods = node.pods().expect("a list");
        assert_eq!(pods.iter().map(|p| &p.attachment).collect::<Vec<_>>(), [&wiring.attachment]);
        probe::interrupt_lists(100);
        let error = node.pods().expect_err("interrupted every time");
        assert!(error.is_transient(), "{error}");
        probe::interrupt_lists(0);
        assert_eq!(node.pods().expect("a list").len(), 1);
    });
}

/// Rebuilding a ledger rests on this list.
#[test]
fn pods_lists_what_is_wired() {
    on_stage(|stage| {
        let mut node = NodeNet::open().expect("sockets");
        assert_eq!(node.pods().expect("a list"), []);
        let (_ns1, first) = wired(stage, 1);
        let (_ns2, second) = wired(stage, 2);
        stage.run("ip link add eniforeign type veth peer name x");
        // As a daemon leaves it that is killed while it deletes.
        stage.run(&format!("ip link set {} group 1886846978 down", second.host_ifname));
        let pods = node.pods().expect("a list");
        let short: Vec<_> = pods
            .iter()
            .map(|p| (p.name.as_str(), p.attachment.clone(), p.addresses.clone(), p.up, p.doomed))
            .collect();
        assert_eq!(
            short,
            [
                ("enipod1", first.attachment, first.addresses, true, false),
                ("enipod2", second.attachment, Vec::new(), false, true),
            ]
        );
    });
}

/// What the kernel lacks is told before anything is changed; this one lacks nothing, and the trial leaves nothing.
#[test]
fn trying_features_out_changes_nothing() {
    on_stage(|stage| {
        let before = kernel_state(stage);
        let all = Wanted { snat: true, node_port: true };
        assert_eq!(features::missing(all).expect("asked"), []);
        assert_eq!(kernel_state(stage), before);
        let (_fabric, _node) = ready_node(stage);
        let before = kernel_state(stage);
        assert_eq!(features::missing(all).expect("asked"), []);
        assert_eq!(kernel_state(stage), before);
    });
}
