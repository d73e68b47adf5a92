//! ADD, as a runtime sees it. Requirement ids are those of `cni-conformance.md`.

use podwire_netns::{FakeIpamd, Runtime, Stage, kernel_state, on_stage};
use podwire_proto::v1::Failure;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

/// The addresses of an interface, from `ip -j addr`.
fn addresses(list: &Value, ifname: &str) -> Vec<String> {
    let link = list.as_array().into_iter().flatten().find(|l| l["ifname"] == ifname);
    let infos = link.and_then(|l| l["addr_info"].as_array()).into_iter().flatten();
    infos.filter(|a| a["family"] == "inet").map(|a| a["local"].as_str().expect("text").to_owned()).collect()
}

fn no_pod_links(stage: &Stage) -> bool {
    stage.json("ip -j link show type veth").as_array().is_some_and(Vec::is_empty)
}

/// P-03: every version, kernel read back.
#[test]
fn add_wires_the_pod_in_every_version() {
    on_stage(|stage| {
        let daemon =
            FakeIpamd::start(&["10.0.0.101", "10.0.0.102", "10.0.0.103", "10.0.0.104", "10.0.0.105"]);
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let mut runtime = runtime();
            runtime.conf["cniVersion"] = version.into();
            let sandbox = runtime.sandbox(stage, &format!("c-{version}"), &format!("pod-{version}"));
            let result = runtime.add(&sandbox).result();
            let address = daemon.address_of(&sandbox.id).expect("held").to_string();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["ips"][0]["address"], format!("{address}/32"));
            let (host, pod) = (&result["interfaces"][0], &result["interfaces"][1]);
            assert_eq!((&pod["name"], &pod["sandbox"]), (&json!("eth0"), &json!(sandbox.ns.path())));
            let inside = sandbox.ns.json("ip -j addr");
            assert_eq!(addresses(&inside, "eth0"), [address.as_str()]);
            let eth0 = &sandbox.ns.json("ip -j link show eth0")[0];
            assert_eq!((&eth0["address"], &eth0["mtu"]), (&pod["mac"], &json!(9001)));
            let name = host["name"].as_str().expect("a name");
            let veth = &stage.json(&format!("ip -j -d link show {name}"))[0];
            // Not its operational state, which some kernels tell a second later.
            let carries = veth["flags"].as_array().is_some_and(|flags| flags.contains(&json!("LOWER_UP")));
            assert_eq!((&veth["address"], carries), (&host["mac"], true));
            assert_eq!(veth["ifalias"], format!("podwire:{}/eth0", sandbox.id));
            assert_eq!((&veth["num_tx_queues"], &veth["num_rx_queues"]), (&json!(1), &json!(1)));
            for table in ["main", "5120"] {
                let routes = stage.json(&format!("ip -j route show {address} table {table}"));
                assert_eq!(routes[0]["dev"], name, "{routes}");
            }
            let neighbour = &sandbox.ns.json("ip -j neigh show 169.254.1.1")[0];
            assert_eq!((&neighbour["lladdr"], &neighbour["state"]), (&host["mac"], &json!(["PERMANENT"])));
            sandbox.ns.run("ip route get 1.1.1.1 | grep -q 'via 169.254.1.1 dev eth0'");
        }
    });
}

/// The name hash is the incumbent's (H01); with another interface name or without pod it is the attachment's.
#[test]
fn add_names_the_host_end() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102", "10.0.0.103"]);
        let runtime = runtime();
        let name = |result: &Value| result["interfaces"][0]["name"].as_str().expect("a name").to_owned();
        let first = runtime.sandbox(stage, "c1", "sample-pod");
        assert_eq!(name(&runtime.add(&first).result()), "enicc21c2d7785");
        let nameless = runtime.sandbox(stage, "c2", "");
        let second = name(&runtime.add(&nameless).result());
        // Several interfaces in one container (P-21, Multus).
        let mut again = runtime.sandbox(stage, "c3", "sample-pod");
        again.ifname = "net1".into();
        let third = name(&runtime.add(&again).result());
        assert!(second != third && third != "enicc21c2d7785");
    });
}

