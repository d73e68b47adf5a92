//! A whole lab: the cloud moves the fabric's devices, and everything goes when it goes.

use std::net::SocketAddr;
use std::path::Path;

use vpcsim::api::wall_clock;
use vpcsim::cloud::{AttachInterface, AttachmentStatus, CreateInterface, SubnetId};
use vpcsim::lab::{self, Lab, LabSpec, NodeSpec};
use vpcsim::{ns, probe};

use crate::bench::{eventually, exchange, ip, name, ping};
use crate::metadata::{get, token};

#[test]
fn what_ec2_attaches_appears_and_what_it_detaches_vanishes() {
    let lab = Lab::start(LabSpec::instant(name("attach")).with_node(NodeSpec::new("one"))).unwrap();
    let node = lab.node("one").unwrap();
    let instance = node.instance_id().into();
    let device = node.namespaces().clone();
    let there = |name: &str| device.enter(|| Path::new("/sys/class/net").join(name).exists()).unwrap();
    assert!(there("eth0") && !there("eth1"));
    let attachment = lab.with_cloud(|cloud| {
        let subnet = SubnetId::from(cloud.instance(&instance).unwrap().subnet.as_str());
        let eni = cloud.create_network_interface(wall_clock(), &CreateInterface::new(&subnet)).unwrap();
        let attach = AttachInterface { eni: eni.id, instance: instance.clone(), device: 1, card: None };
        cloud.attach_network_interface(wall_clock(), &attach).unwrap()
    });
    eventually("the device appears", || there("eth1"));
    let status = lab.with_cloud(|cloud| {
        let enis = cloud.interfaces_of(&instance);
        enis[1].attachment.as_ref().unwrap().status
    });
    assert_eq!(status, AttachmentStatus::Attached);
    lab.with_cloud(|cloud| cloud.detach_network_interface(wall_clock(), &attachment.id, false)).unwrap();
    eventually("the device vanishes", || !there("eth1"));
    assert_eq!(lab.with_cloud(|cloud| cloud.stats().wire_faults), Vec::<String>::new());
}

#[test]
fn nodes_come_and_go_and_addresses_come_back() {
    let lab = Lab::start(LabSpec::instant(name("nodes")).with_node(NodeSpec::new("one"))).unwrap();
    let free = || lab.with_cloud(|cloud| cloud.stats().free);
    let before = free();
    let two = lab.add_node(NodeSpec::new("two").in_subnet("10.0.1.0/24").of_type("c5.xlarge")).unwrap();
    let address = two.primary().unwrap().address;
    assert!(ping(lab.node("one").unwrap().namespaces(), address.octets()));
    assert!(lab.add_node(NodeSpec::new("two")).is_err(), "the name is taken");
    assert!(lab.add_node(NodeSpec::new("three").in_subnet("10.9.0.0/24")).is_err(), "no such subnet");
    assert!(lab.add_node(NodeSpec::new("three").of_type("m5.nonsense")).is_err(), "no such type");
    assert!(
        ns::keepers().unwrap().iter().all(|keeper| keeper.host != "three"),
        "nothing is left of a failure"
    );
    lab.remove_node("two").unwrap();
    assert!(two.enter(|| ()).is_err(), "it has no namespaces any more");
    assert!(lab.remove_node("two").is_err());
    eventually("its addresses are free again", || free() == before);
    assert_eq!(lab.with_cloud(|cloud| cloud.stats().wire_faults), Vec::<String>::new());
}

