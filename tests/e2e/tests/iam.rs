//! What the role may do (pain-points C34). Every simulated node has AmazonEKS_CNI_Policy and nothing more, so all other
//! tests here prove that nothing more is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Setting, wait_for};
use podwire_e2e::scene::{Mode, Worker, delete, holdings};
use serde_json::json;
use vpcsim::cloud::{EKS_CNI_POLICY, Outcome};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::trouble::TroubleSettings;

const PATIENCE: Duration = Duration::from_secs(40);
const SETTINGS: [Setting<'static>; 1] = [("IP_COOLDOWN_PERIOD", "1")];

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, name: &str) -> Worker {
    let spec = NodeSpec::new(name).of_type("t3.medium");
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &SETTINGS)
        .expect("a ready node")
}

/// A whole life: second ENI, give-back. Every action it needs is in the managed policy, and it needs most of them.
#[test]
fn managed_policy_is_enough_for_a_whole_life() {
    let lab = lab("policy");
    let worker = worker(&lab, "n1");
    let pods = worker.add_pods("pod", 8).expect("pods on two ENIs");
    delete(&pods).expect("DEL");
    wait_for(PATIENCE, "the second ENI to be given back", || {
        Ok((holdings(&lab, &worker.instance()).len() == 1).then_some(()))
    })
    .expect("given back");
    let (called, refused) = lab.with_cloud(|cloud| {
        let called: BTreeSet<String> = cloud.calls().map(|c| format!("ec2:{}", c.action)).collect();
        let refused = cloud
            .calls()
            .filter(|c| matches!(&c.outcome, Outcome::Refused(code) if code == "UnauthorizedOperation"))
            .count();
        (called, refused)
    });
    assert_eq!(refused, 0);
    assert!(called.iter().all(|action| EKS_CNI_POLICY.contains(&action.as_str())), "{called:?}");
    assert!(called.len() >= 6, "this life exercised little: {called:?}");
}

/// What this life calls, one of them missing on each node. The others the pool calls on evidence only.
const NEEDED: [&str; 8] = [
    "AssignPrivateIpAddresses",
    "CreateNetworkInterface",
    "CreateTags",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "UnassignPrivateIpAddresses",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
];
const SELDOM: [&str; 5] = [
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "DescribeInstances",
    "DescribeInstanceTypes",
    "DescribeTags",
];

/// One action missing on each node: what needs it stops, its name and fix are told, the daemon runs and serves from its
/// pool.
#[test]
fn each_missing_action_is_named_and_stops_no_more_than_needs_it() {
    let lab = lab("missing");
    let actions: Vec<&str> = NEEDED.into_iter().chain(SELDOM).collect();
    let workers: Vec<Worker> = (0..actions.len()).map(|number| worker(&lab, &format!("n{number}"))).collect();
    let callers: serde_json::Map<String, serde_json::Value> = workers
        .iter()
        .zip(&actions)
        .map(|(worker, action)| (worker.node.instance_id().to_owned(), json!({"deny": [action]})))
        .collect();
    lab.trouble(
        serde_json::from_value::<TroubleSettings>(json!({"iam": {"callers": callers}})).expect("settings"),
    );
    std::thread::scope(|scope| {
        for (worker, action) in workers.iter().zip(&actions) {
            scope.spawn(move || lives_without(worker, action));
        }
    });
    for worker in workers {
        worker.daemon.stop(Duration::from_secs(15)).expect("the daemon ran on");
    }
}

/// Demand beyond the first ENI, and back: every kind of call is tried.
fn lives_without(worker: &Worker, action: &str) {
    let node = &worker.node;
    let first = worker.add_pods(&format!("{}-first", node.name()), 1).expect("a pod from the pool");
    let more: Vec<_> = std::thread::scope(|scope| {
        let adds: Vec<_> =
            (0..6).map(|n| scope.spawn(move || patient(node, &format!("{}-{n}", node.name())))).collect();
        adds.into_iter().filter_map(|add| add.join().expect("a thread").ok()).collect()
    });
    delete(&more).expect("DEL needs no permission");
    if NEEDED.contains(&action) {
        wait_for(PATIENCE, action, || {
            let log = worker.daemon.log_tail_of(600);
            let named = log.contains("is denied") && log.contains(&format!("lacks ec2:{action}"));
            Ok(named.then_some(()))
        })
        .with_context(|| worker.daemon.log_tail_of(60))
        .expect("the missing action is told with its fix");
    }
    first[0].check().expect("the running pod is whole");
    first[0].ping(node.primary().expect("an address").address).expect("the running pod talks");
    delete(&first).expect("DEL");
}

/// An ADD that gives up soon.
fn patient(node: &vpcsim::node::Node, name: &str) -> anyhow::Result<podwire_e2e::pod::Pod> {
    use podwire_e2e::{pod, runtime};
    let netns = node.add_netns(name)?;
    let mut conf = runtime::netconf(node, "1.0.0", None)?;
    conf["podwireAddTimeoutMs"] = json!(2500);
    let attachment = pod::attachment(node, name);
    let ran = runtime::execute(node, "ADD", &attachment, &conf)?;
    let result = ran.result()?;
    let address =
        result["ips"][0]["address"].as_str().unwrap_or_default().split('/').next().unwrap_or_default();
    let address = address.parse()?;
    Ok(pod::Pod { node: node.clone(), netns, attachment, address, result, took: ran.took })
}