/// design §7: the pod keeps address, route and link.
#[test]
fn add_on_a_running_pod_fails_and_changes_nothing() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let _ = runtime.add(&sandbox).result();
        // IPv6's duplicate address detection may end between the two looks.
        let look = || sandbox.ns.run("ip addr; ip route; ip neigh show nud permanent");
        let inside = || look().replace(" tentative", "");
        let before = (kernel_state(stage), inside());
        assert_eq!(runtime.add(&sandbox).code(), 4);
        assert_eq!((kernel_state(stage), inside()), before);
        assert_eq!(daemon.address_of("c1"), Some(IpAddr::from([10, 0, 0, 101])));
        assert_eq!(daemon.state().allocates, 1);
    });
}

/// a foreign interface is not touched and no address leaks.
#[test]
fn add_with_taken_name_fails_before_allocating() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        sandbox.ns.run("ip link add eth0 type veth peer name other");
        assert_eq!(runtime.add(&sandbox).code(), 4);
        assert!(sandbox.ns.succeeds("ip link show eth0"));
        assert_eq!(daemon.state().allocates, 0);
        assert!(no_pod_links(stage));
    });
}

/// A-09, second half: the interface is gone, the allocation is not: the same address again.
#[test]
fn add_again_without_interface_reuses_the_address() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let first = runtime.add(&sandbox).result();
        sandbox.ns.run("ip link del eth0");
        assert_eq!(runtime.add(&sandbox).result()["ips"], first["ips"]);
        assert_eq!(daemon.state().held.len(), 1);
    });
}

/// no namespace, not a namespace, the plugin's own namespace.
#[test]
fn add_with_unusable_namespace_is_code_8_and_changes_nothing() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        std::fs::write("/run/file", "x").expect("a file");
        stage.run("mkfifo /run/fifo");
        let before = kernel_state(stage);
        for path in
            ["/run/netns/none", "/run/file", "/run", "/run/fifo", "/proc/self/ns/net", "/proc/self/ns/mnt"]
        {
            let mut env = runtime.env("ADD", &sandbox);
            env.retain(|(key, _)| key != "CNI_NETNS");
            env.push(("CNI_NETNS".into(), path.into()));
            assert_eq!(runtime.execute(&env, &runtime.conf.to_string()).code(), 8, "{path}");
        }
        assert_eq!(kernel_state(stage), before);
        assert_eq!(daemon.state().allocates, 0);
    });
}

/// what a retry helps is code 11, what it does not is 100 and up.
#[test]
fn add_refused_names_cause_and_code() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        for (cause, retry, code) in
            [("subnet-exhausted", true, 11), ("subnet-exhausted", false, 100), ("new", false, 110)]
        {
            let refusal = Failure { cause: cause.into(), message: "what to do".into(), retry };
            daemon.state().refusal = Some(refusal);
            let error = runtime.add(&sandbox).error();
            assert_eq!(error["code"], code, "{error}");
            assert!(
                error["details"].as_str().is_some_and(|d| d.contains(cause) && d.contains("what to do")),
                "{error}"
            );
        }
        assert!(no_pod_links(stage));
    });
}

fn pending() -> usize {
    std::fs::read_dir("/run/aws-node/podwire/released").map_or(0, Iterator::count)
}

/// A-08, W20, scenario 16: the wiring fails; link, routes and address are given back.
#[test]
fn add_failing_to_wire_gives_everything_back() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "sample-pod");
        // The host end's name belongs to something that is not ours.
        stage.run("ip link add enicc21c2d7785 type veth peer name foreign");
        let before = kernel_state(stage);
        let error = runtime.add(&sandbox).error();
        assert_eq!(error["code"], 107);
        assert!(error["details"].as_str().is_some_and(|d| d.contains("enicc21c2d7785")), "{error}");
        assert_eq!(kernel_state(stage), before);
        assert!(daemon.state().held.is_empty());
        assert!(!sandbox.ns.succeeds("ip link show eth0"));
    });
}

