//! EC2 as it really behaves: late, partial, full, wrong (pain-points §3 C). Real daemon, real plugin, HTTP.

use std::time::{Duration, Instant};

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, Setting, wait_for};
use podwire_e2e::pod::Pod;
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker, delete, holdings};
use serde_json::json;
use vpcsim::api::wall_clock;
use vpcsim::cloud::{AttachInterface, CreateInterface, Delay, EniId, SubnetId};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::trouble::TroubleSettings;

const PATIENCE: Duration = Duration::from_secs(40);

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, name: &str, mode: Mode, settings: &[Setting<'_>]) -> Worker {
    let spec = NodeSpec::new(name).of_type("t3.medium");
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, mode, settings).expect("a ready node")
}

fn trouble(lab: &Lab, settings: serde_json::Value) {
    lab.trouble(serde_json::from_value::<TroubleSettings>(settings).expect("trouble settings"));
}

fn calls(lab: &Lab, action: &str) -> u64 {
    lab.with_cloud(|cloud| cloud.stats().actions.get(action).map_or(0, |count| count.calls))
}

fn subnet_of(lab: &Lab, worker: &Worker) -> SubnetId {
    SubnetId::from(holdings(lab, &worker.instance())[0].subnet.as_str())
}

/// C24: a new ENI is unknown to EC2 for seconds. Attach is tried again, nothing is created twice, tags came with Create.
#[test]
fn c24_new_eni_that_is_not_found_yet_is_attached_later() {
    let lab = lab("c24");
    let settings = [("CLUSTER_NAME", "mine"), ("ADDITIONAL_ENI_TAGS", r#"{"team":"net"}"#)];
    let worker = worker(&lab, "n1", Mode::Secondary, &settings);
    trouble(&lab, json!({"new_id_lag": {"fixed": {"ms": 2500}}}));
    let pods = worker.add_pods("pod", 6).expect("pods on two ENIs");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    assert_eq!(calls(&lab, "CreateNetworkInterface"), 1);
    assert_eq!(calls(&lab, "CreateTags"), 0, "tags are part of the creation");
    let instance = worker.instance();
    lab.with_cloud(|cloud| {
        let enis = cloud.interfaces_of(&instance);
        let new =
            enis.iter().find(|e| e.attachment.as_ref().is_some_and(|a| a.device == 1)).expect("a second ENI");
        let tag = |key: &str| new.tags.get(key).map(String::as_str);
        assert_eq!(tag("node.k8s.amazonaws.com/instance_id"), Some(instance.as_str()));
        assert_eq!(tag("cluster.k8s.amazonaws.com/name"), Some("mine"));
        assert_eq!(tag("eks:eni:owner"), Some("amazon-vpc-cni"));
        assert_eq!(tag("team"), Some("net"));
        assert!(tag("node.k8s.amazonaws.com/createdAt").is_some_and(|at| at.contains('T')));
        assert_eq!(new.description, format!("aws-K8S-{instance}"));
    });
}

/// C25: EC2 assigned, but its answer is lost. What it gave is found and used; nothing is asked for twice.
#[test]
fn c25_assignment_whose_answer_is_lost_is_found_and_used() {
    let lab = lab("c25");
    let worker = worker(&lab, "n1", Mode::Secondary, &[]);
    trouble(
        &lab,
        json!({"lost_replies": [{"action": "AssignPrivateIpAddresses", "done": true, "count": 1}]}),
    );
    let before = calls(&lab, "AssignPrivateIpAddresses");
    let pods = worker.add_pods("pod", 3).expect("pods");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    assert!(calls(&lab, "AssignPrivateIpAddresses") - before <= 2);
    assert!(holdings(&lab, &worker.instance())[0].addresses <= 5, "nothing beyond the ENI's five places");
}

/// C26: the device of an attached ENI appears seconds later. Its addresses wait for it, then work.
#[test]
fn c26_late_device_delays_its_addresses_and_no_others() {
    let mut spec = LabSpec::instant(&format!("e2e-c26-{}", std::process::id()));
    spec.cloud.timings.attach = Delay::Fixed { ms: 3_000 };
    let lab = Lab::start(spec).expect("a simulated VPC");
    let worker = worker(&lab, "n1", Mode::Secondary, &[]);
    let began = Instant::now();
    let pods = worker.add_pods("pod", 7).expect("pods on two ENIs");
    let late: Vec<&Pod> =
        pods.iter().filter(|p| proof::device_of(&lab, p).is_ok_and(|(_, d)| d > 0)).collect();
    assert!(!late.is_empty() && began.elapsed() >= Duration::from_secs(3));
    // An ADD begins up to two seconds after the call that attaches the ENI: its namespace has to be made first.
    assert!(late.iter().all(|pod| pod.took >= Duration::from_secs(1)), "given before its device was there");
    assert!(pods.iter().any(|pod| pod.took < Duration::from_secs(1)), "others did not wait for it");
    // To another node: what stays on this one leaves by no ENI.
    let other = self::worker(&lab, "n2", Mode::Secondary, &[]);
    let far = other.add_pods("far", 1).expect("a pod elsewhere");
    proof::leaves_by_its_eni(&lab, late[0], &far[0]).expect("the late ENI carries packets");
}

/// C28: every daemon starts anew at once (rollout). None of them asks EC2 for anything.
#[test]
fn c28_rollout_of_daemons_costs_no_call() {
    let lab = lab("c28");
    let mut workers = [worker(&lab, "n1", Mode::Secondary, &[]), worker(&lab, "n2", Mode::Prefix, &[])];
    let pods: Vec<Pod> = workers.iter().flat_map(|w| w.add_pods(w.node.name(), 3).expect("pods")).collect();
    for worker in &workers {
        let settled = |lab: &Lab| {
            let enis = holdings(lab, &worker.instance());
            let assigned = enis.iter().map(|e| e.addresses + 16 * e.prefixes).sum::<usize>();
            assigned >= 4
        };
        wait_for(PATIENCE, "pods and reserve", || Ok(settled(&lab).then_some(()))).expect("assigned");
    }
    lab.with_cloud(|cloud| cloud.forget_calls());
    for worker in &mut workers {
        let old = std::mem::replace(
            &mut worker.daemon,
            Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[worker.mode.setting()])
                .expect("a daemon"),
        );
        old.kill().expect("killed");
    }
    for worker in &mut workers {
        worker.daemon.wait_ready(READY).expect("ready");
        wait_for(PATIENCE, "the new daemon to have looked", || {
            Ok(worker.daemon.log_tail_of(400).contains("ENIs are seen").then_some(()))
        })
        .expect("it looked");
    }
    let stats = lab.with_cloud(|cloud| cloud.stats());
    assert_eq!(stats.mutating_calls + stats.reading_calls, 0, "{:?}", stats.actions);
    pods.iter().try_for_each(Pod::check).expect("pods as they were");
}

/// C29: no /28 left. Single addresses at once, on the same ENI; no pause of minutes.
#[test]
fn c29_fragmented_subnet_is_used_by_single_addresses_at_once() {
    let lab = lab("c29");
    let worker = worker(&lab, "n1", Mode::Prefix, &[("IP_COOLDOWN_PERIOD", "1")]);
    let first = worker.add_pods("first", 16).expect("pods of the first prefix");
    let subnet = subnet_of(&lab, &worker);
    lab.with_cloud(|cloud| cloud.fragment(wall_clock(), &subnet)).expect("fragmented");
    let began = Instant::now();
    let more = worker.add_pods("more", 3).expect("pods by single addresses");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    proof::addresses_are_true(&lab, &more).expect("EC2 agrees");
    let held = &holdings(&lab, &worker.instance())[0];
    assert!(held.prefixes == 1 && held.addresses >= 3, "{held:?}");
    first[0].ping(more[0].address).expect("pods of both kinds talk");
    // EC2 takes one kind in a call: what is held of both kinds goes back all the same.
    for pod in first.iter().chain(&more) {
        pod.del().expect("deleted");
    }
    wait_for(PATIENCE, "nothing but the reserve to be left", || {
        let held = &holdings(&lab, &worker.instance())[0];
        Ok((held.prefixes + held.addresses <= 2).then_some(()))
    })
    .expect("given back");
}

/// C29: a full subnet serves again within seconds of somebody giving back.
#[test]
fn c29_full_subnet_recovers_in_seconds() {
    let mut spec = LabSpec::instant(&format!("e2e-c29b-{}", std::process::id()));
    spec.cloud.subnets.truncate(1);
    spec.cloud.subnets[0].cidr = "10.0.0.0/27".parse().expect("a CIDR");
    let lab = Lab::start(spec).expect("a simulated VPC");
    let worker = worker(&lab, "n1", Mode::Secondary, &[("PODWIRE_SUBNET_FLOOR", "0")]);
    let subnet = subnet_of(&lab, &worker);
    let free: Vec<_> = lab.with_cloud(|cloud| {
        let space = &cloud.space(&subnet).expect("the subnet").clone();
        space.cidr().iter().filter(|a| space.check(*a).is_ok()).collect()
    });
    lab.with_cloud(|cloud| cloud.occupy(wall_clock(), &subnet, &free)).expect("occupied");
    let served = std::thread::scope(|scope| {
        let adding = scope.spawn(|| worker.add_pods("pod", 3));
        wait_for(PATIENCE, "the full subnet to be noticed", || {
            Ok(worker.daemon.log_tail_of(400).contains("has no free address").then_some(()))
        })
        .expect("told");
        lab.with_cloud(|cloud| cloud.vacate(wall_clock(), &subnet));
        let began = Instant::now();
        let pods = adding.join().expect("a thread").expect("pods once there is space");
        (pods, began.elapsed())
    });
    assert!(served.1 < Duration::from_secs(20), "{:?}", served.1);
    proof::addresses_are_true(&lab, &served.0).expect("EC2 agrees");
}

/// C30: EC2 knows a smaller limit than our table. It is learned; nothing is created and deleted in a loop.
#[test]
fn c30_limit_is_learned_from_the_error() {
    let lab = lab("c30");
    let worker = worker(&lab, "n1", Mode::Secondary, &[]);
    let limit = json!({"action": "AttachNetworkInterface", "code": "AttachmentLimitExceeded"});
    trouble(&lab, json!({"inject": [limit]}));
    let served = std::thread::scope(|scope| {
        let adds: Vec<_> = (0..7)
            .map(|n| (n, &worker))
            .map(|(n, worker)| scope.spawn(move || short_add(worker, n)))
            .collect();
        adds.into_iter().map(|add| add.join().expect("a thread")).filter(|served| *served).count()
    });
    assert!((4..=5).contains(&served), "{served} pods on the only ENI");
    assert!(calls(&lab, "CreateNetworkInterface") <= 2, "created again and again");
    wait_for(PATIENCE, "the ENI that does not fit to be deleted", || {
        Ok((lab.with_cloud(|cloud| cloud.stats().enis) == 1).then_some(()))
    })
    .expect("nothing leaks");
}

fn short_add(worker: &Worker, number: usize) -> bool {
    use podwire_e2e::{pod, runtime};
    let name = format!("pod-{number}");
    worker.node.add_netns(&name).expect("a namespace");
    let mut conf = runtime::netconf(&worker.node, "1.0.0", None).expect("a conflist");
    conf["podwireAddTimeoutMs"] = json!(5000);
    let ran = runtime::execute(&worker.node, "ADD", &pod::attachment(&worker.node, &name), &conf)
        .expect("executed");
    ran.code == Some(0)
}

/// C32: the endpoint is a black hole for long (deadlines shortened by settings), calls are pending and run into it. Pods
/// come and go from the pool all the while, and growth goes on by itself afterwards.
#[test]
fn c32_long_black_hole_stops_nothing_that_the_pool_can_serve() {
    let lab = lab("c32");
    let settings = [("PODWIRE_EC2_TIMEOUT_MS", "300"), ("IP_COOLDOWN_PERIOD", "1")];
    let spec = NodeSpec::new("n1").of_type("m5.large");
    let worker = Worker::start(&lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &settings)
        .expect("a ready node");
    let pods = worker.add_pods("pod", 4).expect("pods");
    trouble(&lab, json!({"black_hole": ["*"]}));
    // Takes the reserve, so that growth runs into the hole.
    let mut held = pods;
    held.extend(worker.add_pods("extra", 1).expect("ADD without EC2"));
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(15) {
        let old = held.remove(0);
        delete(std::slice::from_ref(&old)).expect("DEL without EC2");
        std::thread::sleep(Duration::from_millis(1_100));
        let added = Instant::now();
        held.extend(worker.add_pods(&format!("round-{rounds}"), 1).expect("ADD without EC2"));
        assert!(added.elapsed() < Duration::from_secs(3), "round {rounds}: {:?}", added.elapsed());
        rounds += 1;
    }
    let swallowed = lab
        .with_cloud(|cloud| cloud.calls().filter(|c| c.outcome == vpcsim::cloud::Outcome::Swallowed).count());
    assert!(swallowed >= 2, "nothing ran into the hole, so nothing is proven");
    proof::addresses_are_true(&lab, &held).expect("EC2 agrees");
    trouble(&lab, json!({}));
    let more = worker.add_pods("more", 12).expect("growth goes on without a restart");
    proof::addresses_are_true(&lab, &more).expect("EC2 agrees");
}

/// C35: EC2's clock and the node's are an hour apart, either way. Requests are signed by EC2's clock.
#[test]
fn c35_wrong_clock_costs_one_refusal() {
    let lab = lab("c35");
    for (name, ahead) in [("n1", 3_600), ("n2", -3_600)] {
        trouble(&lab, json!({"clock_ahead_s": ahead}));
        lab.with_cloud(|cloud| cloud.forget_calls());
        let worker = worker(&lab, name, Mode::Secondary, &[]);
        let began = Instant::now();
        worker.add_pods("pod", 6).expect("pods on two ENIs");
        assert!(began.elapsed() < Duration::from_secs(10), "{ahead}: {:?}", began.elapsed());
        assert!(worker.daemon.log_tail_of(400).contains("clock is wrong"), "{ahead}: it is told");
    }
}

/// C39: an ENI that somebody else attached: by tag not ours, EFA-only, of another instance's making. Never given to pods,
/// never changed, and no crash; nor is an ENI that hangs in the air with another's tag.
#[test]
fn c39_foreign_enis_are_left_alone() {
    let lab = lab("c39");
    let node = lab.add_node(NodeSpec::new("n1").of_type("m5.xlarge")).expect("a node");
    let instance = vpcsim::cloud::InstanceId::from(node.instance_id());
    let subnet = SubnetId::from(holdings(&lab, &instance)[0].subnet.as_str());
    let foreign: Vec<EniId> = [
        vec![
            ("node.k8s.amazonaws.com/no_manage", "true"),
            ("node.k8s.amazonaws.com/instance_id", instance.as_str()),
        ],
        vec![],
        vec![("node.k8s.amazonaws.com/instance_id", "i-0000000000000dead")],
    ]
    .into_iter()
    .zip([Some(1), Some(2), None])
    .map(|(tags, device)| foreign_eni(&lab, &subnet, &instance, &tags, device))
    .collect();
    let state = || {
        lab.with_cloud(|cloud| {
            foreign.iter().map(|id| format!("{:?}", cloud.interface(id))).collect::<Vec<_>>()
        })
    };
    // The incumbent's default would take the ENI without tags for ours.
    let settings = [("MANAGE_UNTAGGED_ENI", "false")];
    let mut daemon = Daemon::start(&node, &Binaries::find().expect("binaries"), &settings).expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    let before = state();
    let worker = Worker { node, daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
    let pods = worker.add_pods("pod", 20).expect("pods on two ENIs of ours");
    for pod in &pods {
        let (eni, _) = proof::device_of(&lab, pod).expect("assigned");
        assert!(!foreign.iter().any(|id| id.as_str() == eni), "{} is on a foreign ENI", pod.address);
    }
    delete(&pods).expect("DEL");
    assert_eq!(state(), before, "a foreign ENI was changed");
}

fn foreign_eni(
    lab: &Lab,
    subnet: &SubnetId,
    instance: &vpcsim::cloud::InstanceId,
    tags: &[(&str, &str)],
    device: Option<u32>,
) -> EniId {
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let wanted = vpcsim::cloud::Wanted { count: 3, ..Default::default() };
    let request = CreateInterface { tags, wanted, ..CreateInterface::new(subnet) };
    lab.with_cloud(|cloud| {
        let eni = cloud.create_network_interface(wall_clock(), &request).expect("created").id;
        if let Some(device) = device {
            let attach = AttachInterface { eni: eni.clone(), instance: instance.clone(), device, card: None };
            cloud.attach_network_interface(wall_clock(), &attach).expect("attached");
        }
        eni
    })
}

/// C40: pods come and go while addresses are given back. Whoever is given an address keeps it.
#[test]
fn c40_release_races_no_allocation() {
    let lab = lab("c40");
    let settings = [("IP_COOLDOWN_PERIOD", "1"), ("WARM_IP_TARGET", "1")];
    let worker = worker(&lab, "n1", Mode::Secondary, &settings);
    let mut held: Vec<Pod> = Vec::new();
    for round in 0..6 {
        let pods = worker.add_pods(&format!("round-{round}"), 4).expect("pods");
        held.extend(pods);
        proof::addresses_are_true(&lab, &held).expect("EC2 agrees");
        let going: Vec<Pod> = held.drain(..3.min(held.len())).collect();
        delete(&going).expect("DEL");
        std::thread::sleep(Duration::from_millis(if round % 2 == 0 { 1_300 } else { 100 }));
    }
    assert!(calls(&lab, "UnassignPrivateIpAddresses") >= 1, "nothing was given back, so nothing is proven");
    proof::addresses_are_true(&lab, &held).expect("EC2 agrees");
    held.iter().try_for_each(Pod::check).expect("CHECK");
}
