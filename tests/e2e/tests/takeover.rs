//! The node changes hands: from the incumbent to podwire and back, with pods running throughout (design §4).

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

use ipnetwork::Ipv4Network;
use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{CONFLIST, Daemon, status_of, wait_for};
use podwire_e2e::incumbent::{self, OldPod, Store};
use podwire_e2e::pod::Pod;
use podwire_e2e::proof;
use podwire_e2e::runtime::{self, Attachment};
use podwire_e2e::scene::{Mode, READY, delete};
use serde_json::{Value, json};
use vpcsim::cloud::InstanceId;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

const PATIENCE: Duration = Duration::from_secs(20);
const PREFIXES: (&str, &str) = Mode::Prefix.setting();
/// The simulated VPC's network.
const VPC: &str = "10.0.0.0/16";

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::named(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn binaries() -> Binaries {
    Binaries::find().expect("binaries")
}

fn podwire(node: &Node) -> Daemon {
    let mut daemon = Daemon::start(node, &binaries(), &[PREFIXES]).expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    daemon
}

fn allocated(node: &Node) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(status_of(node)).expect("the daemon answers").allocated
}

fn instance(node: &Node) -> InstanceId {
    InstanceId::from(node.instance_id())
}

/// What EC2 has assigned to the node's ENIs.
fn assigned(lab: &Lab, node: &Node) -> Vec<Ipv4Network> {
    lab.with_cloud(|cloud| {
        let enis = cloud.interfaces_of(&instance(node));
        enis.iter().flat_map(|eni| eni.prefixes.iter().copied()).collect()
    })
}

fn sh(node: &Node, script: &str) -> String {
    let Output { stdout, .. } = node.command("sh").args(["-c", script]).output().expect("sh");
    String::from_utf8(stdout).expect("text")
}

fn rules_of(node: &Node, address: Ipv4Addr) -> usize {
    sh(node, "ip rule").lines().filter(|line| line.contains(&format!(" {address} "))).count()
}

/// The node as the incumbent leaves it: its SNAT, pods on its prefix, its conflist, a checkpoint. Addresses 1 to `count`.
fn incumbents_node(lab: &Lab, count: usize) -> (Node, Vec<OldPod>) {
    let spec = NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(1);
    let node = lab.add_node(spec).expect("a node");
    let primary = node.primary().expect("a primary address").address;
    incumbent::set_up(&node, primary, VPC).expect("set up");
    let prefix = assigned(lab, &node)[0];
    let addresses = prefix.iter().skip(1).take(count);
    let pods: Vec<OldPod> = addresses
        .enumerate()
        .map(|(n, address)| incumbent::wire(&node, &format!("old-{n}"), address, None).expect("wired"))
        .collect();
    let entries: Vec<_> = pods.iter().map(|pod| pod.entry.clone()).collect();
    incumbent::write(&incumbent::checkpoint(&node), &entries).expect("written");
    let conflist = node.path(CONFLIST);
    std::fs::create_dir_all(conflist.parent().expect("a directory")).expect("made");
    std::fs::write(&conflist, r#"{"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[{"name":"aws-cni","type":"aws-cni"}]}"#).expect("written");
    (node, pods)
}

fn ping(from: &OldPod, to: Ipv4Addr) {
    let mut command = from.netns.command("ping").expect("a command");
    let output = command.args(["-n", "-q", "-c", "3", "-i", "0.2", "-W", "1", &to.to_string()]).output();
    assert!(output.expect("ping").status.success(), "{} gets no answer from {to}", from.entry.pod.1);
}

fn addresses(old: &[OldPod], new: &[Pod]) -> BTreeSet<Ipv4Addr> {
    old.iter().map(|pod| pod.entry.ipv4).chain(new.iter().map(|pod| pod.address)).collect()
}

fn add(node: &Node, prefix: &str, count: usize) -> Vec<Pod> {
    let add = |n| podwire_e2e::pod::add(node, &format!("{prefix}-{n}")).expect("an ADD");
    (0..count).map(add).collect()
}

/// The incumbent comes back: what its store holds and what it would give away.
fn take_back(lab: &Lab, node: &Node) -> Store {
    let links = incumbent::links(node).expect("listed");
    let path = incumbent::checkpoint(node);
    incumbent::start(&path, &links, &assigned(lab, node), true).expect("the incumbent starts")
}

fn held(store: &Store) -> BTreeSet<Ipv4Addr> {
    store.entries.iter().map(|entry| entry.ipv4).collect()
}

fn attachment(pod: &OldPod) -> Attachment {
    Attachment {
        container_id: pod.entry.container.clone(),
        netns: format!("/run/netns/{}", pod.netns.name()),
        ifname: "eth0".into(),
        pod: pod.entry.pod.clone(),
    }
}

/// CHECK of a pod of the incumbent's, by our plugin, with the incumbent's result.
fn check(node: &Node, pod: &OldPod) {
    let (attachment, (namespace, name)) = (attachment(pod), &pod.entry.pod);
    let result = json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            { "name": incumbent::host_veth(namespace, name) },
            { "name": "eth0", "sandbox": attachment.netns },
        ],
        "ips": [{ "address": format!("{}/32", pod.entry.ipv4), "interface": 1 }],
    });
    let conf = runtime::netconf(node, "1.0.0", Some(&result)).expect("a conflist");
    runtime::execute(node, "CHECK", &attachment, &conf).expect("executed").result().expect("CHECK");
}

