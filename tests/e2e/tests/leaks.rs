//! ENIs that dead nodes left behind (pain-points C36 to C38), and what an operator can do about them. Real daemons, HTTP.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Setting, wait_for};
use podwire_e2e::scene::{Mode, Worker, delete, holdings};
use serde_json::{Value, json};
use vpcsim::api::wall_clock;
use vpcsim::cloud::{AttachInterface, CreateInterface, EniId, InstanceId};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;
use vpcsim::trouble::TroubleSettings;

const PATIENCE: Duration = Duration::from_secs(40);
/// Between the two looks that prove a leak; the least that the setting allows.
const PROOF: Setting<'static> = ("PODWIRE_LEAK_PROOF_S", "10");
const CLUSTER: Setting<'static> = ("CLUSTER_NAME", "ours");
const DEAD: &str = "i-0000000000000dead";

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, name: &str, settings: &[Setting<'_>]) -> Worker {
    let spec = NodeSpec::new(name).of_type("t3.medium");
    let all: Vec<Setting<'_>> = [CLUSTER, PROOF].into_iter().chain(settings.iter().copied()).collect();
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &all)
        .expect("a ready node")
}

fn trouble(lab: &Lab, settings: Value) {
    lab.trouble(serde_json::from_value::<TroubleSettings>(settings).expect("trouble settings"));
}

fn calls(lab: &Lab, action: &str) -> u64 {
    lab.with_cloud(|cloud| cloud.stats().actions.get(action).map_or(0, |count| count.calls))
}

/// A node gives its second ENI back and is killed between the detach and the delete, with its instance. Gives the ENI.
fn dies_while_it_gives_back(lab: &Lab, name: &str) -> EniId {
    let worker = worker(lab, name, &[("IP_COOLDOWN_PERIOD", "1")]);
    let pods = worker.add_pods(&format!("{name}-pod"), 8).expect("pods on two ENIs");
    let instance = worker.instance();
    let second = holdings(lab, &instance).iter().find(|eni| eni.device > 0).map(|eni| eni.eni.clone());
    let second = EniId::from(second.expect("a second ENI").as_str());
    let denied = json!({"deny": ["DeleteNetworkInterface"]});
    trouble(lab, json!({"iam": {"callers": {instance.as_str(): denied}}}));
    delete(&pods).expect("DEL");
    wait_for(PATIENCE, "the second ENI to hang in the air", || {
        let hangs = |cloud: &mut vpcsim::cloud::Cloud| {
            cloud.interface(&second).is_some_and(|eni| eni.attachment.is_none())
        };
        Ok(lab.with_cloud(hangs).then_some(()))
    })
    .expect("detached");
    worker.daemon.kill().expect("killed");
    lab.remove_node(name).expect("terminated");
    trouble(lab, json!({}));
    second
}

/// An ENI that hangs in the air, with the tags and the description of a node's.
fn detached(lab: &Lab, tags: &[(&str, &str)]) -> EniId {
    let owner = tags.iter().find(|(key, _)| key.ends_with("instance_id")).map_or("", |(_, owner)| owner);
    let description = format!("aws-K8S-{owner}");
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let subnet = lab.with_cloud(|cloud| {
        cloud.subnets_seen(vpcsim::cloud::Delay::NONE).next().expect("a subnet").id.clone()
    });
    let request = CreateInterface { description, tags, ..CreateInterface::new(&subnet) };
    lab.with_cloud(|cloud| cloud.create_network_interface(wall_clock(), &request).expect("created").id)
}

fn of_node<'a>(owner: &'a str, cluster: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("node.k8s.amazonaws.com/instance_id", owner), ("cluster.k8s.amazonaws.com/name", cluster)]
}

/// `podwire leaks` on a node: exit code, and what became of each ENI.
fn leaks(node: &Node, args: &[&str]) -> (i32, BTreeMap<String, String>) {
    let binary = Binaries::find().expect("binaries").podwire();
    let output = node.command(binary).args(["leaks", "--json"]).args(args).output().expect("executed");
    assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let fates = told["enis"].as_array().expect("a list").iter().map(|e| (text(&e["eni"]), text(&e["fate"])));
    (output.status.code().expect("no signal"), fates.collect())
}

fn all_enis(lab: &Lab) -> Vec<String> {
    lab.with_cloud(|cloud| {
        cloud.enis_seen(vpcsim::cloud::Delay::NONE).map(|eni| format!("{eni:?}")).collect()
    })
}