/// D4: the wiring fails, and so does taking it back: the address stays with the link, and DEL takes both.
#[test]
fn add_that_cannot_take_its_link_back_keeps_the_address() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let before = kernel_state(stage);
        let sandbox = runtime.sandbox(stage, "c1", "sample-pod");
        // A look, the pair, the pod's half pass; the host's half is refused, and then the deletion.
        let inject = "inject=sendto:error=ENOBUFS:when=4+";
        let by = ["/usr/bin/strace", "-qq", "-o", "/run/trace", "-e", "trace=sendto", "-e", inject];
        let child = runtime.spawn_by(&by, &runtime.env("ADD", &sandbox), &runtime.conf.to_string());
        let error = podwire_netns::runtime::wait(child).error();
        assert!(stage.succeeds("ip link show enicc21c2d7785"), "{error}");
        assert_eq!((daemon.state().releases_asked, pending()), (0, 0), "{error}");
        assert!(error["details"].as_str().is_some_and(|d| d.contains("removed again")), "{error}");
        assert!(daemon.address_of("c1").is_some());
        runtime.del(&sandbox).silent();
        assert_eq!(kernel_state(stage), before);
        assert!(daemon.state().held.is_empty());
    });
}

/// Rollback undoes only what this call made: an allocation from before stays.
#[test]
fn add_failing_to_wire_keeps_an_older_allocation() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "sample-pod");
        let _ = runtime.add(&sandbox).result();
        sandbox.ns.run("ip link del eth0");
        stage.run("ip link add enicc21c2d7785 type veth peer name foreign");
        assert_eq!(runtime.add(&sandbox).code(), 107);
        assert!(daemon.address_of("c1").is_some());
        assert!(daemon.state().released.is_empty());
    });
}

/// Scenario 49, D13: a recreated pod of the same name finds its predecessor's link and replaces it; the predecessor's late
/// DEL touches nothing of the new one.
#[test]
fn add_replaces_the_link_of_an_earlier_sandbox_of_the_pod() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        let old = runtime.sandbox(stage, "old", "web-0");
        let _ = runtime.add(&old).result();
        let new = runtime.sandbox(stage, "new", "web-0");
        let result = runtime.add(&new).result();
        let name = result["interfaces"][0]["name"].as_str().expect("a name");
        assert_eq!(stage.json(&format!("ip -j link show {name}"))[0]["ifalias"], "podwire:new/eth0");
        // the old sandbox's address is still its own.
        assert!(daemon.address_of("old").is_some());
        let before = kernel_state(stage);
        runtime.del(&old).silent();
        assert_eq!(kernel_state(stage), before);
        assert!(daemon.address_of("old").is_none() && daemon.address_of("new").is_some());
    });
}

/// A plugin killed between making the pair and marking it leaves a link without alias; its MAC still names its owner.
#[test]
fn add_replaces_a_half_made_link() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "sample-pod");
        stage.run("ip link add enicc21c2d7785 address ee:70:77:00:00:01 type veth peer name gone");
        let _ = runtime.add(&sandbox).result();
        assert_eq!(stage.json("ip -j link show enicc21c2d7785")[0]["ifalias"], "podwire:c1/eth0");
    });
}

/// Scenario 49: routes left over for the address are replaced.
#[test]
fn add_replaces_stale_routes_of_the_address() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        stage.run("ip link add stale type veth peer name stale2; ip link set stale up");
        stage.run("ip route add 10.0.0.101 dev stale; ip route add 10.0.0.101 dev stale table 5120");
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        for table in ["main", "5120"] {
            let routes = stage.json(&format!("ip -j route show 10.0.0.101 table {table}"));
            assert_eq!(routes.as_array().map(Vec::len), Some(1), "{routes}");
            assert_eq!(routes[0]["dev"], result["interfaces"][0]["name"]);
        }
    });
}

/// what came in goes out, with ours behind it.
#[test]
fn add_passes_a_previous_result_on() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let previous =
            json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "x" }], "dns": { "domain": "d" } });
        let conf = runtime.conf_with("prevResult", previous);
        let result = runtime.execute(&runtime.env("ADD", &sandbox), &conf.to_string()).result();
        assert_eq!((&result["interfaces"][0]["name"], &result["dns"]["domain"]), (&json!("x"), &json!("d")));
        assert_eq!(result["ips"][0]["interface"], 2);
    });
}

/// §12 of cni-conformance: nobody reads the result.
#[test]
fn add_with_closed_stdout_takes_everything_back() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        // Nobody reads by the time there is a result.
        daemon.state().delay = Duration::from_millis(300);
        let mut child = runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
        drop(child.stdout.take());
        assert!(!child.wait().expect("ended").success());
        assert!(daemon.state().held.is_empty());
        assert!(no_pod_links(stage));
    });
}