/// DEL of a pod of the incumbent's, by our plugin, as the runtime calls it.
fn del(node: &Node, pod: &OldPod) {
    let conf = runtime::netconf(node, "1.0.0", None).expect("a conflist");
    runtime::execute(node, "DEL", &attachment(pod), &conf).expect("executed").result().expect("DEL");
    node.del_netns(pod.netns.name()).expect("removed");
}

fn mirrored(lab: &Lab, node: &Node, wanted: &BTreeSet<Ipv4Addr>) -> Duration {
    let began = Instant::now();
    wait_for(PATIENCE, "the mirror to say what is held", || {
        Ok((held(&take_back(lab, node)) == *wanted).then_some(()))
    })
    .expect("mirrored");
    began.elapsed()
}

/// Live pods are adopted, nothing is given twice, DEL leaves nothing, and the incumbent can have the node back.
#[test]
fn node_goes_from_the_incumbent_to_podwire_and_back() {
    let lab = lab("takeover");
    let (node, mut old) = incumbents_node(&lab, 5);
    // One pod died while nobody looked: its link is gone, its entry and rules are not.
    let dead = old.remove(4);
    node.del_netns(dead.netns.name()).expect("removed");
    assert_eq!(rules_of(&node, dead.entry.ipv4), 1);

    let daemon = podwire(&node);
    assert_eq!(allocated(&node), 4, "{}", daemon.log_tail());
    assert_eq!(rules_of(&node, dead.entry.ipv4), 0, "what the dead pod left is gone");
    let new = add(&node, "new", 14);
    let all = addresses(&old, &new);
    assert_eq!(all.len(), 18, "an address was given twice");
    proof::addresses_are_true(&lab, &new).expect("EC2 agrees");
    ping(&old[0], new[0].address);
    new[1].ping(old[1].entry.ipv4).expect("new reaches old");
    ping(&old[2], old[3].entry.ipv4);
    old.iter().for_each(|pod| check(&node, pod));
    let lag = mirrored(&lab, &node, &all);
    assert!(lag < Duration::from_millis(1_500), "the mirror lags {lag:?}");
    let file: Value =
        serde_json::from_slice(&std::fs::read(incumbent::checkpoint(&node)).expect("there")).expect("JSON");
    assert!(file["podwireRevision"].is_u64(), "{file}");

    // A pod of the incumbent's goes, by our plugin: no rule, no route, no link of it stays.
    let gone = old.remove(0);
    del(&node, &gone);
    let left = format!(
        "ip rule; ip route show table all; ip link show {}",
        incumbent::host_veth("default", "old-0")
    );
    wait_for(PATIENCE, "the kernel to forget the pod", || {
        Ok((!sh(&node, &left).contains(&gone.entry.ipv4.to_string())).then_some(()))
    })
    .expect("forgotten");
    delete(&new[..4]).expect("DEL");
    let new = &new[4..];

    daemon.stop(PATIENCE).expect("a graceful stop");
    let store = take_back(&lab, &node);
    assert_eq!(held(&store), addresses(&old, new), "the incumbent knows exactly the living");
    assert_eq!(store.dropped, []);
    assert!(store.free.is_disjoint(&addresses(&old, new)), "it would give an address twice");
    // Its DEL looks an attachment up by network, container and interface.
    for pod in new {
        let found = store.entries.iter().find(|entry| entry.ipv4 == pod.address).expect("there");
        assert_eq!(
            (&*found.network, &found.container, &*found.ifname),
            ("aws-cni", &pod.attachment.container_id, "eth0")
        );
    }
    ping(&old[0], new[0].address);
}