/// C36, C38: a node dies between detach and delete. Another node finds what it left, proves it by a second look, changes
/// nothing unasked (dry run), and collects exactly that when it is ordered to. What is another cluster's, of a living
/// node, not to be managed, in use, not a node's at all, or seen only once stays.
#[test]
fn c38_only_what_is_proven_to_be_left_behind_is_collected() {
    let lab = lab("c38");
    let left = dies_while_it_gives_back(&lab, "n1");
    let alive = lab.add_node(NodeSpec::new("n9").of_type("t3.medium")).expect("a node without a daemon");
    let mut others = BTreeMap::from([
        (detached(&lab, &of_node(DEAD, "theirs")), "another cluster's"),
        (detached(&lab, &of_node(DEAD, "")), "nobody's cluster"),
        (detached(&lab, &[("node.k8s.amazonaws.com/instance_id", DEAD)]), "without a cluster"),
        (detached(&lab, &[]), "not a node's"),
    ]);
    let living = detached(&lab, &of_node(alive.instance_id(), "ours"));
    let unmanaged = [of_node(DEAD, "ours"), vec![("node.k8s.amazonaws.com/no_manage", "true")]].concat();
    let unmanaged = detached(&lab, &unmanaged);
    let in_use = detached(&lab, &of_node(DEAD, "ours"));
    let instance = InstanceId::from(alive.instance_id());
    let attach = AttachInterface { eni: in_use.clone(), instance, device: 1, card: None };
    lab.with_cloud(|cloud| cloud.attach_network_interface(wall_clock(), &attach)).expect("attached");
    others.insert(in_use, "in use");

    let worker = worker(&lab, "n2", &[("PODWIRE_LEAK_DRY_RUN", "true")]);
    wait_for(PATIENCE, "the new node to have its reserve", || {
        Ok(holdings(&lab, &worker.instance()).iter().any(|eni| eni.addresses > 0).then_some(()))
    })
    .expect("assigned");
    let before = all_enis(&lab);
    let told = |fate: &str| {
        BTreeMap::from([
            (left.to_string(), fate.to_owned()),
            (living.to_string(), "kept".to_owned()),
            (unmanaged.to_string(), "kept".to_owned()),
        ])
    };
    assert_eq!(leaks(&worker.node, &[]), (0, told("suspected")), "others are not even listed: {others:?}");
    assert_eq!(
        leaks(&worker.node, &["--delete"]),
        (0, told("suspected")),
        "seen once, an order proves nothing"
    );
    wait_for(PATIENCE, "the proof", || {
        // Each look costs calls of EC2, and the daemon's budget is made for people.
        std::thread::sleep(Duration::from_secs(1));
        Ok((leaks(&worker.node, &[]) == (0, told("proven"))).then_some(()))
    })
    .expect("proven");
    assert!(worker.daemon.log_tail_of(200).contains("would be deleted (dry run)"), "it is told");
    assert_eq!(all_enis(&lab), before, "a dry run changed something");

    let young = detached(&lab, &of_node(DEAD, "ours"));
    let deletes = calls(&lab, "DeleteNetworkInterface");
    let (code, fates) = leaks(&worker.node, &["--delete"]);
    let expected: BTreeMap<String, String> =
        told("deleted").into_iter().chain([(young.to_string(), "suspected".to_owned())]).collect();
    assert_eq!((code, fates), (0, expected));
    assert_eq!(calls(&lab, "DeleteNetworkInterface"), deletes + 1);
    let gone = format!("{left:?}");
    let kept: Vec<String> = before.into_iter().filter(|eni| !eni.contains(&gone)).collect();
    let now: Vec<String> =
        all_enis(&lab).into_iter().filter(|e| !e.contains(&format!("{young:?}"))).collect();
    assert_eq!(now, kept, "something else was changed");
}

/// C36: by default a daemon collects by itself what it has seen twice.
#[test]
fn c36_daemon_collects_what_a_dead_node_left_by_itself() {
    let lab = lab("c36");
    let left = dies_while_it_gives_back(&lab, "n1");
    let worker = worker(&lab, "n2", &[]);
    let exists = |lab: &Lab| lab.with_cloud(|cloud| cloud.interface(&left).is_some());
    assert_eq!(leaks(&worker.node, &[]).1[left.as_str()], "suspected");
    assert!(exists(&lab));
    wait_for(PATIENCE, "the daemon to collect it", || Ok((!exists(&lab)).then_some(()))).expect("collected");
    assert_eq!(leaks(&worker.node, &[]).1, BTreeMap::new());
    let (_, table) = podwire(&worker.node, &["leaks"]);
    assert!(table.contains("detached  none"), "{table}");
}

