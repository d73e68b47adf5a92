//! Several subnets and security groups: where new ENIs go and what guards them, over real HTTP (pain-points C29, C34;
//! incumbent-behaviour §5.8).

use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, wait_for};
use podwire_e2e::pod;
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker, holdings};
use serde_json::json;
use vpcsim::api::wall_clock;
use vpcsim::cloud::{Attribute, GroupSpec, InstanceId, SubnetSpec, Tracking};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::trouble::TroubleSettings;

/// A zone with a subnet for nodes, and others of which one is meant for pods.
fn lab(test: &str, home: &str) -> Lab {
    let mut spec = LabSpec::instant(&format!("e2e-{test}-{}", std::process::id()));
    let subnet = |cidr: &str, tags: &[(&str, &str)]| SubnetSpec {
        cidr: cidr.parse().expect("a CIDR"),
        tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..SubnetSpec::default()
    };
    let role = "kubernetes.io/role/cni";
    spec.cloud.subnets = vec![
        subnet(home, &[]),
        subnet("10.0.1.0/24", &[(role, "1")]),
        subnet("10.0.4.0/22", &[(role, "0")]),
        subnet("10.0.8.0/22", &[(role, "1"), ("cni.networking.k8s.aws/cluster/theirs", "shared")]),
        subnet("10.0.16.0/22", &[]),
    ];
    spec.cloud.groups = vec![GroupSpec { name: "later".to_owned(), ..GroupSpec::default() }];
    Lab::start(spec).expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, home: &str) -> Worker {
    let spec = NodeSpec::new("n1").of_type("m5.large").in_subnet(home);
    let settings = [("CLUSTER_NAME", "ours")];
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &settings)
        .expect("a ready node")
}

fn calls(lab: &Lab, action: &str) -> u64 {
    lab.with_cloud(|cloud| cloud.stats().actions.get(action).map_or(0, |count| count.calls))
}

/// C29: the node's subnet has few addresses: pods come from the tagged subnet, and from no other.
#[test]
fn c29_pods_beyond_the_nodes_subnet_come_from_the_tagged_one() {
    // A /28, of which EC2 keeps five addresses and the node's own is one.
    let home = "10.0.0.0/28";
    let lab = lab("subnets", home);
    let worker = worker(&lab, home);
    let pods = worker.add_pods("pod", 15).expect("pods in two subnets");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    // 10.0.1.0/24 is the tagged one; the node's is 10.0.0.0/28.
    let [inside, outside] = [0, 1].map(|third| {
        let found = pods.iter().find(|pod| pod.address.octets()[2] == third);
        found.expect("a pod in each of the two subnets")
    });
    assert!(pods.iter().all(|pod| pod.address.octets()[2] <= 1), "no pod in any other");
    proof::reaches(outside, inside.address, "from one subnet to the other").expect("reached");
    proof::reaches(inside, outside.address, "and back").expect("reached");
    assert!(calls(&lab, "DescribeSubnets") <= 2, "{} looks at subnets", calls(&lab, "DescribeSubnets"));
}

/// C34, W3: without ec2:DescribeSubnets new ENIs go to the node's own subnet, and pods run.
#[test]
fn c34_denied_describe_subnets_leaves_the_nodes_subnet() {
    let lab = lab("nosubnets", "10.0.0.0/26");
    let denied = json!({"iam": {"policy": {"deny": ["DescribeSubnets"]}}});
    lab.trouble(serde_json::from_value::<TroubleSettings>(denied).expect("trouble settings"));
    let worker = worker(&lab, "10.0.0.0/26");
    let pods = worker.add_pods("pod", 15).expect("pods on two ENIs in the node's subnet");
    assert!(calls(&lab, "DescribeSubnets") > 0, "it was asked, and refused");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    let home = holdings(&lab, &worker.instance())[0].subnet.clone();
    assert!(holdings(&lab, &worker.instance()).iter().all(|eni| eni.subnet == home));
}

/// The primary ENI gets another security group: the others follow, after metadata was read again, with one call each.
#[test]
fn changed_security_groups_reach_the_secondary_enis() {
    let lab = lab("groups", "10.0.0.0/26");
    let worker = worker(&lab, "10.0.0.0/26");
    worker.add_pods("pod", 15).expect("pods on two ENIs");
    let instance = worker.instance();
    let groups = || {
        lab.with_cloud(|cloud| {
            cloud.interfaces_of(&instance).iter().map(|e| e.groups.clone()).collect::<Vec<_>>()
        })
    };
    assert!(groups().len() > 1, "more than one ENI");
    // The same action tells EC2 that an ENI goes with the instance, when nothing more urgent is to be done.
    let secondary = groups().len() - 1;
    wait_for(Duration::from_secs(30), "the new ENIs to go with the instance", || {
        let told = calls(&lab, "ModifyNetworkInterfaceAttribute");
        Ok(usize::try_from(told).is_ok_and(|told| told >= secondary).then_some(()))
    })
    .expect("told");
    let later = lab.with_cloud(|cloud| {
        let later = cloud.groups().find(|g| g.name == "later").map(|g| g.id.clone()).expect("the group");
        let primary = cloud.interfaces_of(&instance)[0].id.clone();
        cloud
            .modify_network_interface_attribute(
                wall_clock(),
                &primary,
                &Attribute::Groups(vec![later.clone()]),
            )
            .expect("modified");
        later
    });
    let before = calls(&lab, "ModifyNetworkInterfaceAttribute");
    wait_for(Duration::from_secs(90), "the groups of all ENIs", || {
        Ok(groups().iter().all(|g| *g == [later.clone()]).then_some(()))
    })
    .expect("the other ENIs follow");
    let made = calls(&lab, "ModifyNetworkInterfaceAttribute") - before;
    assert_eq!(usize::try_from(made).expect("a count"), groups().len() - 1);
}

/// Timeouts of connection tracking that somebody set on the primary ENI hold for the ENIs made for pods, too.
#[test]
fn connection_tracking_timeouts_of_the_primary_are_copied() {
    let lab = lab("tracking", "10.0.0.0/26");
    let set = Tracking { tcp_established: Some(350), udp: Some(45), ..Tracking::default() };
    let spec = NodeSpec::new("n1").of_type("m5.large").in_subnet("10.0.0.0/26");
    let node = lab.add_node(spec).expect("a node");
    let instance = InstanceId::from(node.instance_id());
    lab.with_cloud(|cloud| {
        let primary = cloud.interfaces_of(&instance)[0].id.clone();
        let change = Attribute::Tracking(set);
        cloud.modify_network_interface_attribute(wall_clock(), &primary, &change).expect("modified");
    });
    let binaries = Binaries::find().expect("binaries");
    let mut daemon = Daemon::start(&node, &binaries, &[Mode::Secondary.setting()]).expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    std::thread::scope(|scope| {
        let adds: Vec<_> = (0..20)
            .map(|n| {
                scope.spawn({
                    let node = &node;
                    move || pod::add(node, &format!("pod-{n}"))
                })
            })
            .collect();
        for add in adds {
            add.join().expect("a thread").expect("an ADD");
        }
    });
    let enis = lab.with_cloud(|cloud| {
        cloud.interfaces_of(&instance).iter().map(|eni| eni.tracking).collect::<Vec<_>>()
    });
    assert!(enis.len() > 2 && enis.iter().all(|tracking| *tracking == set), "{enis:?}");
    // The daemon read them once; whatever else describes ENIs comes by itself.
    assert!(calls(&lab, "DescribeNetworkInterfaces") <= 2, "{}", calls(&lab, "DescribeNetworkInterfaces"));
}