/// Who a pod is to a host that greets each caller with the caller's address.
fn seen_as(pod: &OldPod, host: SocketAddr) -> String {
    let connect = || TcpStream::connect_timeout(&host, PATIENCE);
    let stream = pod.netns.enter(connect).expect("namespaces").expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting).expect("a greeting");
    greeting.split(' ').next().unwrap_or_default().to_owned()
}

/// What the incumbent made for the whole node decides nothing any more: where the VPC has grown since, hosts see its pods
/// themselves, and not the node.
#[test]
fn incumbents_snat_ends_with_the_take_over() {
    let lab = lab("snat");
    let (node, old) = incumbents_node(&lab, 1);
    let (pod, outside) = (&old[0], lab.internet().address());
    let primary = node.primary().expect("a primary address").address;
    assert_eq!(seen_as(pod, outside), primary.to_string());
    let there = outside.ip().to_string();
    let (network, _) = there.rsplit_once('.').expect("an IPv4 address");
    let range = format!("{network}.0/24").parse().expect("a range");
    lab.with_cloud(|cloud| cloud.widen_vpc(cloud.now(), range));
    let daemon = podwire(&node);
    // Metadata may lag at the start; it is asked again after 30 s.
    wait_for(Duration::from_secs(45), "the pod to be seen itself", || {
        Ok((seen_as(pod, outside) == pod.entry.ipv4.to_string()).then_some(()))
    })
    .expect("seen");
    let ruleset = sh(&node, "nft list ruleset");
    assert!(
        ruleset.contains("podwire") && !ruleset.contains("AWS-") && !ruleset.contains("aws-cni"),
        "{ruleset}"
    );
    assert!(daemon.log_tail_of(500).contains("what aws-node had made"), "it is told");
}

/// The incumbent worked in between: its file beats our ledger, and a crash right after the take-over loses nothing.
#[test]
fn incumbent_wrote_last_is_believed_and_a_crash_changes_nothing() {
    let lab = lab("handback");
    let (node, old) = incumbents_node(&lab, 2);
    let daemon = podwire(&node);
    let ours = add(&node, "ours", 3);
    daemon.stop(PATIENCE).expect("a graceful stop");

    // The incumbent: releases one of ours, gives its address to a pod of its own.
    let mut store = take_back(&lab, &node);
    assert_eq!(store.entries.len(), 5);
    let released = ours[0].address;
    sh(&node, &format!("ip link del {}", incumbent::host_veth("default", "ours-0")));
    store.entries.retain(|entry| entry.ipv4 != released);
    let young = incumbent::wire(&node, "young", released, None).expect("wired");
    store.entries.push(young.entry.clone());
    incumbent::write(&incumbent::checkpoint(&node), &store.entries).expect("written");

    let mut live = addresses(&old, &ours[1..]);
    live.insert(young.entry.ipv4);
    for round in 0..3 {
        let daemon = podwire(&node);
        assert_eq!(allocated(&node), 5 + round, "round {round}: {}", daemon.log_tail());
        let more = add(&node, &format!("more-{round}"), 1);
        assert!(live.insert(more[0].address), "{} was given twice", more[0].address);
        // At once: the mirror may not have been written since the ADD.
        daemon.kill().expect("killed");
    }
    let daemon = podwire(&node);
    assert_eq!(allocated(&node), 8);
    mirrored(&lab, &node, &live);
    ping(&young, old[0].entry.ipv4);
    // The DEL of the pod that the incumbent released already is nothing to us, least of all the young pod's end.
    delete(&ours[..1]).expect("a late DEL");
    assert_eq!(allocated(&node), 8);
    ping(&young, old[1].entry.ipv4);
    drop(daemon);
}

