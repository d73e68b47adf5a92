//! CNI 1.1 by the letter, where it is not about one verb's work alone. Requirement ids are those of the conformance list;
//! tests/tidy checks that each has a test.

use podwire_hostnet::{Attachment, host_ifname, mac_text};
use podwire_netns::node::bare_node;
use podwire_netns::{FakeIpamd, Runtime, Stage, kernel_state, on_stage};
use podwire_proto::v1::Failure;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

fn speaking(version: &str) -> Runtime {
    let mut runtime = runtime();
    runtime.conf["cniVersion"] = version.into();
    runtime
}

fn no_pod_links(stage: &Stage) -> bool {
    stage.json("ip -j link show type veth").as_array().is_some_and(Vec::is_empty)
}

fn valid(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect()
}

fn gc(runtime: &Runtime, ids: &[&str]) -> podwire_netns::Outcome {
    runtime.general("GC", &runtime.conf_with("cni.dev/valid-attachments", valid(ids)))
}

/// P-01, P-02, V-03: every verb is there; 0 and the result or nothing, or not 0 and one error object with version, code and
/// message; no word else.
#[test]
fn exit_code_and_stdout_say_the_same() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let mut runtime = runtime();
        runtime.conf["podwireStatusTimeoutMs"] = 200.into();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        runtime.check(&sandbox, &result).silent();
        runtime.general("STATUS", &runtime.conf).silent();
        gc(&runtime, &["c1"]).silent();
        runtime.del(&sandbox).silent();
        daemon.stop();
        for (verb, outcome) in [
            ("ADD", runtime.add(&sandbox)),
            ("CHECK", runtime.check(&sandbox, &result)),
            ("STATUS", runtime.general("STATUS", &runtime.conf)),
            ("GC", gc(&runtime, &[])),
        ] {
            let error = outcome.error();
            assert_eq!((outcome.exit, outcome.stderr.as_str()), (Some(1), ""), "{verb}");
            assert_eq!(error["cniVersion"], "1.1.0", "{verb}");
            let keys: Vec<&String> = error.as_object().expect("an object").keys().collect();
            assert_eq!(keys, ["cniVersion", "code", "details", "msg"], "{verb}");
        }
    });
}

/// P-15: `runtimeConfig` and `args` are needed by nobody, whatever they hold; a list of attachments in another verb's
/// configuration collects nothing.
#[test]
fn runtime_keys_are_neither_needed_nor_believed() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let mut runtime = runtime();
        let keep = runtime.sandbox(stage, "keep", "p1");
        let _ = runtime.add(&keep).result();
        for (runtime_config, list) in [
            (json!({ "mac": "02:00:00:00:00:99", "ips": ["10.0.0.55/24"] }), json!([])),
            (json!("odd"), json!("odd")),
            (json!(null), json!([{ "containerID": 7 }])),
        ] {
            runtime.conf["runtimeConfig"] = runtime_config;
            runtime.conf["args"] = json!({ "cni": { "ips": ["10.0.0.55"] } });
            runtime.conf["cni.dev/valid-attachments"] = list;
            let sandbox = runtime.sandbox(stage, "c1", "p2");
            assert_eq!(runtime.add(&sandbox).result()["ips"][0]["address"], "10.0.0.102/32");
            runtime.del(&sandbox).silent();
            sandbox.ns.remove();
            assert!(daemon.address_of("keep").is_some());
        }
    });
}

