//! CHECK beyond the pod itself: the result it is given, the way out by a second ENI, and a daemon that is away.

use podwire_hostnet::Part;
use podwire_netns::node::{bare_node, ready_node};
use podwire_netns::{FakeIpamd, Runtime, Sandbox, Stage, kernel_state, on_stage};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

/// A node with one pod.
struct Scene {
    _daemon: FakeIpamd,
    runtime: Runtime,
    sandbox: Sandbox,
    result: Value,
}

impl Scene {
    fn added(stage: &Stage) -> Self {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        Self { _daemon: daemon, runtime, sandbox, result }
    }
}

#[track_caller]
fn differs(runtime: &Runtime, sandbox: &Sandbox, result: &Value, named: &str, why: &str) {
    let error = runtime.check(sandbox, result).error();
    assert_eq!(error["code"], 107, "{why}: {error}");
    assert!(error["details"].as_str().is_some_and(|d| d.contains(named)), "{why}: {error}");
}

/// K-03, K-04: the result is the expectation; each of its lines that is not so is named.
#[test]
fn result_that_does_not_fit_is_named() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let other = stage.netns("other");
        let result = runtime.add(&sandbox).result();
        for is_away in [false, true] {
            for (path, damaged, named) in [
                ("/interfaces", json!([]), "eth0"),
                ("/interfaces/0/name", json!("eni0123456789a"), "does not list eni"),
                ("/interfaces/0/mac", json!("ee:70:77:00:00:01"), "MAC ee:70:77"),
                ("/interfaces/0/sandbox", json!(sandbox.ns.path()), "does not list eni"),
                ("/interfaces/1/name", json!("eth1"), "does not list eth0"),
                ("/interfaces/1/mac", json!("02:00:00:00:00:01"), "MAC"),
                ("/interfaces/1/sandbox", json!(""), "does not list eth0"),
                ("/interfaces/1/sandbox", json!(other.path()), "/run/netns/other"),
                ("/interfaces/1/sandbox", json!("/run/netns/none"), "/run/netns/none"),
                ("/ips", json!([]), "no address"),
                ("/ips/0/address", json!("10.0.0.102/32"), "10.0.0.10"),
                ("/ips/0/address", json!("10.0.0.101/24"), "no address"),
                ("/ips/0/interface", json!(0), "no address"),
            ] {
                let mut wrong = result.clone();
                let (parent, key) = path.rsplit_once('/').expect("a path");
                wrong.pointer_mut(parent).expect("there")[key] = damaged.clone();
                differs(&runtime, &sandbox, &wrong, named, &format!("{path} {damaged}, away: {is_away}"));
            }
            daemon.stop();
        }
    });
}

/// K-05: what later plugins in the chain add to a result, what the incumbent's and earlier versions leave out, and another
/// path to the same namespace.
#[test]
fn result_that_says_more_or_less_passes() {
    on_stage(|stage| {
        let Scene { _daemon, runtime, sandbox, result } = Scene::added(stage);
        let variant = |change: &dyn Fn(&mut Value)| {
            let mut other = result.clone();
            change(&mut other);
            runtime.check(&sandbox, &other).silent();
        };
        variant(&|r| {
            let ns = sandbox.ns.path();
            let further = [
                json!({ "name": "cilium0", "mac": "02:00:00:00:00:07" }),
                json!({ "name": "net7", "sandbox": ns }),
            ];
            r["interfaces"].as_array_mut().expect("a list").extend(further);
            let ips = [
                json!({ "address": "10.7.7.7/24", "interface": 3 }),
                json!({ "address": "fd00::1/64", "interface": 1 }),
            ];
            r["ips"].as_array_mut().expect("a list").extend(ips);
            r["routes"] = json!([{ "dst": "10.8.0.0/16" }]);
        });
        // As the incumbent's own: no MAC of the host end, a number for that of the pod, a third interface that does not exist.
        variant(&|r| {
            let interfaces = r["interfaces"].as_array_mut().expect("a list");
            interfaces[0].as_object_mut().expect("an object").remove("mac");
            interfaces[1]["mac"] = "254".into();
            interfaces.push(json!({ "name": "dummycc21c2d7785", "mac": "0", "sandbox": "0" }));
        });
        variant(&|r| r["interfaces"][1]["sandbox"] = format!("/var{}", sandbox.ns.path()).into());
        // A plugin that sets another MAC and says so; the kernel forgets the neighbours over it.
        let host_mac = result["interfaces"][0]["mac"].as_str().expect("a MAC");
        sandbox.ns.run(&format!(
            "ip link set eth0 address 02:11:22:33:44:5a; ip neigh add 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent"
        ));
        variant(&|r| r["interfaces"][1]["mac"] = "02:11:22:33:44:5A".into());
    });
}

