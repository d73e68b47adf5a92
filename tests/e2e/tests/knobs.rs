//! The incumbent's host-side settings reach the kernel with its meaning (incumbent-behaviour §1.2).

use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::scene::{Mode, READY, Worker};
use podwire_e2e::{pod, proof, runtime};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

const SETTINGS: [(&str, &str); 7] = [
    ("AWS_VPC_ENI_MTU", "3000"),
    ("POD_MTU", "1400"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "pod"),
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none"),
    ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "false"),
    ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "192.0.2.0/24, 172.31.0.0/16"),
    ("AWS_EXTERNAL_SERVICE_CIDRS", "203.0.113.0/24"),
];

fn sh(node: &Node, script: &str) -> String {
    let output = node.command("sh").args(["-ec", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn host_side_settings_reach_the_kernel() {
    let lab = Lab::start(LabSpec::named(&format!("e2e-knobs-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)");
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let binaries = Binaries::find().expect("binaries");
    let worker = Worker::start(&lab, &binaries, spec, Mode::Secondary, &SETTINGS).expect("a ready node");
    let pods = worker.add_pods("pod", 7).expect("pods on two ENIs");
    let node = &worker.node;
    let links = sh(node, "ip -o link");
    for device in ["eth0", "eth1"] {
        let line =
            links.lines().find(|l| l.contains(&format!(" {device}@")) || l.contains(&format!(" {device}:")));
        assert!(line.is_some_and(|l| l.contains("mtu 3000")), "{device}: {links}");
    }
    let of_pods: Vec<&str> = links.lines().filter(|l| l.contains(": pod")).collect();
    assert_eq!(of_pods.len(), pods.len(), "{links}");
    assert!(of_pods.iter().all(|l| l.contains("mtu 1400")), "{links}");
    let inside =
        pods[0].netns.command("ip").expect("a command").args(["-o", "link", "show", "eth0"]).output();
    assert!(String::from_utf8_lossy(&inside.expect("ip").stdout).contains("mtu 1400"));

    let table = sh(node, "nft list table ip podwire");
    let snat = table.lines().find(|l| l.contains("snat to")).expect("SNAT");
    assert!(!snat.contains("random"), "{snat}");
    assert!(!table.contains("arrival"), "NodePort support is off: {table}");
    assert!(table.contains("192.0.2.0/24") && table.contains("172.31.0.0/16"), "{table}");
    assert!(table.contains("iifname != \"pod*\""), "{table}");
    let rules = sh(node, "ip rule");
    assert!(
        rules.lines().any(|l| l.starts_with("1535:") && l.contains("to 203.0.113.0/24 lookup main")),
        "{rules}"
    );
    for pod in proof::one_per_eni(&lab, &pods, node).values() {
        proof::leaves_by_snat(&lab, pod).expect("out of the VPC");
        pod.check().expect("CHECK");
    }
}

/// The deadlines of ours reach the plugin: it looks for a daemon that is gone as long as it was told, no longer.
#[test]
fn deadlines_reach_the_plugin() {
    let lab = Lab::start(LabSpec::instant(&format!("e2e-deadlines-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)");
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let settings = [("PODWIRE_ADD_DEADLINE_MS", "2000"), ("PODWIRE_DEL_DEADLINE_MS", "1500")];
    let worker = Worker::start(&lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &settings)
        .expect("a ready node");
    worker.daemon.stop(READY).expect("stopped");
    let conf = runtime::netconf(&worker.node, "1.0.0", None).expect("a conflist");
    worker.node.add_netns("late").expect("a sandbox");
    let ran = runtime::execute(&worker.node, "ADD", &pod::attachment(&worker.node, "late"), &conf);
    let ran = ran.expect("executed");
    assert_ne!(ran.code, Some(0), "{}", ran.stdout);
    let span = Duration::from_millis(1_500)..Duration::from_secs(10);
    assert!(span.contains(&ran.took), "ADD gave up after {:?}: {}", ran.took, ran.stdout);
}