fn podwire(node: &Node, args: &[&str]) -> (i32, String) {
    let binary = Binaries::find().expect("binaries").podwire();
    let output = node.command(binary).args(args).output().expect("executed");
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// C36: an instance that is about to end (Spot) detaches nothing any more, so that nothing can be left behind.
#[test]
fn c36_ending_instance_starts_no_detach() {
    let lab = lab("c36-end");
    let worker = worker(&lab, "n1", &[("IP_COOLDOWN_PERIOD", "1")]);
    let pods = worker.add_pods("pod", 8).expect("pods on two ENIs");
    let notice = r#"{"action": "terminate", "time": "2099-01-01T00:00:00Z"}"#;
    trouble(&lab, json!({"imds": {"leaves": {"spot/instance-action": notice}}}));
    wait_for(PATIENCE, "the notice to be read", || {
        Ok(worker.daemon.log_tail_of(200).contains("about to end").then_some(()))
    })
    .expect("told");
    delete(&pods).expect("DEL");
    let began = Instant::now();
    // Idle ENIs go within a few seconds here otherwise (`trouble.rs`, `idle_enis_are_given_back`).
    while began.elapsed() < Duration::from_secs(15) {
        assert_eq!(calls(&lab, "DetachNetworkInterface"), 0, "after {:?}", began.elapsed());
        assert_eq!(holdings(&lab, &worker.instance()).len(), 2);
        std::thread::sleep(Duration::from_millis(250));
    }
    // An instance that hibernated comes back with the same processes and no notice.
    trouble(&lab, json!({"imds": {"leaves": {}}}));
    wait_for(Duration::from_secs(60), "the idle ENI to be given back", || {
        Ok((lab.with_cloud(|cloud| cloud.stats().enis) == 1).then_some(()))
    })
    .expect("given back");
    worker.daemon.kill().expect("killed");
    lab.remove_node("n1").expect("terminated");
    nothing_remains(&lab);
}

/// C37: the last node of a cluster goes: whatever it carries goes with it, because EC2 was told so right after the attach.
#[test]
fn c37_last_node_leaves_nothing() {
    let lab = lab("c37");
    let worker = worker(&lab, "n1", &[("IP_COOLDOWN_PERIOD", "1")]);
    worker.add_pods("pod", 11).expect("pods on three ENIs");
    let instance = worker.instance();
    wait_for(PATIENCE, "EC2 to know that the ENIs go with the instance", || {
        let goes = |lab: &Lab| {
            lab.with_cloud(|cloud| {
                let enis = cloud.interfaces_of(&instance);
                let told = |a: &vpcsim::cloud::Attachment| a.delete_on_termination;
                enis.len() >= 3 && enis.iter().all(|eni| eni.attachment.as_ref().is_some_and(told))
            })
        };
        Ok(goes(&lab).then_some(()))
    })
    .expect("told");
    worker.daemon.kill().expect("killed");
    lab.remove_node("n1").expect("terminated");
    nothing_remains(&lab);
}

fn nothing_remains(lab: &Lab) {
    wait_for(PATIENCE, "every ENI to go", || {
        Ok((lab.with_cloud(|cloud| cloud.stats().enis) == 0).then_some(()))
    })
    .expect("nothing is left");
}

/// C34: without ec2:DescribeInstances nobody can tell whether an owner lives. It is named, and nothing is deleted.
#[test]
fn c34_owners_that_cannot_be_asked_for_are_no_proof() {
    let lab = lab("c34-leaks");
    let left = detached(&lab, &of_node(DEAD, "ours"));
    let worker = worker(&lab, "n1", &[]);
    trouble(&lab, json!({"iam": {"policy": {"deny": ["DescribeInstances"]}}}));
    let binary = Binaries::find().expect("binaries").podwire();
    let output = worker.node.command(binary).args(["leaks", "--delete"]).output().expect("executed");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("ec2:DescribeInstances") && told.contains("is denied"), "{told}");
    assert!(lab.with_cloud(|cloud| cloud.interface(&left).is_some()));
    worker.add_pods("pod", 2).expect("the daemon serves");
}
