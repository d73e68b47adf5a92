//! DEL, as a runtime sees it: it always gets done, with whatever pieces there are.

use podwire_netns::node::bare_node;
use podwire_netns::runtime::wait;
use podwire_netns::{FakeIpamd, Runtime, Stage, kernel_state, on_stage};
use podwire_proto::v1::Failure;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::{Duration, Instant};

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

fn no_pod_links(stage: &Stage) -> bool {
    stage.json("ip -j link show type veth").as_array().is_some_and(Vec::is_empty)
}

fn pending() -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir("/run/aws-node/podwire/released") else { return Vec::new() };
    let read = |path: std::path::PathBuf| {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    entries.map(|e| read(e.expect("an entry").path())).collect()
}

/// D-01, D-02, D-06, D-12, H3: everything goes; a second and third DEL succeed.
#[test]
fn del_leaves_nothing_and_repeats() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let before = kernel_state(stage);
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let _ = runtime.add(&sandbox).result();
        for _ in 0..3 {
            runtime.del(&sandbox).silent();
        }
        assert_eq!(kernel_state(stage), before);
        assert!(!sandbox.ns.succeeds("ip link show eth0"));
        assert!(daemon.state().held.is_empty());
        assert!(pending().is_empty());
        let names: Vec<_> = daemon.state().released.iter().map(|(_, link)| !link.is_empty()).collect();
        assert_eq!(names, [true, false, false]);
    });
}

/// D-03.
#[test]
fn del_of_something_never_added_succeeds() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        runtime.del(&runtime.sandbox(stage, "never", "p")).silent();
    });
}

/// D-01, D-05, D-06, D-11: no namespace, an empty path, another namespace, the host's own.
#[test]
fn del_does_without_the_namespace() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let other = stage.netns("other");
        other.run("ip link add eth0 type veth peer name eth1");
        stage.run("ip link add eth0 type veth peer name uplink");
        let before = kernel_state(stage);
        for path in ["", "/run/netns/none", "/run", other.path(), "/proc/self/ns/net"] {
            let sandbox = runtime.sandbox(stage, "c1", "p");
            let _ = runtime.add(&sandbox).result();
            sandbox.ns.remove();
            let mut env = runtime.env("DEL", &sandbox);
            env.retain(|(key, _)| key != "CNI_NETNS");
            env.push(("CNI_NETNS".into(), path.into()));
            runtime.execute(&env, &runtime.conf.to_string()).silent();
            assert_eq!(kernel_state(stage), before, "{path:?}");
            assert!(daemon.state().held.is_empty(), "{path:?}");
        }
        assert!(other.succeeds("ip link show eth0"), "D-11: foreign interfaces stay");
    });
}

/// D-04: prevResult missing, empty, odd.
#[test]
fn del_with_any_previous_result_succeeds() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        for previous in
            [json!(null), json!({}), json!([]), json!("x"), json!({ "ips": 7, "interfaces": [null, 1] })]
        {
            let sandbox = runtime.sandbox(stage, "c1", "p");
            let _ = runtime.add(&sandbox).result();
            let conf = runtime.conf_with("prevResult", previous.clone());
            runtime.execute(&runtime.env("DEL", &sandbox), &conf.to_string()).silent();
            assert!(no_pod_links(stage) && daemon.state().held.is_empty(), "{previous}");
            sandbox.ns.remove();
        }
    });
}

/// D-07, scenario 14: an old prevResult names an address, and a link, that have moved on.
#[test]
fn del_with_stale_previous_result_touches_nobody_else() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let old = runtime.sandbox(stage, "old", "web-0");
        let stale = runtime.add(&old).result();
        runtime.del(&old).silent();
        let new = runtime.sandbox(stage, "new", "web-0");
        assert_eq!(runtime.add(&new).result()["ips"], stale["ips"]);
        let before = kernel_state(stage);
        let conf = runtime.conf_with("prevResult", stale);
        runtime.execute(&runtime.env("DEL", &old), &conf.to_string()).silent();
        assert_eq!(kernel_state(stage), before);
        assert_eq!(daemon.address_of("new"), Some(IpAddr::from([10, 0, 0, 101])));
    });
}

