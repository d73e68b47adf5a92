//! VERSION, STATUS, GC, CHECK, and input no verb should get.

use podwire_netns::node::bare_node;
use podwire_netns::{FakeIpamd, Runtime, kernel_state, on_stage};
use podwire_proto::v1::Failure;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

fn boottime_ms() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").expect("uptime");
    let seconds: f64 = uptime.split(' ').next().expect("a number").parse().expect("a number");
    format!("{:.0}", seconds * 1000.0).parse().expect("a number")
}

/// V-01, V-02, V-05: no daemon, nothing on stdin.
#[test]
fn version_needs_nothing() {
    on_stage(|_| {
        let runtime = runtime();
        let env = [("CNI_COMMAND".to_owned(), "VERSION".to_owned())];
        for stdin in ["", "{\"cniVersion\":\"x\"}", "nonsense"] {
            let reply = runtime.execute(&env, stdin).result();
            assert_eq!(reply["cniVersion"], "1.1.0");
            assert_eq!(reply["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
        }
        assert_eq!(runtime.execute(&env, "{\"cniVersion\":\"0.4.0\"}").result()["cniVersion"], "0.4.0");
    });
}

/// T-01, T-02, T-08, T-10.
#[test]
fn status_is_true_and_forgives_a_restart() {
    on_stage(|_| {
        let runtime = runtime();
        let status = || runtime.general("STATUS", &runtime.conf);
        let started = Instant::now();
        assert_eq!(status().code(), 50);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let mut daemon = FakeIpamd::start(&[]);
        status().silent();
        daemon.state().ready = false;
        let error = status().error();
        assert_eq!(error["code"], 50);
        assert!(error["details"].as_str().is_some_and(|d| d.contains("starting")), "{error}");
        daemon.stop();
        std::fs::create_dir_all("/run/aws-node/podwire").expect("a directory");
        let beat = |at: u64| std::fs::write("/run/aws-node/podwire/alive", format!("{at}\n"));
        beat(boottime_ms() - 1_000).expect("written");
        status().silent();
        let short = runtime.conf_with("podwireStatusGraceMs", 500.into());
        assert_eq!(runtime.general("STATUS", &short).code(), 50);
        // A machine that was booted within the last minute knows no time so long ago.
        if let Some(long_ago) = boottime_ms().checked_sub(61_000) {
            beat(long_ago).expect("written");
            assert_eq!(status().code(), 50);
        }
    });
}

/// G-01, G-02, G-06, G-07, G-08, G-10: only what the runtime no longer lists, and only of this network.
#[test]
fn gc_collects_what_is_not_listed() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102", "10.0.0.103"]);
        let runtime = runtime();
        let keep = runtime.sandbox(stage, "keep", "p1");
        let lose = runtime.sandbox(stage, "lose", "p2");
        for sandbox in [&keep, &lose] {
            let _ = runtime.add(sandbox).result();
        }
        let mut other = self::runtime();
        other.conf["name"] = "other-net".into();
        let theirs = other.sandbox(stage, "theirs", "p3");
        let _ = other.add(&theirs).result();
        runtime.general("GC", &runtime.conf).silent();
        runtime.general("GC", &runtime.conf_with("cni.dev/valid-attachments", Value::Null)).silent();
        assert_eq!(daemon.state().held.len(), 3, "no list is not an empty list");
        let valid = json!([{ "containerID": "keep", "ifname": "eth0" }]);
        let conf = runtime.conf_with("cni.dev/valid-attachments", valid);
        for _ in 0..2 {
            runtime.general("GC", &conf).silent();
            let held: Vec<String> = daemon.state().held.keys().map(|k| k.1.clone()).collect();
            assert_eq!(held, ["keep", "theirs"]);
        }
        runtime.general("GC", &runtime.conf_with("cni.dev/valid-attachments", json!([]))).silent();
        assert_eq!(daemon.state().held.len(), 1, "the other network's stays");
    });
}

/// G-09: an ADD that was only waiting while GC asked what to collect is not collected.
#[test]
fn gc_takes_nothing_but_what_it_was_told() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let lose = runtime.sandbox(stage, "lose", "p");
        let _ = runtime.add(&lose).result();
        let waiting = ("aws-cni".into(), "waiting".into(), "eth0".into());
        daemon.state().late = Some((waiting, [10, 0, 0, 102].into()));
        runtime.general("GC", &runtime.conf_with("cni.dev/valid-attachments", json!([]))).silent();
        let held: Vec<String> = daemon.state().held.keys().map(|k| k.1.clone()).collect();
        assert_eq!(held, ["waiting"]);
        assert!(!lose.ns.succeeds("ip link show eth0"));
    });
}