/// P-18: a runtime that runs two operations for one container at once, which it must not.
#[test]
fn two_operations_at_once_for_one_container_leave_one_pod_or_none() {
    on_stage(|stage| {
        let addresses: Vec<String> = (1..=8).map(|i| format!("10.0.0.{i}")).collect();
        let daemon = FakeIpamd::start(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
        let runtime = runtime();
        let before = kernel_state(stage);
        for round in 0..6 {
            let sandbox = runtime.sandbox(stage, &format!("c{round}"), "web-0");
            let spawn = |verb: &str| runtime.spawn(&runtime.env(verb, &sandbox), &runtime.conf.to_string());
            let adds = [spawn("ADD"), spawn("ADD")].map(podwire_netns::runtime::wait);
            let wired = adds.iter().filter(|outcome| outcome.exit == Some(0)).count();
            assert!(wired <= 1, "both ADDs say that they made eth0: {adds:?}");
            adds.iter().filter(|o| o.exit != Some(0)).for_each(|o| assert!(o.code() != 3, "{o:?}"));
            assert_eq!(usize::from(sandbox.ns.succeeds("ip link show eth0")), wired, "{adds:?}");
            assert!(daemon.state().held.len() >= wired, "a wired pod holds an address: {adds:?}");
            let mixed = [spawn("DEL"), spawn("ADD"), spawn("DEL")].map(podwire_netns::runtime::wait);
            assert!(mixed.iter().all(|outcome| outcome.exit.is_some()), "{mixed:?}");
            runtime.del(&sandbox).silent();
            assert_eq!(kernel_state(stage), before);
            assert!(!sandbox.ns.succeeds("ip link show eth0"));
            assert!(daemon.state().held.is_empty(), "{:?}", daemon.state().held);
        }
    });
}

/// The same over a link that an earlier ADD left half made: one of the two replaces it, the address is that one's.
#[test]
fn two_adds_at_once_over_a_leftover_link_leave_the_winner_its_address() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        for round in 0..12 {
            let sandbox = runtime.sandbox(stage, &format!("c{round}"), "web-0");
            let attachment = Attachment { container_id: sandbox.id.clone(), ifname: "eth0".into() };
            let (name, mac) =
                (host_ifname("eni", "default", "web-0", &attachment), mac_text(&attachment.host_mac()));
            stage.run(&format!("ip link add {name} address {mac} type veth peer name gone"));
            // Both look while the daemon takes its time, and wire at the same moment.
            daemon.state().delay = Duration::from_millis(50);
            let add = || runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
            let adds = [add(), add()].map(podwire_netns::runtime::wait);
            let wired = adds.iter().filter(|outcome| outcome.exit == Some(0)).count();
            assert_eq!(wired, 1, "{adds:?}");
            assert!(daemon.address_of(&sandbox.id).is_some(), "round {round}: {adds:?}");
            runtime.del(&sandbox).silent();
            assert!(daemon.state().held.is_empty());
            sandbox.ns.remove();
        }
    });
}

/// P-21: several interfaces and several networks in one container; each has its own address and goes alone, and the first
/// keeps its routes.
#[test]
fn attachments_of_one_container_are_kept_apart() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102", "10.0.0.103"]);
        let runtime = runtime();
        let mut other = self::runtime();
        other.conf["name"] = "other-net".into();
        let first = runtime.sandbox(stage, "c1", "p");
        let on = |ifname: &str| podwire_netns::Sandbox { ifname: ifname.into(), ..first.clone() };
        bare_node(stage);
        let out = || first.ns.run("ip route get 1.1.1.1");
        let result = runtime.add(&first).result();
        for (others, ifname) in [(&runtime, "net1"), (&other, "net2")] {
            let theirs = others.add(&on(ifname)).result();
            assert!(out().contains("dev eth0"), "{ifname}: {}", out());
            runtime.check(&first, &result).silent();
            others.check(&on(ifname), &theirs).silent();
        }
        assert_eq!(daemon.state().held.len(), 3);
        runtime.del(&on("net1")).silent();
        assert!(out().contains("dev eth0"), "{}", out());
        runtime.check(&first, &result).silent();
        // Of an interface that nobody added there is nothing to take.
        runtime.del(&on("net9")).silent();
        assert_eq!(daemon.state().held.len(), 2);
        let inside = first.ns.run("ip -o link show type veth");
        assert!(
            inside.contains("eth0@") && inside.contains("net2@") && !inside.contains("net1@"),
            "{inside}"
        );
        runtime.del(&first).silent();
        assert!(out().contains("dev net2"), "what stays takes over: {}", out());
        let _ = runtime.add(&first).result();
        assert!(out().contains("dev eth0"), "{}", out());
        // What one network added keeps its address whatever another says.
        runtime.del(&on("net2")).silent();
        assert_eq!(daemon.state().held.len(), 2);
        other.del(&on("net2")).silent();
        assert_eq!(daemon.state().held.len(), 1);
        assert!(first.ns.succeeds("ip link show eth0"));
        runtime.del(&first).silent();
        assert!(no_pod_links(stage) && daemon.state().held.is_empty());
    });
}

/// V-04, and the breach of "the configuration does not change": made by one version's ADD, checked and taken away with
/// another's configuration and result.
#[test]
fn every_version_deletes_what_every_version_added() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        for made in VERSIONS {
            for taken in VERSIONS {
                let sandbox = runtime().sandbox(stage, "c1", "p");
                let mut result = speaking(made).add(&sandbox).result();
                result["cniVersion"] = taken.into();
                let later = speaking(taken);
                if taken >= "0.4.0" {
                    later.check(&sandbox, &result).silent();
                }
                let mut conf = later.conf_with("prevResult", result);
                conf["keyOfALaterVersion"] = json!({ "x": 1 });
                later.execute(&later.env("DEL", &sandbox), &conf.to_string()).silent();
                assert!(no_pod_links(stage) && daemon.state().held.is_empty(), "{made} {taken}");
                sandbox.ns.remove();
            }
        }
    });
}