#[test]
fn a_reboot_keeps_disk_and_enis_and_nothing_else() {
    let mut one = NodeSpec::new("one");
    one.instance.secondary_addresses = 1;
    let lab =
        Lab::start(LabSpec::instant(name("reboot")).with_node(one).with_node(NodeSpec::new("two"))).unwrap();
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    let read = |path: &str| std::fs::read_to_string(one.path(path)).unwrap();
    let boot_id =
        || one.enter(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id")).unwrap().unwrap();
    let (machine_id, before) = (read("/etc/machine-id"), boot_id());
    assert_ne!(machine_id, std::fs::read_to_string(two.path("/etc/machine-id")).unwrap());
    assert_ne!(
        before,
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap(),
        "not the machine's"
    );
    std::fs::write(one.path("/etc/cni/net.d/10-x.conflist"), "kept").unwrap();
    std::fs::write(one.path("/run/x"), "lost").unwrap();
    one.add_netns("p").unwrap();
    let mut daemon = one.command("sleep").arg("1000").spawn().unwrap();

    lab.reboot_node("one").unwrap();
    assert!(!daemon.wait().unwrap().success(), "processes end");
    assert_eq!(read("/etc/cni/net.d/10-x.conflist"), "kept");
    assert!(!one.path("/run/x").exists() && one.netns("p").namespaces().is_err());
    assert_eq!(read("/etc/machine-id"), machine_id);
    assert_ne!(boot_id(), before);
    assert!(ping(one.namespaces(), two.primary().unwrap().address.octets()), "eth0 is back");
    let secondary = lab.with_cloud(|cloud| cloud.interfaces_of(&one.instance_id().into())[0].secondaries[0]);
    ip(one.namespaces(), &format!("addr add {secondary}/32 dev eth0\n"));
    assert!(ping(two.namespaces(), secondary.octets()), "what is assigned is still delivered");
    lab.reboot_node("one").unwrap();
    assert_eq!(read("/etc/cni/net.d/10-x.conflist"), "kept", "twice");
    assert_eq!(lab.with_cloud(|cloud| cloud.stats().wire_faults), Vec::<String>::new());
}

#[test]
fn nodes_and_the_internet_reach_each_other_as_they_should() {
    let spec =
        LabSpec::instant(name("reach")).with_node(NodeSpec::new("one")).with_node(NodeSpec::new("two"));
    let lab = Lab::start(spec).unwrap();
    let one = lab.node("one").unwrap();
    let two = lab.node("two").unwrap().primary().unwrap();
    assert!(ping(one.namespaces(), two.address.octets()), "the default group lets its members talk");
    assert_ne!(two.subnet, one.primary().unwrap().subnet, "the subnets take turns");
    let seen = probe::seen_as(one.namespaces(), lab.internet().address()).unwrap();
    assert_eq!(seen.ip(), one.primary().unwrap().address);
}

#[test]
fn a_node_calls_ec2_with_the_keys_of_its_metadata_service() {
    let lab = Lab::start(LabSpec::instant(name("ec2")).with_node(NodeSpec::new("one"))).unwrap();
    let node = lab.node("one").unwrap();
    let held = token(node.namespaces()).unwrap();
    let read = |path: &str| get(node.namespaces(), &held, &format!("meta-data/{path}")).1;
    let role = read("iam/security-credentials/");
    let keys: serde_json::Value =
        serde_json::from_str(&read(&format!("iam/security-credentials/{role}"))).unwrap();
    let region = read("placement/region");
    let signed = format!(
        "AWS4-HMAC-SHA256 Credential={}/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0",
        keys["AccessKeyId"].as_str().unwrap()
    );
    let headers = [("Authorization", signed.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let form = "Action=DescribeNetworkInterfaces&Version=2016-11-15";
    let inside: SocketAddr =
        lab.node_endpoint().strip_prefix("http://").map(|at| format!("{at}:80")).unwrap().parse().unwrap();
    let (status, xml) = node.enter(|| exchange(inside, "POST", "/", &headers, form)).unwrap().unwrap();
    assert_eq!(status, 200, "{xml}");
    assert!(xml.contains(&node.primary().unwrap().address.to_string()), "{xml}");
    let callers =
        || lab.with_cloud(|cloud| cloud.calls().map(|call| call.caller.instance.clone()).collect::<Vec<_>>());
    assert_eq!(callers(), [Some(node.instance_id().into())], "EC2 knows who called");

    let outside: SocketAddr = lab.outside_endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    assert!(outside.ip().is_loopback());
    let stranger = signed.replace("ASIA", "AKIA");
    let headers = [("Authorization", stranger.as_str()), headers[1]];
    assert_eq!(exchange(outside, "POST", "/", &headers, form).unwrap().0, 200);
    assert_eq!(callers()[1], None, "someone outside");
}

#[test]
fn nodes_with_ipv6_addresses_reach_each_other_by_them() {
    let mut spec = LabSpec::instant(name("six"));
    spec.cloud.vpc_ipv6_cidrs = vec!["2600:1f14:0:100::/56".parse().unwrap()];
    for (subnet, range) in spec.cloud.subnets.iter_mut().zip(["2600:1f14:0:100::/64", "2600:1f14:0:101::/64"])
    {
        subnet.ipv6_cidr = Some(range.parse().unwrap());
    }
    for name in ["one", "two"] {
        let mut node = NodeSpec::new(name);
        node.instance.ipv6_addresses = 1;
        spec = spec.with_node(node);
    }
    let lab = Lab::start(spec).unwrap();
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    let to = two.primary().unwrap().ipv6.expect("an address").into();
    eventually("IPv6", || probe::ping(one.namespaces(), None, to, 56).unwrap());
    let held = token(one.namespaces()).unwrap();
    let own = one.primary().unwrap().ipv6.unwrap().to_string();
    assert_eq!(get(one.namespaces(), &held, "meta-data/ipv6").1, own);
}

#[test]
fn a_lab_owns_its_name_and_leaves_nothing() {
    let lab = Lab::start(LabSpec::instant(name("own")).with_node(NodeSpec::new("one"))).unwrap();
    let directory = lab.directory().to_owned();
    assert!(directory.is_dir());
    let refused = Lab::start(LabSpec::instant(name("own"))).unwrap_err().to_string();
    assert!(refused.contains(" is up already"), "{refused}");
    assert_eq!(lab::owner(name("own")), Some(std::process::id()));
    assert!(!lab::clear(name("own")).unwrap(), "a living lab is not cleared away");
    assert!(Lab::start(LabSpec::instant("../x")).is_err());
    lab.shutdown();
    assert!(!directory.exists());
    assert!(ns::keepers().unwrap().iter().all(|keeper| keeper.lab != name("own")));
    assert!(!lab::names().unwrap().contains(&name("own").to_owned()));
}

#[test]
fn a_spec_that_cannot_be_leaves_nothing() {
    let mut spec = LabSpec::instant(name("bad"));
    spec.cloud.subnets[0].cidr = "192.168.0.0/24".parse().unwrap();
    assert!(Lab::start(spec).is_err());
    assert!(!lab::names().unwrap().contains(&name("bad").to_owned()));
}

#[test]
fn a_panic_cleans_up_as_well() {
    let panicked = std::panic::catch_unwind(|| {
        let _lab = Lab::start(LabSpec::instant(name("panic")).with_node(NodeSpec::new("one"))).unwrap();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    assert!(!lab::names().unwrap().contains(&name("panic").to_owned()));
}