/// §12 of cni-conformance: standard streams that were never open. What is opened instead, the log above all, does not get
/// what is meant for them.
#[test]
fn add_without_standard_streams_writes_its_result_nowhere() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let by = ["/bin/sh", "-c", "exec \"$0\" >&- 2>&-"];
        let outcome = podwire_netns::runtime::wait(runtime.spawn_by(
            &by,
            &runtime.env("ADD", &sandbox),
            &runtime.conf.to_string(),
        ));
        assert_eq!((outcome.exit, outcome.stdout.as_str()), (Some(0), ""));
        assert_eq!(daemon.state().held.len(), 1);
        let log = std::fs::read_to_string("/var/log/aws-routed-eni/plugin.log").expect("a log");
        assert!(log.contains("pod wired") && !log.contains("cniVersion"), "{log}");
    });
}

/// §12 of cni-conformance, scenario 16: killed at any moment; DEL, with or without namespace, leaves nothing, and the pod can
/// be made again.
#[test]
fn add_killed_at_any_moment_then_del_leaves_nothing() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let before = kernel_state(stage);
        let mut unfinished = 0;
        for step in 0..60_u64 {
            let sandbox = runtime.sandbox(stage, &format!("c{step}"), "web-0");
            let mut child = runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
            std::thread::sleep(Duration::from_micros(100 * step));
            child.kill().expect("killed or ended");
            let outcome = podwire_netns::runtime::wait(child);
            unfinished += u32::from(outcome.exit.is_none());
            if step % 2 == 0 {
                sandbox.ns.remove();
            }
            runtime.del(&sandbox).silent();
            assert_eq!(kernel_state(stage), before, "killed after {step}00 µs");
            assert!(daemon.state().held.is_empty(), "killed after {step}00 µs");
        }
        assert!(unfinished > 0, "no ADD was ever caught in the middle");
        let _ = runtime.add(&runtime.sandbox(stage, "last", "web-0")).result();
    });
}

/// P-17, scenario 19: many at once.
#[test]
fn add_forty_at_once() {
    on_stage(|stage| {
        let addresses: Vec<String> = (1..=40).map(|i| format!("10.0.0.{i}")).collect();
        let daemon = FakeIpamd::start(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
        let mut runtime = runtime();
        // This daemon deletes one link after the other: forty take their time on a slow machine.
        runtime.conf["podwireDelTimeoutMs"] = 120_000.into();
        let sandboxes: Vec<_> =
            (0..40).map(|i| runtime.sandbox(stage, &format!("c{i}"), &format!("p{i}"))).collect();
        let spawn = |verb: &str| -> Vec<_> {
            sandboxes
                .iter()
                .map(|s| runtime.spawn(&runtime.env(verb, s), &runtime.conf.to_string()))
                .collect()
        };
        for child in spawn("ADD") {
            let _ = podwire_netns::runtime::wait(child).result();
        }
        assert_eq!(daemon.state().held.len(), 40);
        assert_eq!(stage.json("ip -j route show table 5120").as_array().map(Vec::len), Some(40));
        for child in spawn("DEL") {
            podwire_netns::runtime::wait(child).silent();
        }
        assert!(no_pod_links(stage));
        assert!(daemon.state().held.is_empty());
    });
}

/// P-02: lines go to the log file, as JSON, with what is needed to find them; a log that cannot be written fails nothing.
#[test]
fn add_logs_to_the_file_and_never_fails_for_it() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        let _ = runtime.add(&runtime.sandbox(stage, "c1", "p1")).result();
        let log = std::fs::read_to_string("/var/log/aws-routed-eni/plugin.log").expect("a log");
        let line: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
        assert_eq!(
            (&line["sandbox"], &line["ip"], &line["level"]),
            (&json!("c1"), &json!("10.0.0.101"), &json!("info"))
        );
        let sandbox = runtime.sandbox(stage, "c2", "p2");
        for file in ["/proc/no/such", "stdout"] {
            let conf = runtime.conf_with("pluginLogFile", file.into());
            let outcome = runtime.execute(&runtime.env("ADD", &sandbox), &conf.to_string());
            assert_eq!(outcome.result()["ips"][0]["address"], "10.0.0.102/32");
            sandbox.ns.run("ip link del eth0");
        }
    });
}