/// a result that came in keeps the shape of its version, and ours takes it on; there is no key without
/// content.
#[test]
fn previous_result_is_read_in_the_version_of_the_configuration() {
    on_stage(|stage| {
        let addresses: Vec<String> = (1..=5).map(|i| format!("10.0.0.{i}")).collect();
        let _daemon = FakeIpamd::start(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
        for version in VERSIONS {
            let runtime = speaking(version);
            let sandbox = runtime.sandbox(stage, &format!("c-{version}"), &format!("p-{version}"));
            let old = version < "1.0.0";
            let mut ip = json!({ "address": "10.9.9.9/24", "gateway": "10.9.9.1", "interface": 0 });
            if old {
                ip["version"] = "4".into();
            }
            let previous = json!({
                "cniVersion": version, "interfaces": [{ "name": "x0", "sandbox": sandbox.ns.path() }], "ips": [ip],
                "routes": [{ "dst": "10.8.0.0/16", "gw": "10.9.9.1" }], "dns": { "nameservers": ["10.0.0.2"] },
            });
            let conf = runtime.conf_with("prevResult", previous.clone());
            let result = runtime.execute(&runtime.env("ADD", &sandbox), &conf.to_string()).result();
            assert_eq!(result["ips"][0], previous["ips"][0], "{version}");
            assert_eq!(
                (&result["routes"], &result["dns"]),
                (&previous["routes"], &previous["dns"]),
                "{version}"
            );
            assert_eq!(result["ips"][1].get("version").is_some(), old, "{version}");
            assert_eq!(result["cniVersion"], version);
            runtime.del(&sandbox).silent();
        }
    });
}

/// A-01, K-02: what ADD and CHECK need, each by name.
#[test]
fn add_and_check_name_each_missing_variable() {
    on_stage(|stage| {
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        for verb in ["ADD", "CHECK"] {
            for missing in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
                let mut env = runtime.env(verb, &sandbox);
                env.retain(|(key, _)| key != missing);
                let error = runtime.execute(&env, &runtime.conf.to_string()).error();
                assert_eq!(error["code"], 4, "{verb} {missing}");
                assert!(error["msg"].as_str().is_some_and(|m| m.contains(missing)), "{verb}: {error}");
            }
        }
    });
}

/// D-09, K-09, G-05, T-06, R-09: nothing is delegated, so that no delegate can be forgotten: a plugin the
/// configuration names and CNI_PATH holds is never executed, and the result is never that of an IPAM plugin.
#[test]
fn nothing_is_delegated() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        std::fs::create_dir_all("/run/plugins").expect("a directory");
        for name in ["host-local", "bridge", "portmap"] {
            let path = format!("/run/plugins/{name}");
            std::fs::write(&path, "#!/bin/sh\necho $CNI_COMMAND >> /run/executed\nexit 1\n")
                .expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        }
        let mut runtime = runtime();
        runtime.conf["ipam"] = json!({ "type": "host-local", "subnet": "10.7.0.0/24" });
        runtime.conf["delegate"] = json!({ "type": "bridge" });
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let run = |verb: &str, conf: &Value| {
            let mut env = runtime.env(verb, &sandbox);
            env.retain(|(key, _)| key != "CNI_PATH");
            env.push(("CNI_PATH".into(), "/run/plugins".into()));
            runtime.execute(&env, &conf.to_string())
        };
        let result = run("ADD", &runtime.conf).result();
        assert_eq!(result["ips"][0]["address"], "10.0.0.101/32");
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(2));
        run("CHECK", &runtime.conf_with("prevResult", result)).silent();
        run("STATUS", &runtime.conf).silent();
        run("GC", &runtime.conf_with("cni.dev/valid-attachments", valid(&["c1"]))).silent();
        run("DEL", &runtime.conf).silent();
        assert!(!std::path::Path::new("/run/executed").exists(), "a delegate was executed");
    });
}

/// the result says what the kernel holds and no more: two interfaces with their real MACs, each address on the
/// pod's, none of them from elsewhere.
#[test]
fn result_is_the_kernels_truth_and_nothing_hidden() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        let keys: Vec<&String> = result.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["cniVersion", "interfaces", "ips"]);
        let interfaces = result["interfaces"].as_array().expect("interfaces");
        assert_eq!(interfaces.len(), 2);
        let host = &stage.json("ip -j link show type veth")[0];
        let pod = &sandbox.ns.json("ip -j link show eth0")[0];
        for (told, true_one) in interfaces.iter().zip([host, pod]) {
            assert_eq!(
                (&told["name"], &told["mac"], &told["mtu"]),
                (&true_one["ifname"], &true_one["address"], &true_one["mtu"])
            );
        }
        let ips = result["ips"].as_array().expect("ips");
        assert!(ips.iter().all(|ip| ip["interface"] == 1), "{result}");
        assert_eq!(ips.len(), sandbox.ns.run("ip -4 -o addr show dev eth0").lines().count());
    });
}

