//! Layout compat with the real daemon: switched by a restart with pods running, in both directions, and handed back to the
//! incumbent (design D15 and §4).

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, Setting, wait_for};
use podwire_e2e::incumbent;
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker, delete};
use podwire_netns::flow::Flow;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

const PATIENCE: Duration = Duration::from_secs(20);
const SINGLE: Setting<'static> = Mode::Secondary.setting();
const COMPAT: Setting<'static> = ("PODWIRE_LAYOUT", "compat");

fn sh(node: &Node, script: &str) -> String {
    let output = node.command("sh").args(["-ec", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn start(node: &Node, settings: &[Setting<'_>]) -> Daemon {
    let mut daemon = Daemon::start(node, &Binaries::find().expect("binaries"), settings).expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    daemon
}

/// Rules for single addresses, without the number of who made them.
fn rules_of_pods(node: &Node) -> BTreeSet<String> {
    let text = sh(node, "ip rule");
    let of_pods = text.lines().filter(|l| l.starts_with("512:") || l.starts_with("1536:"));
    let of_pods = of_pods.filter(|l| !l.contains("fwmark"));
    of_pods
        .map(|l| l.split_whitespace().take_while(|w| *w != "proto").collect::<Vec<_>>().join(" "))
        .collect()
}

/// What incumbent-behaviour §2.6 says that it would have made for these pods.
fn incumbents(lab: &Lab, pods: &[Pod]) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for pod in pods {
        rules.insert(format!("512: from all to {} lookup main", pod.address));
        let (_, device) = proof::device_of(lab, pod).expect("EC2 knows the address");
        if device > 0 {
            rules.insert(format!("1536: from {} lookup {}", pod.address, device + 1));
        }
    }
    rules
}

fn await_rules(node: &Node, wanted: &BTreeSet<String>) {
    let same = || Ok((rules_of_pods(node) == *wanted).then_some(()));
    if wait_for(PATIENCE, "the rules of the layout", same).is_err() {
        assert_eq!(rules_of_pods(node), *wanted);
    }
}

/// A hundred packets a second until it is told to stop. Its output is read all the while: a full pipe would stop it.
struct Flood {
    ping: Child,
    output: JoinHandle<String>,
}

impl Flood {
    fn start(from: &Pod, to: Ipv4Addr) -> Self {
        let mut ping = from.netns.command("ping").expect("a command");
        ping.args(["-n", "-i", "0.01", "-W", "2", &to.to_string()]).stdout(Stdio::piped());
        let mut ping = ping.spawn().expect("ping");
        let mut stdout = ping.stdout.take().expect("piped");
        let output = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("text");
            text
        });
        Self { ping, output }
    }

    fn without_loss(mut self, what: &str) {
        let pid = rustix::process::Pid::from_child(&self.ping);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told to stop");
        self.ping.wait().expect("ping ends");
        let flow = Flow::of(&self.output.join().expect("read"));
        assert!(flow.answered > 20 && flow.lost.is_empty(), "{what}: {flow:?}");
    }
}

/// Each of them and the other one, in both directions.
#[track_caller]
fn talk(pods: &[Pod], there: &Pod, how: &str) {
    for pod in pods {
        pod.ping(there.address).expect(how);
        there.ping(pod.address).expect(how);
    }
}

/// The checkpoint that the incumbent would read knows an address.
fn in_checkpoint(node: &Node, address: Ipv4Addr) -> bool {
    let entries = incumbent::read(&incumbent::checkpoint(node)).expect("readable");
    entries.iter().any(|entry| entry.ipv4 == address)
}

#[test]
fn layout_is_switched_live_both_ways_and_the_node_handed_back() {
    let lab = Lab::start(LabSpec::named(&format!("e2e-compat-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)");
    let binaries = Binaries::find().expect("binaries");
    let spec = |name| NodeSpec::new(name).of_type("t3.medium");
    let far = Worker::start(&lab, &binaries, spec("n2"), Mode::Secondary, &[]).expect("a ready node");
    let there = far.add_pods("far", 1).expect("a pod").remove(0);
    let here = Worker::start(&lab, &binaries, spec("n1"), Mode::Secondary, &[]).expect("a ready node");
    let mut pods = here.add_pods("pod", 7).expect("pods on two ENIs");
    let Worker { node, daemon, .. } = here;
    let one_each: Vec<Pod> = proof::one_per_eni(&lab, &pods, &node).into_values().cloned().collect();
    assert!(one_each.len() >= 2, "pods on two ENIs");
    // The first packets of a link may be lost.
    one_each.iter().for_each(|pod| pod.ping(there.address).expect("pods talk"));
    let floods: Vec<Flood> = one_each
        .iter()
        .flat_map(|pod| [Flood::start(pod, there.address), Flood::start(&there, pod.address)])
        .collect();

    let mut daemon = Some(daemon);
    for round in 0..2 {
        daemon.take().map(|d| d.stop(PATIENCE)).expect("runs").expect("a graceful stop");
        let compat = start(&node, &[SINGLE, COMPAT]);
        await_rules(&node, &incumbents(&lab, &pods));
        let young = pod::add(&node, &format!("young-{round}")).expect("an ADD");
        assert!(in_checkpoint(&node, young.address), "the answer came before the checkpoint");
        let (_, device) = proof::device_of(&lab, &young).expect("EC2 knows the address");
        let interfaces = &young.result["interfaces"];
        assert_eq!(interfaces[1]["mac"], if device == 0 { "254".into() } else { (device + 1).to_string() });
        assert_eq!(
            (&interfaces[2]["mac"], &interfaces[2]["sandbox"]),
            (&"0".into(), &device.to_string().into())
        );
        pods.push(young);
        await_rules(&node, &incumbents(&lab, &pods));
        for pod in &pods {
            pod.check().expect("CHECK, of this layout's pods and of the other's");
        }
        let quiet = pods.iter().position(|pod| one_each.iter().all(|talks| talks.address != pod.address));
        delete(&[pods.remove(quiet.expect("a pod that does not talk"))]).expect("DEL");
        await_rules(&node, &incumbents(&lab, &pods));
        if round == 0 {
            compat.stop(PATIENCE).expect("a graceful stop");
            let constant = start(&node, &[SINGLE]);
            await_rules(&node, &BTreeSet::from(["512: from all lookup 5120".to_owned()]));
            pods.iter().for_each(|pod| pod.check().expect("CHECK"));
            daemon = Some(constant);
        } else {
            daemon = Some(compat);
        }
    }
    // That no answer is missing at the end of a flow, which says nothing of its last packets.
    talk(&one_each, &there, "in layout compat");
    floods.into_iter().for_each(|flood| flood.without_loss("across two changes of layout and back"));

    // Handed back: our daemon is dead, our table and the rules that only it needs are gone.
    daemon.take().map(Daemon::kill).expect("runs").expect("killed");
    sh(&node, "nft delete table ip podwire; ip route flush table 5120");
    for mark in sh(&node, "ip rule | grep -o '0x[0-9a-f]*/0x7f' || true").lines() {
        sh(&node, &format!("ip rule del pref 1536 fwmark {mark}"));
    }
    let assigned: Vec<_> = lab.with_cloud(|cloud| {
        let enis = cloud.interfaces_of(&vpcsim::cloud::InstanceId::from(node.instance_id()));
        enis.iter().flat_map(|eni| eni.secondaries.iter().map(|ip| (*ip).into())).collect()
    });
    let links = incumbent::links(&node).expect("listed");
    let store = incumbent::start(&incumbent::checkpoint(&node), &links, &assigned, false).expect("it starts");
    let held: BTreeSet<Ipv4Addr> = store.entries.iter().map(|entry| entry.ipv4).collect();
    let living: BTreeSet<Ipv4Addr> = pods.iter().map(|pod| pod.address).collect();
    assert!(held.is_superset(&living), "{held:?} lacks some of {living:?}");
    assert!(store.free.is_disjoint(&living), "it would give an address twice");
    talk(&pods, &there, "by the incumbent's rules alone");
}