/// Multus gives a pod that asks for it another default route, and leaves the result as it is.
#[test]
fn default_route_that_was_moved_to_another_interface_is_no_difference() {
    on_stage(|stage| {
        let Scene { _daemon, runtime, sandbox, result } = Scene::added(stage);
        sandbox.ns.run(
            "ip link add net1 type veth peer name other; ip link set other up; ip link set net1 up
             ip addr add 192.168.2.2/24 dev net1; ip route replace default via 192.168.2.1 dev net1",
        );
        runtime.check(&sandbox, &result).silent();
        sandbox.ns.run("ip route del default");
        differs(&runtime, &sandbox, &result, "0.0.0.0/0", "no default route at all");
    });
}

/// A pod made under another prefix of link names is found by whose its link says it is.
#[test]
fn link_is_found_when_the_prefix_has_changed() {
    on_stage(|stage| {
        let Scene { _daemon, mut runtime, sandbox, result } = Scene::added(stage);
        runtime.conf["vethPrefix"] = "pod".into();
        runtime.check(&sandbox, &result).silent();
        let name = result["interfaces"][0]["name"].as_str().expect("a name");
        stage.run(&format!(
            "ip link set {name} down; ip link set {name} name renamed; ip link set renamed up"
        ));
        differs(&runtime, &sandbox, &result, "does not list renamed", "another name");
    });
}

/// K-10: with the daemon away result and kernel must agree; that is no reason to restart a pod, and what is wrong is found.
#[test]
fn daemon_that_is_away_is_no_difference() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        daemon.stop();
        let mut more = result.clone();
        let theirs = json!({ "address": "fd00::1/128", "interface": 1 });
        more["ips"].as_array_mut().expect("a list").push(theirs);
        runtime.check(&sandbox, &more).silent();
        let before = kernel_state(stage);
        let began = Instant::now();
        runtime.check(&sandbox, &result).silent();
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!(kernel_state(stage), before);
        let log = std::fs::read_to_string("/var/log/aws-routed-eni/plugin.log").expect("a log");
        assert!(log.contains("compared with the result of ADD alone"), "{log}");
        let host = result["interfaces"][0]["name"].as_str().expect("a name");
        for (damage, named, inside) in [
            ("ip route del 10.0.0.101 table 5120".into(), "5120", false),
            ("ip route del default".into(), "0.0.0.0/0", true),
            ("ip addr del 10.0.0.101/32 dev eth0".into(), "address 10.0.0.101", true),
            (format!("ip link set {host} down"), "is down", false),
            (format!("ip link del {host}"), "missing", false),
        ] {
            if inside {
                sandbox.ns.run(&damage)
            } else {
                stage.run(&damage)
            };
            differs(&runtime, &sandbox, &result, named, &damage);
        }
    });
}

/// K-06: the way out of a pod on a second ENI is looked at, by an address of its own or by one of a prefix.
#[test]
fn way_out_by_a_second_eni_is_looked_at() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let daemon = FakeIpamd::start(&["10.0.1.101", "10.0.1.66", "10.0.0.101"]);
        daemon.state().device = 1;
        let runtime = runtime();
        let pods = ["single", "prefix"].map(|id| {
            let sandbox = runtime.sandbox(stage, id, id);
            let result = runtime.add(&sandbox).result();
            runtime.check(&sandbox, &result).silent();
            (sandbox, result)
        });
        let [(single, result), (prefix, of_prefix)] = &pods;
        for (damage, named, of_one) in [
            ("ip rule del pref 1536", "1536: from all fwmark 0x2/0x7f", None),
            ("ip route del default table 2", "table 2 has no default route", None),
            ("nft delete table ip podwire", "nft table ip podwire is missing", None),
            ("nft flush map ip podwire addresses", "10.0.1.101 to no chain instead of eni-2", Some(0)),
            ("nft flush map ip podwire prefixes", "10.0.1.66 to no chain instead of eni-2", Some(1)),
            (
                "nft 'add chain ip podwire eni-9; add element ip podwire addresses { 10.0.1.66 : jump eni-9 }'",
                "10.0.1.66 to eni-9",
                Some(1),
            ),
        ] {
            stage.run(damage);
            for (number, (sandbox, result)) in pods.iter().enumerate() {
                if of_one.is_none_or(|one| one == number) {
                    differs(&runtime, sandbox, result, named, damage);
                } else {
                    runtime.check(sandbox, result).silent();
                }
            }
            let repair = node.repair(&Part::ALL.into(), &mut |_| Vec::new());
            assert!(repair.failures.is_empty(), "{damage}: {:?}", repair.failures);
            // A daemon that just started keeps what leads to ENIs it may yet hear of.
            stage.run("nft delete element ip podwire addresses '{ 10.0.1.66 }' 2>/dev/null || true");
            runtime.check(single, result).silent();
            runtime.check(prefix, of_prefix).silent();
        }
        // On the primary ENI nothing leads elsewhere.
        daemon.state().device = 0;
        let third = runtime.sandbox(stage, "third", "third");
        let result = runtime.add(&third).result();
        runtime.check(&third, &result).silent();
        stage.run("nft add element ip podwire addresses '{ 10.0.0.101 : jump eni-2 }'");
        differs(&runtime, &third, &result, "10.0.0.101 to eni-2 instead of no chain", "astray");
    });
}