/// K-07, K-10: the kernel and the ledger are right, and EC2 does not lead here any more: an error that says so.
#[test]
fn check_tells_that_ec2_does_not_lead_here() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        runtime.check(&sandbox, &result).silent();
        let message = "10.0.0.101 of eni-0fake, which EC2 does not list,".to_owned();
        daemon.state().doubt = Some(Failure { cause: "quarantined".into(), message, retry: true });
        let error = runtime.check(&sandbox, &result).error();
        assert_eq!(error["code"], 107);
        assert!(error["details"].as_str().is_some_and(|d| d.contains("which EC2 does not list")), "{error}");
        daemon.state().doubt = None;
        runtime.check(&sandbox, &result).silent();
    });
}

/// G-03: what is left of an attachment goes with it, its interface first, although its namespace lives; others' stay.
#[test]
fn gc_takes_interfaces_and_routes_away() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        let keep = runtime.sandbox(stage, "keep", "p1");
        let _ = runtime.add(&keep).result();
        let with_one = kernel_state(stage);
        let lose = runtime.sandbox(stage, "lose", "p2");
        let _ = runtime.add(&lose).result();
        gc(&runtime, &["keep"]).silent();
        assert_eq!(kernel_state(stage), with_one);
        assert!(!lose.ns.succeeds("ip link show eth0") && keep.ns.succeeds("ip link show eth0"));
        assert_eq!(daemon.state().held.len(), 1);
    });
}

/// G-04, G-10: the interface goes although the daemon cannot release its address; the next GC finishes the work.
#[test]
fn gc_goes_on_where_an_earlier_one_stopped() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let lose = runtime.sandbox(stage, "lose", "p2");
        let _ = runtime.add(&lose).result();
        let refusal = Failure { cause: "ledger-unwritable".into(), message: "disk full".into(), retry: true };
        daemon.state().release_refusal = Some(refusal);
        let _ = gc(&runtime, &[]);
        assert!(no_pod_links(stage), "the interface goes first");
        assert_eq!(daemon.state().held.len(), 1, "the address is not free before the daemon says so");
        daemon.state().release_refusal = None;
        gc(&runtime, &[]).silent();
        assert!(daemon.state().held.is_empty());
    });
}

/// G-12: a list that lacks most of the running pods is a runtime that has lost its memory: refused, named, nothing touched.
/// Pods whose namespaces are gone are collected, however many.
#[test]
fn gc_refuses_to_take_most_of_the_running_pods() {
    on_stage(|stage| {
        let addresses: Vec<String> = (1..=8).map(|i| format!("10.0.0.{i}")).collect();
        let daemon = FakeIpamd::start(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
        let runtime = runtime();
        let sandboxes: Vec<_> =
            (0..8).map(|i| runtime.sandbox(stage, &format!("c{i}"), &format!("p{i}"))).collect();
        for sandbox in &sandboxes {
            let _ = runtime.add(sandbox).result();
        }
        let before = kernel_state(stage);
        for list in [&[][..], &["c0", "c1", "c2"]] {
            let error = gc(&runtime, list).error();
            assert_eq!(error["code"], 11, "{error}");
            assert!(error["details"].as_str().is_some_and(|d| d.contains("c7")), "{error}");
        }
        assert_eq!((daemon.state().held.len(), kernel_state(stage)), (8, before));
        gc(&runtime, &["c0", "c1", "c2", "c3"]).silent();
        assert_eq!(daemon.state().held.len(), 4);
        sandboxes[..4].iter().for_each(|sandbox| sandbox.ns.remove());
        stage.await_true("test -z \"$(ip -o link show type veth)\"");
        gc(&runtime, &[]).silent();
        assert!(daemon.state().held.is_empty());
    });
}

/// T-04, T-05: 50 says that an ADD cannot be served; whoever calls nonetheless is served as well as can be.
#[test]
fn verbs_are_served_after_a_failed_status() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let runtime = runtime();
        daemon.state().ready = false;
        let status = || runtime.general("STATUS", &runtime.conf);
        assert_eq!(status().code(), 50);
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        runtime.check(&sandbox, &result).silent();
        assert_eq!(status().code(), 50);
        runtime.del(&sandbox).silent();
        gc(&runtime, &[]).silent();
        assert!(no_pod_links(stage) && daemon.state().held.is_empty());
    });
}