/// D4: a link that a killed daemon left waiting for its deletion goes before its address.
#[test]
fn gc_takes_a_link_that_waits_for_its_deletion() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let lose = runtime.sandbox(stage, "lose", "p");
        let result = runtime.add(&lose).result();
        let link = result["interfaces"][0]["name"].as_str().expect("a name");
        stage.run(&format!("ip link set {link} group 1886846978"));
        runtime.general("GC", &runtime.conf_with("cni.dev/valid-attachments", json!([]))).silent();
        assert!(!stage.succeeds(&format!("ip link show {link}")));
        assert!(daemon.state().held.is_empty());
    });
}

/// G-04: each failure is told, and keeps nothing else from being collected.
#[test]
fn gc_tells_what_could_not_be_collected() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101", "10.0.0.102"]);
        let runtime = runtime();
        for id in ["a", "b"] {
            let _ = runtime.add(&runtime.sandbox(stage, id, id)).result();
        }
        let refusal =
            Failure { cause: "link-not-deleted".into(), message: "not permitted".into(), retry: true };
        daemon.state().release_refusal = Some(refusal);
        let conf = runtime.conf_with("cni.dev/valid-attachments", json!([]));
        let error = runtime.general("GC", &conf).error();
        let details = error["details"].as_str().expect("details");
        assert!(details.contains("a/eth0: not permitted") && details.contains("b/eth0"), "{error}");
        assert_eq!(error["code"], 11);
        assert_eq!(daemon.state().releases_asked, 2);
        assert_eq!(daemon.state().held.len(), 2);
    });
}

/// G-04: a daemon that is away is said so.
#[test]
fn gc_without_daemon_is_code_11() {
    on_stage(|_| {
        let mut runtime = runtime();
        runtime.conf["podwireStatusTimeoutMs"] = 100.into();
        let conf = runtime.conf_with("cni.dev/valid-attachments", json!([]));
        assert_eq!(runtime.general("GC", &conf).code(), 11);
    });
}

/// K-02, K-05, K-08, K-10, K-11.
#[test]
fn check_passes_after_add_and_changes_nothing() {
    on_stage(|stage| {
        let _daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        let before = kernel_state(stage);
        runtime.check(&sandbox, &result).silent();
        assert_eq!(kernel_state(stage), before);
        assert_eq!(runtime.execute(&runtime.env("CHECK", &sandbox), &runtime.conf.to_string()).code(), 7);
        // K-05: what later plugins in the chain may change.
        sandbox.ns.run(
            "ip link set eth0 mtu 1400; ip addr add 10.7.7.7/32 dev eth0; ip route add 10.8.0.0/16 dev eth0",
        );
        runtime.check(&sandbox, &result).silent();
    });
}

/// K-03, K-04, K-06: each piece that is missing or wrong is found and named.
#[test]
fn check_names_what_is_wrong() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        bare_node(stage);
        let runtime = runtime();
        for (breakage, inside, named) in [
            ("ip route del 10.0.0.101", false, "table 254"),
            ("ip route del 10.0.0.101 table 5120", false, "5120"),
            ("ip link set LINK down", false, "is down"),
            ("ip link set LINK group 1886846978", false, "deletion"),
            ("ip link set LINK alias x", false, "alias"),
            ("ip link del LINK", false, "missing"),
            ("ip rule del pref 512", false, "rule 512"),
            ("nft delete table ip podwire", false, "nft table"),
            ("ip addr del 10.0.0.101/32 dev eth0", true, "10.0.0.101"),
            ("ip link set eth0 down", true, "eth0 is down"),
            ("ip link set eth0 address 02:11:22:33:44:55", true, "MAC"),
            ("ip route del default", true, "0.0.0.0/0"),
            ("ip neigh del 169.254.1.1 dev eth0", true, "neighbour"),
        ] {
            let sandbox = runtime.sandbox(stage, "c1", "p");
            let result = runtime.add(&sandbox).result();
            let command = breakage.replace("LINK", result["interfaces"][0]["name"].as_str().expect("a name"));
            if inside {
                sandbox.ns.run(&command)
            } else {
                stage.run(&command)
            };
            let error = runtime.check(&sandbox, &result).error();
            assert_eq!(error["code"], 107, "{breakage}");
            assert!(error["details"].as_str().is_some_and(|d| d.contains(named)), "{breakage}: {error}");
            stage.run(
                "ip rule del pref 512 2>/dev/null || true; nft delete table ip podwire 2>/dev/null || true",
            );
            bare_node(stage);
            // Broken links say nothing of their owner any more; their namespace takes them along.
            runtime.del(&sandbox).silent();
            sandbox.ns.remove();
            stage.run("for l in $(ip -o link show type veth | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/'); do ip link del $l 2>/dev/null || true; done");
        }
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let result = runtime.add(&sandbox).result();
        daemon.state().held.clear();
        let error = runtime.check(&sandbox, &result).error();
        assert!(error["msg"].as_str().is_some_and(|m| m.contains("ledger")), "{error}");
    });
}

