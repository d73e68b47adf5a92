//! Instance metadata in trouble, for the whole daemon (pain-points C33). Leaf by leaf it is tested in `ipamd/ec2`.

use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, wait_for};
use podwire_e2e::pod::Pod;
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker};
use serde_json::json;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::trouble::TroubleSettings;

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn trouble(lab: &Lab, settings: serde_json::Value) {
    lab.trouble(serde_json::from_value::<TroubleSettings>(settings).expect("trouble settings"));
}

fn start(lab: &Lab, name: &str) -> Daemon {
    let node = lab.add_node(NodeSpec::new(name).of_type("t3.medium")).expect("a node");
    Daemon::start(&node, &Binaries::find().expect("binaries"), &[]).expect("a daemon")
}

/// C33: metadata refuses, stalls or fails while daemons start. They wait, saying so, and serve when it is back.
#[test]
fn c33_start_waits_for_metadata_and_goes_on() {
    let lab = lab("c33-start");
    let node = |name: &str| lab.node(name).expect("a node");
    for (name, settings) in [
        ("n401", json!({"imds": {"errors": 1.0, "status": 401}})),
        ("n404", json!({"imds": {"errors": 1.0, "status": 404}})),
        ("n429", json!({"imds": {"errors": 1.0, "status": 429}})),
        ("nhole", json!({"imds": {"black_hole": true}})),
    ] {
        trouble(&lab, settings);
        let mut daemon = start(&lab, name);
        wait_for(READY, "the daemon to say what it waits for", || {
            Ok(daemon.log_tail().contains("cannot start yet").then_some(()))
        })
        .expect(name);
        trouble(&lab, json!({}));
        daemon.wait_ready(READY).expect(name);
        let worker = Worker { node: node(name), daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
        worker.add_pods("pod", 1).expect(name);
    }
}

/// C33: half of all answers are refusals, of every kind, while a second ENI is brought up.
#[test]
fn c33_flaky_metadata_delays_and_breaks_nothing() {
    let lab = lab("c33-flaky");
    let mut daemon = start(&lab, "n1");
    daemon.wait_ready(READY).expect("ready");
    let node = lab.node("n1").expect("a node");
    let worker = Worker { node, daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
    trouble(&lab, json!({"imds": {"errors": 0.5, "status": 429, "token_life_ms": 200}}));
    let pods = worker.add_pods("pod", 7).expect("pods on two ENIs");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    let last =
        pods.iter().find(|p| proof::device_of(&lab, p).is_ok_and(|(_, d)| d == 1)).expect("on the second");
    proof::leaves_by_snat(&lab, last).expect("the second ENI carries packets");
}

/// C33: metadata lists an ENI and cannot tell about it. The other ENIs serve; EC2 is asked once about that one.
#[test]
fn c33_eni_without_leaves_blocks_no_other() {
    let lab = lab("c33-partial");
    let mut daemon = start(&lab, "n1");
    daemon.wait_ready(READY).expect("ready");
    let node = lab.node("n1").expect("a node");
    let mut worker = Worker { node, daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
    let pods = worker.add_pods("pod", 7).expect("pods on two ENIs");
    let second = pods
        .iter()
        .find_map(|p| proof::device_of(&lab, p).ok().filter(|(_, device)| *device == 1))
        .expect("a second ENI")
        .0;
    trouble(&lab, json!({"imds": {"omissions": [{"eni": second, "what": {"key": "subnet-id"}}]}}));
    worker.daemon.kill().expect("killed");
    // Without its ledger the daemon has to look: metadata shows one ENI whole and one it cannot tell about.
    std::fs::remove_dir_all(worker.node.path("/var/run/aws-node/podwire")).expect("the ledger is lost");
    worker.daemon = Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[]).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    let more = worker.add_pods("more", 3).expect("pods");
    let all: Vec<Pod> = pods.iter().chain(&more).cloned().collect();
    proof::addresses_are_true(&lab, &all).expect("EC2 agrees");
    assert!(worker.daemon.log_tail_of(400).contains("is left out"), "it is told");
}