/// D-05: CNI_ARGS are missing at DEL: the link is found by whose it is, or by ADD's result.
#[test]
fn del_without_args_finds_the_link() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        for (by_result, drop_netns) in [(false, false), (false, true), (true, true)] {
            let sandbox = runtime.sandbox(stage, "c1", "web-0");
            let result = runtime.add(&sandbox).result();
            let mut env = runtime.env("DEL", &sandbox);
            env.retain(|(key, _)| key != "CNI_ARGS" && (key != "CNI_NETNS" || !drop_netns));
            let conf = if by_result { runtime.conf_with("prevResult", result) } else { runtime.conf.clone() };
            runtime.execute(&env, &conf.to_string()).silent();
            assert!(no_pod_links(stage) && daemon.state().held.is_empty(), "{by_result}");
            sandbox.ns.remove();
        }
    });
}

/// D-08, scenario 17: no daemon; the kernel is cleaned and the release is left behind once, whatever the number of DELs.
#[test]
fn del_without_daemon_cleans_up_and_leaves_a_pending_release() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let before = kernel_state(stage);
        let sandbox = runtime.sandbox(stage, "c1", "web-0");
        let _ = runtime.add(&sandbox).result();
        daemon.stop();
        for _ in 0..2 {
            runtime.del(&sandbox).silent();
        }
        assert_eq!(kernel_state(stage), before);
        let pending = pending();
        assert_eq!(pending.len(), 1);
        let one = &pending[0];
        assert_eq!(
            (&one["version"], &one["container_id"], &one["pod_name"]),
            (&json!(1), &json!("c1"), &json!("web-0"))
        );
        assert!(one["started_boottime_ms"].as_u64().is_some_and(|ms| ms > 0));
    });
}

/// D4: neither the pod's name nor a namespace nor ADD's result nor a daemon: the link is found all the same, before its
/// release is left pending.
#[test]
fn del_that_knows_only_the_container_finds_the_link_without_daemon() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        let other = runtime.sandbox(stage, "other", "web-1");
        let _ = runtime.add(&other).result();
        let before = kernel_state(stage);
        let sandbox = runtime.sandbox(stage, "c1", "web-0");
        let _ = runtime.add(&sandbox).result();
        daemon.stop();
        let mut env = runtime.env("DEL", &sandbox);
        env.retain(|(key, _)| key != "CNI_ARGS" && key != "CNI_NETNS");
        runtime.execute(&env, &runtime.conf.to_string()).silent();
        assert_eq!(kernel_state(stage), before, "the other pod's stays");
        assert_eq!(pending().len(), 1);
    });
}

/// D-08: the daemon answers but cannot take the release.
#[test]
fn del_refused_by_the_daemon_is_pending() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "web-0");
        let _ = runtime.add(&sandbox).result();
        let refusal = Failure { cause: "ledger-unwritable".into(), message: "disk full".into(), retry: true };
        daemon.state().release_refusal = Some(refusal);
        runtime.del(&sandbox).silent();
        assert!(no_pod_links(stage));
        assert_eq!(pending().len(), 1);
    });
}

/// A runtime that ended while its DEL waited for a daemon that hangs: the container lives again by the time the plugin gives
/// up, with a link of the same name and alias.
#[test]
fn del_whose_runtime_is_gone_leaves_the_next_life_alone() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let mut runtime = runtime();
        runtime.conf["podwireDelTimeoutMs"] = 1500.into();
        let earlier = runtime.sandbox(stage, "c1", "web-0");
        let _ = runtime.add(&earlier).result();
        daemon.state().release_delay = Duration::from_secs(600);
        let asks = "exec 3<&0; \"$0\" <&3 3<&- & while [ ! -e /run/asked ]; do sleep 0.05; done";
        let env = runtime.env("DEL", &earlier);
        let del = runtime.spawn_by(&["/bin/sh", "-c", asks], &env, &runtime.conf.to_string());
        let until = Instant::now() + Duration::from_secs(10);
        while daemon.state().releases_asked == 0 && Instant::now() < until {
            std::thread::yield_now();
        }
        std::fs::write("/run/asked", "").expect("written");
        earlier.ns.remove();
        stage.run("while ip link show type veth | grep -q .; do sleep 0.01; done");
        let again = runtime.sandbox(stage, "c1", "web-0");
        let result = runtime.add(&again).result();
        // The plugin holds the pipe: its end is the plugin's.
        let outcome = wait(del);
        assert!(outcome.stdout.contains("\"code\":11") && outcome.stdout.contains("is gone"), "{outcome:?}");
        runtime.check(&again, &result).silent();
        assert_eq!(pending(), [Value::Null; 0]);
    });
}

