//! Instances whose type our table does not know (pain-points C30), and ENIs of other kinds on them (C39). Real daemon, real
//! plugin, HTTP.

use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, wait_for};
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker, delete, holdings};
use serde_json::json;
use vpcsim::api::wall_clock;
use vpcsim::cloud::{AttachInterface, CreateInterface, EniId, InstanceId, InterfaceType, SubnetId};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::trouble::TroubleSettings;

const PATIENCE: Duration = Duration::from_secs(60);

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn calls(lab: &Lab, action: &str) -> u64 {
    lab.with_cloud(|cloud| cloud.stats().actions.get(action).map_or(0, |count| count.calls))
}

/// C30: the instance's type is newer than our table. EC2 is asked for its limits, once, and they are kept to.
#[test]
fn c30_limits_of_an_unknown_type_are_asked_for_once() {
    let lab = lab("c30-newer");
    // 2 ENIs with 3 secondary addresses each, as only EC2 knows.
    let spec = NodeSpec::new("n1").of_type("zz9.large");
    let binaries = Binaries::find().expect("binaries");
    let worker = Worker::start(&lab, &binaries, spec, Mode::Secondary, &[]).expect("a ready node");
    assert_eq!(calls(&lab, "DescribeInstanceTypes"), 1);
    let pods = worker.add_pods("pod", 6).expect("pods on both ENIs");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    assert_eq!(calls(&lab, "CreateNetworkInterface"), 1);
    let refused =
        lab.with_cloud(|cloud| cloud.stats().actions.values().map(|a| a.refused.len()).sum::<usize>());
    assert_eq!(refused, 0, "no limit was run into");
}

/// C30, C34: the same where EC2 may not be asked: the daemon starts with a cautious guess and learns the limits from EC2's
/// refusals; it runs into none of them twice in a row.
#[test]
fn c30_limits_of_an_unknown_type_are_learned_from_refusals() {
    let lab = lab("c30-guess");
    let denied = json!({"iam": {"policy": {"deny": ["DescribeInstanceTypes"]}}});
    lab.trouble(serde_json::from_value::<TroubleSettings>(denied).expect("trouble settings"));
    let spec = NodeSpec::new("n1").of_type("zz9.large");
    let binaries = Binaries::find().expect("binaries");
    let worker = Worker::start(&lab, &binaries, spec, Mode::Secondary, &[]).expect("a ready node");
    assert!(worker.daemon.log_tail_of(200).contains("allow ec2:DescribeInstanceTypes"), "it is told");
    let pods = worker.add_pods("pod", 5).expect("pods on both ENIs");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    let counts = || lab.with_cloud(|cloud| format!("{:?}", cloud.stats().actions));
    assert!(calls(&lab, "CreateNetworkInterface") <= 3, "{}", counts());
    assert!(calls(&lab, "AssignPrivateIpAddresses") <= 8, "{}", counts());
}

/// C39: ENIs of other kinds that somebody attached: an EFA without addresses, one on another network card, one with other
/// security groups that is not to be managed. They take places and are never given to pods, changed or deleted.
#[test]
fn c39_enis_of_other_kinds_are_left_alone() {
    let lab = lab("c39-kinds");
    let spec = NodeSpec::new("n1").of_type("c6in.32xlarge");
    let node = lab.add_node(spec).expect("a node with two network cards");
    let instance = InstanceId::from(node.instance_id());
    let subnet = SubnetId::from(holdings(&lab, &instance)[0].subnet.as_str());
    let tags = |tags: &[(&str, &str)]| tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let unmanaged = tags(&[("node.k8s.amazonaws.com/no_manage", "true")]);
    let groups = lab.with_cloud(|cloud| cloud.groups().map(|group| group.id.clone()).collect::<Vec<_>>());
    let wanted = vpcsim::cloud::Wanted { count: 2, ..Default::default() };
    let plain = CreateInterface::new(&subnet);
    let foreign: Vec<EniId> = [
        (CreateInterface { kind: InterfaceType::EfaOnly, ..plain.clone() }, 1, None),
        (CreateInterface { wanted: wanted.clone(), ..plain.clone() }, 1, Some(1)),
        (CreateInterface { tags: unmanaged, wanted, groups, ..plain }, 2, None),
    ]
    .into_iter()
    .map(|(request, device, card)| {
        lab.with_cloud(|cloud| {
            let eni = cloud.create_network_interface(wall_clock(), &request).expect("created").id;
            let attach = AttachInterface { eni: eni.clone(), instance: instance.clone(), device, card };
            cloud.attach_network_interface(wall_clock(), &attach).expect("attached");
            eni
        })
    })
    .collect();
    let state = || {
        lab.with_cloud(|cloud| {
            foreign.iter().map(|id| format!("{:?}", cloud.interface(id))).collect::<Vec<_>>()
        })
    };
    let mut daemon =
        Daemon::start(&node, &Binaries::find().expect("binaries"), &[("IP_COOLDOWN_PERIOD", "1")])
            .expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    wait_for(PATIENCE, "the attachments", || {
        Ok(state().iter().all(|eni| eni.contains("status: Attached")).then_some(()))
    })
    .expect("attached");
    let before = state();
    let worker = Worker { node, daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
    let pods = worker.add_pods("pod", 55).expect("pods on two ENIs of ours");
    for pod in &pods {
        let (eni, _) = proof::device_of(&lab, pod).expect("assigned");
        assert!(!foreign.iter().any(|id| id.as_str() == eni), "{} is on a foreign ENI", pod.address);
    }
    delete(&pods).expect("DEL");
    wait_for(PATIENCE, "our second ENI to be given back", || {
        Ok((holdings(&lab, &worker.instance()).len() == 1 + foreign.len()).then_some(()))
    })
    .expect("given back");
    assert_eq!(state(), before, "a foreign ENI was changed");
}