/// P-04, P-05, P-06, P-07, P-08, P-09, P-10, P-11, P-12, P-13, P-16, P-20, W20, "What bad input gets": the right code, nothing but the error on stdout, nothing in the kernel.
#[test]
fn hostile_input_is_refused_with_its_code() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let good = runtime.conf.to_string();
        let before = kernel_state(stage);
        let with = |key: &str, value: &str| {
            let mut env = runtime.env("ADD", &sandbox);
            env.retain(|(k, _)| k != key);
            env.push((key.into(), value.into()));
            env
        };
        let plain = runtime.env("ADD", &sandbox);
        let conf = |key: &str, value: Value| runtime.conf_with(key, value).to_string();
        let table = [
            (with("CNI_COMMAND", "EXPLODE"), good.clone(), 4),
            (with("CNI_COMMAND", ""), good.clone(), 4),
            (with("CNI_COMMAND", "add"), good.clone(), 4),
            (with("CNI_CONTAINERID", ""), good.clone(), 4),
            (with("CNI_CONTAINERID", "../../etc/passwd"), good.clone(), 4),
            (with("CNI_CONTAINERID", "a b"), good.clone(), 4),
            (with("CNI_CONTAINERID", &"x".repeat(4096)), good.clone(), 4),
            (with("CNI_NETNS", ""), good.clone(), 4),
            (with("CNI_NETNS", "/run/netns/none"), good.clone(), 8),
            (with("CNI_IFNAME", ""), good.clone(), 4),
            (with("CNI_IFNAME", "sixteen-bytes-xx"), good.clone(), 4),
            (with("CNI_IFNAME", "a/b"), good.clone(), 4),
            (with("CNI_IFNAME", ".."), good.clone(), 4),
            (with("CNI_IFNAME", "eth%d"), good.clone(), 4),
            (with("CNI_IFNAME", "lo"), good.clone(), 4),
            (with("CNI_ARGS", "X=1"), good.clone(), 4),
            (with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=$(reboot)"), good.clone(), 4),
            (with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=a\nlevel=error"), good.clone(), 4),
            (plain.clone(), String::new(), 6),
            (plain.clone(), "{".into(), 6),
            (plain.clone(), "[]".into(), 6),
            (plain.clone(), "{}".into(), 1),
            (plain.clone(), conf("cniVersion", "0.2.0".into()), 1),
            (plain.clone(), conf("cniVersion", "1.2.0".into()), 1),
            (plain.clone(), conf("cniVersion", "x".into()), 6),
            (plain.clone(), conf("cniVersion", 1.into()), 6),
            (plain.clone(), conf("name", "".into()), 7),
            (plain.clone(), conf("name", "../x".into()), 7),
            (plain.clone(), conf("vethPrefix", "abcde".into()), 7),
            (plain.clone(), conf("vethPrefix", "a/b".into()), 7),
            (plain.clone(), conf("prevResult", "x".into()), 6),
        ];
        for (env, stdin, code) in table {
            let outcome = runtime.execute(&env, &stdin);
            assert_eq!(outcome.code(), code, "{env:?} {stdin}: {outcome:?}");
            assert_eq!(outcome.stderr, "", "{env:?} {stdin}");
        }
        assert_eq!(kernel_state(stage), before);
        assert_eq!(daemon.state().allocates, 0);
        let by_hand = runtime.execute(&[], "");
        assert_eq!((by_hand.exit, by_hand.stdout.as_str()), (Some(0), ""));
        assert!(by_hand.stderr.contains("1.1.0"), "P-20: {}", by_hand.stderr);
    });
}