/// D-08: neither daemon nor disk: the runtime is told to try again, and the pod is unwired all the same.
#[test]
fn del_that_cannot_be_remembered_is_code_11() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "web-0");
        let _ = runtime.add(&sandbox).result();
        daemon.stop();
        std::fs::write("/run/aws-node/podwire", "in the way").expect("a file");
        assert_eq!(runtime.del(&sandbox).code(), 11);
        assert!(no_pod_links(stage));
        std::fs::remove_file("/run/aws-node/podwire").expect("removed");
        runtime.del(&sandbox).silent();
        assert_eq!(pending().len(), 1);
    });
}

/// D4: an address whose link is still wired is not given back, not even later. Daemon away, and daemon refusing.
#[test]
fn del_that_cannot_delete_the_link_leaves_no_pending_release() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "web-0");
        let _ = runtime.add(&sandbox).result();
        let before = kernel_state(stage);
        // Without this capability the kernel shows links and deletes none.
        let powerless = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
        let del =
            || wait(runtime.spawn_by(&powerless, &runtime.env("DEL", &sandbox), &runtime.conf.to_string()));
        let refusal =
            Failure { cause: "link-not-deleted".into(), message: "not permitted".into(), retry: true };
        daemon.state().release_refusal = Some(refusal);
        for away in [false, true] {
            if away {
                daemon.stop();
            }
            let error = del().error();
            assert!(error["details"].as_str().is_some_and(|d| d.contains("delete link")), "{error}");
            assert_eq!(kernel_state(stage), before, "away: {away}");
            assert_eq!(pending(), [Value::Null; 0], "away: {away}");
        }
        // As the runtime repeats it, once the kernel lets it.
        runtime.del(&sandbox).silent();
        assert!(no_pod_links(stage));
        assert_eq!(pending().len(), 1);
    });
}

/// Scenario 13: a half-made pod, whose ADD was killed.
#[test]
fn del_of_a_half_made_pod_leaves_nothing() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "web-0");
        let result = runtime.add(&sandbox).result();
        let name = result["interfaces"][0]["name"].as_str().expect("a name");
        stage.run(&format!("ip link set {name} down; ip link set {name} alias ''"));
        runtime.del(&sandbox).silent();
        assert!(no_pod_links(stage) && daemon.state().held.is_empty());
    });
}

/// Somebody else wrote his own alias over ours: the MAC still says whose the link is, with the daemon and without.
#[test]
fn del_finds_a_link_whose_alias_somebody_overwrote() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        for away in [false, true] {
            let sandbox = runtime.sandbox(stage, "c1", "web-0");
            let result = runtime.add(&sandbox).result();
            let name = result["interfaces"][0]["name"].as_str().expect("a name");
            stage.run(&format!("ip link set {name} alias foo"));
            if away {
                daemon.stop();
            }
            runtime.del(&sandbox).silent();
            assert!(no_pod_links(stage), "away: {away}");
            sandbox.ns.remove();
        }
    });
}

/// A link that only has the name, and says nothing of being ours, stays.
#[test]
fn del_leaves_a_foreign_link_of_that_name() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        stage.run("ip link add enicc21c2d7785 type veth peer name foreign");
        runtime.del(&runtime.sandbox(stage, "c1", "sample-pod")).silent();
        assert!(stage.succeeds("ip link show enicc21c2d7785"));
    });
}
