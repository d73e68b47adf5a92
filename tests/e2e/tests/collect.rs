//! GC and STATUS with the real daemon: what only the runtime's list says is dead goes, and a full node stays ready.

use std::path::Path;
use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::wait_for;
use podwire_e2e::pod::Pod;
use podwire_e2e::runtime::{self, Ran};
use podwire_e2e::scene::{Mode, Worker, delete};
use serde_json::{Value, json};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, instance_type: &str) -> Worker {
    let spec = NodeSpec::new("n1").of_type(instance_type);
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &[])
        .expect("a ready node")
}

/// A verb that concerns no container.
fn general(node: &Node, verb: &str, valid: Option<&[&Pod]>) -> Ran {
    let mut conf = runtime::netconf(node, "1.1.0", None).expect("a conflist");
    if let Some(pods) = valid {
        let one = |pod: &&Pod| json!({ "containerID": pod.attachment.container_id, "ifname": pod.attachment.ifname });
        conf["cni.dev/valid-attachments"] = pods.iter().map(one).collect::<Value>();
    }
    let env = [("CNI_COMMAND", verb), ("CNI_PATH", "/opt/cni/bin")];
    runtime::execute_raw(node, Path::new("/opt/cni/bin/aws-cni"), &env, conf.to_string().as_bytes())
        .expect("runs")
}

fn host_links(node: &Node) -> usize {
    let output = node.command("ip").args(["-o", "link", "show", "type", "veth"]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(": eni")).count()
}

/// G-03, G-11: a pod the runtime forgot loses interface and address although its namespace lives; the address cools.
#[test]
fn forgotten_pod_is_collected_and_its_address_cools() {
    let lab = lab("collect");
    let worker = worker(&lab, "t3.medium");
    let pods = worker.add_pods("pod", 3).expect("pods");
    let [kept, also, forgotten] = pods.as_slice() else { panic!("three pods") };
    general(&worker.node, "GC", Some(&[kept, also, forgotten])).result().expect("GC");
    general(&worker.node, "GC", None).result().expect("GC without a list");
    assert_eq!(host_links(&worker.node), 3, "nothing to collect");
    general(&worker.node, "GC", Some(&[kept, also])).result().expect("GC");
    assert_eq!(host_links(&worker.node), 2);
    kept.ping(also.address).expect("the others talk");
    kept.check().expect("CHECK");
    assert!(forgotten.check().is_err(), "CHECK of a collected pod");
    let next = worker.add_pods("next", 1).expect("a pod");
    assert_ne!(next[0].address, forgotten.address, "it still cools");
    forgotten.del().expect("the late DEL succeeds");
    delete(&[kept.clone(), also.clone(), next[0].clone()]).expect("DEL");
    wait_for(
        Duration::from_secs(20),
        "the links to go",
        || Ok((host_links(&worker.node) == 0).then_some(())),
    )
    .expect("gone");
}

/// T-03, T-09: every address of the node is taken, then cools, and none can be had: STATUS stays good, or the node's pods
/// would be evicted.
#[test]
fn full_node_answers_status() {
    let lab = lab("full");
    // Two ENIs with two addresses each, one of them the ENI's own: two pods.
    let worker = worker(&lab, "t3.nano");
    let pods = worker.add_pods("pod", 2).expect("pods");
    general(&worker.node, "STATUS", None).result().expect("STATUS of a full node");
    delete(&pods).expect("DEL");
    general(&worker.node, "STATUS", None).result().expect("STATUS while both addresses cool");
}
