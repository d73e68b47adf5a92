//! The operator's command on a node with a real daemon: what it tells is what is so.

use std::net::IpAddr;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::scene::{Mode, Worker, delete};
use serde_json::{Value, json};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;
use vpcsim::trouble::TroubleSettings;

/// Exit code, output and errors of `podwire` on a node.
fn podwire(node: &Node, args: &[&str]) -> (i32, String, String) {
    let binary = Binaries::find().expect("binaries").podwire();
    let output = node.command(binary).args(args).output().expect("scripts/build makes podwire");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn told(node: &Node, args: &[&str]) -> Value {
    let (_, out, err) = podwire(node, args);
    assert!(!out.is_empty(), "{args:?}: {err}");
    serde_json::from_str(&out).expect("JSON")
}

#[test]
fn operator_is_told_what_is_so_while_the_daemon_runs_and_after_it_died() {
    let lab = Lab::start(LabSpec::named(&format!("e2e-operator-{}", std::process::id()))).expect("a VPC");
    let binaries = Binaries::find().expect("binaries");
    let spec = NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(1);
    let worker = Worker::start(&lab, &binaries, spec, Mode::Prefix, &[("CLUSTER_NAME", "c")]).expect("ready");
    let node = worker.node.clone();
    let pods = worker.add_pods("web", 4).expect("pods");
    delete(&pods[..1]).expect("DEL");

    let status = told(&node, &["status", "--json"]);
    assert_eq!(status["ready"], true);
    assert_eq!(status["addresses"]["allocated"], 3, "{status}");
    assert!(status["enis"]["list"][0]["prefixes"].as_u64().is_some_and(|n| n >= 1), "{status}");
    let (code, table, _) = podwire(&node, &["status"]);
    assert!(code == 0 && table.contains("ready") && table.contains("3 allocated"), "{table}");

    let list = told(&node, &["pods", "--json"]);
    let mut addresses: Vec<IpAddr> = list["pods"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|pod| pod["addresses"][0].as_str().expect("an address").parse().expect("an address"))
        .collect();
    let mut wanted: Vec<IpAddr> = pods[1..].iter().map(|pod| pod.address.into()).collect();
    addresses.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(addresses, wanted);

    let history = told(&node, &["history", &pods[0].address.to_string(), "--json"]);
    let events: Vec<&str> =
        history["events"].as_array().expect("a list").iter().filter_map(|e| e["event"].as_str()).collect();
    assert_eq!(events, ["assigned", "allocated", "released"], "{history}");
    assert_eq!(history["events"][1]["pod_name"], "web-0");
    let ledger = told(&node, &["ledger", "--json"]);
    assert_eq!((&ledger["end"], &ledger["this_boot"]), (&json!("whole"), &json!(true)), "{ledger}");
    assert_eq!(ledger["cooling"][0]["address"], pods[0].address.to_string(), "{ledger}");

    worker.daemon.kill().expect("killed");
    let (code, _, err) = podwire(&node, &["status"]);
    assert!(code == 1 && err.contains("no daemon answers"), "{err}");
    let timeless = |mut list: Value| {
        // Wall-clock times are told by the clock of the moment, which is slewed; `since_boottime_ms` is exact.
        for pod in list["pods"].as_array_mut().expect("a list") {
            let since = pod.as_object_mut().expect("a pod").remove("since").expect("a time");
            assert!(since.as_str().is_some_and(|at| at.ends_with('Z')), "{since}");
        }
        list
    };
    let left = told(&node, &["pods", "--json"]);
    assert_eq!(timeless(left), timeless(list), "the ledger outlives its daemon");
}

/// Pods wait because EC2 refuses: the reason, since when and what to do about it is one command away.
#[test]
fn waiting_pod_is_explained() {
    let lab = Lab::start(LabSpec::named(&format!("e2e-explain-{}", std::process::id()))).expect("a VPC");
    let binaries = Binaries::find().expect("binaries");
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let worker = Worker::start(&lab, &binaries, spec, Mode::Secondary, &[]).expect("ready");
    let node = worker.node.clone();
    let denied = json!({"iam": {"policy": {"deny": ["AssignPrivateIpAddresses", "CreateNetworkInterface"]}}});
    let denied: TroubleSettings = serde_json::from_value(denied).expect("trouble settings");
    lab.trouble(denied);
    std::thread::scope(|scope| {
        for n in 0..12 {
            let worker = &worker;
            scope.spawn(move || podwire_e2e::pod::add(&worker.node, &format!("pod-{n}")).map(drop).ok());
        }
        let explained = podwire_e2e::daemon::wait_for(
            std::time::Duration::from_secs(20),
            "a pod that waits, and why",
            || {
                let explained = told(&node, &["explain", "--json"]);
                let waits = explained["waiting"].as_array().is_some_and(|list| !list.is_empty());
                let why = explained["waiting"][0]["why"]["cause"] == "ec2-denied";
                // Between two attempts nothing is in flight.
                let pauses = explained["growth"]["state"] == "waiting";
                Ok((waits && why && pauses).then_some(explained))
            },
        );
        lab.trouble(TroubleSettings::default());
        let explained = explained.expect("explained");
        let message = explained["growth"]["cause"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("ec2:") && message.contains("policy"), "what to do is told: {message}");
        assert!(explained["growth"]["until"].is_string(), "{explained}");
        let why = &explained["waiting"][0];
        assert!(why["pod_name"].as_str().is_some_and(|name| name.starts_with("pod-")), "{why}");
        assert!(explained["complaints"][0]["count"].as_u64().is_some_and(|n| n >= 1), "{explained}");
    });
}
