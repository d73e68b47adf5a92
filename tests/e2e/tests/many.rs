//! Many pods at once, and pods that come and go while the daemon does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnetwork::Ipv4Network;
use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, Setting, status_of, wait_for};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker, delete};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

const PATIENCE: Duration = Duration::from_secs(60);
/// How often the daemon is killed during the turnover.
const KILLS: usize = 4;
/// Room for 272 pods without a call to EC2.
const SETTINGS: [Setting<'_>; 4] = [
    ("ENABLE_PREFIX_DELEGATION", "true"),
    ("MINIMUM_IP_TARGET", "272"),
    ("PODWIRE_MAX_PODS", "272"),
    ("IP_COOLDOWN_PERIOD", "0"),
];

fn lab(test: &str) -> Lab {
    let mut spec = LabSpec::named(&format!("e2e-{test}-{}", std::process::id()));
    for (third, subnet) in [0u8, 64].into_iter().zip(&mut spec.cloud.subnets) {
        subnet.cidr = Ipv4Network::new([10, 0, third, 0].into(), 18).expect("a network");
    }
    Lab::start(spec).expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab) -> Worker {
    let spec = NodeSpec::new("n1").of_type("m5.4xlarge").with_launch_prefixes(17);
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Prefix, &SETTINGS)
        .expect("a ready node")
}

fn allocated(node: &Node) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(status_of(node)).expect("the daemon answers").allocated
}

/// Neither an address in the ledger, nor a host veth or a route, nor a pending release.
fn nothing_left(worker: &Worker) {
    let pending = worker.node.path("/var/run/aws-node/podwire/released");
    wait_for(PATIENCE, "every address to be given back", || {
        let files = std::fs::read_dir(&pending).map_or(0, Iterator::count);
        Ok((files == 0 && allocated(&worker.node) == 0).then_some(()))
    })
    .expect("given back");
    for what in [["-o", "link", "show", "type", "veth"], ["-4", "route", "show", "table", "5120"]].iter() {
        let output = worker.node.command("ip").args(what.iter()).output().expect("ip");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("eni"), "{text}");
    }
}

#[test]
fn two_hundred_and_fifty_at_once_each_have_their_own_address() {
    let lab = lab("many");
    let worker = worker(&lab);
    let pods = worker.add_pods("pod", 250).expect("pods");
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.address).collect();
    assert_eq!(addresses.len(), 250, "an address was given twice");
    assert_eq!(allocated(&worker.node), 250);
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    for pair in pods.chunks(2).step_by(25) {
        pair[0].ping(pair[1].address).expect("pods talk");
    }
    let rss = |what: &str| {
        let rss = worker.daemon.rss_kib().expect("a daemon");
        eprintln!("resident {what}: {rss} KiB");
        rss
    };
    let full = rss("with 250 pods");
    delete(&pods).expect("DEL");
    let right_after = rss("right after their DELs");
    nothing_left(&worker);
    let after = rss("when all is given back");
    // What a drain needs for a moment goes back to the machine.
    assert!(after < full + 4 * 1024, "{full} KiB, {right_after} KiB, then {after} KiB");
}

/// One life of the pod `name`: another sandbox each time, the same pod.
fn life(node: &Node, name: &str, number: usize) -> anyhow::Result<Pod> {
    let netns = node.add_netns(&format!("{name}-{number}"))?;
    let mut attachment = pod::attachment(node, &format!("{name}-{number}"));
    attachment.pod.1 = name.to_owned();
    pod::attach(node, netns, attachment)
}

/// As a pod of a StatefulSet that is killed without grace: its next sandbox is made while the last one is taken away.
fn lives(node: &Node, name: &str, count: usize, lived: &AtomicUsize) -> anyhow::Result<Vec<Pod>> {
    let mut last = life(node, name, 0)?;
    let mut ended = Vec::new();
    for number in 1..count {
        let (next, gone) = std::thread::scope(|scope| {
            let next = scope.spawn(|| life(node, name, number));
            let gone = last.del();
            (next.join(), gone)
        });
        gone?;
        lived.fetch_add(1, Ordering::Relaxed);
        ended.push(std::mem::replace(&mut last, next.map_err(|_| anyhow::anyhow!("a thread died"))??));
    }
    last.check()?;
    last.del()?;
    ended.push(last);
    Ok(ended)
}

#[test]
fn turnover_of_the_same_pods_leaks_nothing_while_the_daemon_is_killed() {
    let lab = lab("turnover");
    let mut worker = worker(&lab);
    let names: Vec<String> = (0..12).map(|i| format!("web-{i}")).collect();
    let node = worker.node.clone();
    let lived = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let running: Vec<_> =
            names.iter().map(|name| scope.spawn(|| lives(&node, name, 12, &lived))).collect();
        let binaries = Binaries::find().expect("binaries");
        for kill in 0..KILLS {
            // In the middle of things: some lives after the last time, and many before the end.
            wait_for(PATIENCE, "pods to come and go", || {
                Ok((lived.load(Ordering::Relaxed) >= (kill + 1) * 20).then_some(()))
            })
            .expect("turnover goes on");
            // The next one waits until the socket is free, and what asks meanwhile waits with it.
            let next = Daemon::start(&worker.node, &binaries, &SETTINGS).expect("a second daemon");
            std::mem::replace(&mut worker.daemon, next).kill().expect("killed");
            worker.daemon.wait_ready(READY).expect("ready again");
        }
        for pod in running {
            let ended = pod.join().expect("no panic").expect("every ADD and DEL succeeds");
            assert_eq!(ended.len(), 12);
        }
    });
    nothing_left(&worker);
}