/// The checkpoint is unreadable, or gone: routes to the incumbent's pods keep their addresses out of use, and the file is
/// kept as evidence.
#[test]
fn without_a_readable_checkpoint_routes_speak_for_pods() {
    let lab = lab("lost");
    let (node, old) = incumbents_node(&lab, 3);
    let path = incumbent::checkpoint(&node);
    std::fs::write(&path, "{\"version\":\"vpc-cni-ipam/1\",\"alloc").expect("written");
    let daemon = podwire(&node);
    assert_eq!(allocated(&node), 3, "{}", daemon.log_tail());
    let new = add(&node, "new", 10);
    assert_eq!(addresses(&old, &new).len(), 13, "an address was given twice");
    let aside = std::fs::read_to_string(path.with_extension("json.unreadable")).expect("kept");
    assert!(aside.ends_with("alloc"));
    ping(&old[0], new[0].address);
    // Nobody can name the pod's sandbox to us: when its link goes, its address is released all the same.
    node.del_netns(old[0].netns.name()).expect("removed");
    wait_for(Duration::from_secs(40), "the orphan's address to be released", || {
        Ok((allocated(&node) == 12).then_some(()))
    })
    .expect("released");
}

/// The same with a sound ledger of ours from before the incumbent worked: it must not be believed alone, whether the
/// incumbent's file says nothing or is gone.
#[test]
fn older_ledger_of_ours_is_not_believed_without_a_checkpoint() {
    let lab = lab("older");
    for (name, content) in [("junk", Some("{\"version\":\"vpc-cni-ipam/2\"}")), ("gone", None)] {
        let node =
            lab.add_node(NodeSpec::new(name).of_type("m5.large").with_launch_prefixes(1)).expect("a node");
        let daemon = podwire(&node);
        let ours = add(&node, "ours", 2);
        daemon.stop(PATIENCE).expect("stopped");
        // What the incumbent would do meanwhile: a pod with the address that our ledger gives next.
        let prefix = assigned(&lab, &node)[0];
        let mut next = prefix.iter().filter(|ip| ours.iter().all(|pod| pod.address != *ip));
        let theirs = incumbent::wire(&node, "theirs", next.next().expect("one"), None).expect("wired");
        let path = incumbent::checkpoint(&node);
        match content {
            Some(content) => std::fs::write(&path, content).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let daemon = podwire(&node);
        assert_eq!(allocated(&node), 3, "{}", daemon.log_tail());
        let new = add(&node, "new", 12);
        let given = addresses(&[theirs], &new);
        assert_eq!(given.union(&ours.iter().map(|pod| pod.address).collect()).count(), 15, "given twice");
    }
}

/// Pods that the incumbent named with another prefix, before the setting was changed: their packets are known by it. And a node
/// where it has no pod at all keeps its conflist, so that kubelet never takes the node for one without a network.
#[test]
fn older_prefix_of_the_incumbent_is_known_and_a_node_without_pods_stays_ready() {
    let lab = lab("prefix");
    let (node, old) = incumbents_node(&lab, 1);
    let (address, veth) = (old[0].entry.ipv4, incumbent::host_veth("default", "old-0"));
    let renamed = veth.replacen("eni", "foo", 1);
    sh(
        &node,
        &format!(
            "ip link set {veth} down; ip link set {veth} name {renamed}; ip link set {renamed} up; ip route replace {address}/32 dev {renamed} scope link"
        ),
    );
    let daemon = podwire(&node);
    let egress = sh(&node, "nft list chain ip podwire egress");
    assert!(egress.contains("\"foo*\""), "{egress}\n{}", daemon.log_tail());

    drop(daemon);
    let spec = NodeSpec::new("empty").of_type("m5.large").with_launch_prefixes(1);
    let node = lab.add_node(spec).expect("a node");
    incumbent::write(&incumbent::checkpoint(&node), &[]).expect("written");
    let conflist = node.path(CONFLIST);
    std::fs::create_dir_all(conflist.parent().expect("a directory")).expect("made");
    std::fs::write(&conflist, r#"{"cniVersion":"0.4.0","name":"aws-cni","plugins":[{"type":"aws-cni"}]}"#)
        .expect("written");
    std::thread::scope(|scope| {
        let daemon = scope.spawn(|| podwire(&node));
        while !daemon.is_finished() {
            assert!(conflist.exists(), "kubelet would take the node for one without a network");
            std::thread::yield_now();
        }
        daemon.join().expect("ready");
    });
    assert!(conflist.exists());
}
