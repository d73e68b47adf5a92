//! containerd and runc on podwire: a kubelet's calls, real containers, packets.

use std::net::Ipv4Addr;
use std::thread;

use podwire_e2e::daemon::{Daemon, wait_for};
use podwire_runtimes::containerd::Containerd;
use podwire_runtimes::cri::{Cri, PodSpec, RunningPod};
use podwire_runtimes::stage::{PATIENCE, Stage, allocated, nothing_left, plugin_log, ready_daemon};
use serde_json::Value;
use vpcsim::lab::NodeSpec;
use vpcsim::node::Node;

/// A node with daemon and containerd.
struct Machine {
    node: Node,
    daemon: Daemon,
    containerd: Containerd,
}

fn machine(stage: &Stage, spec: NodeSpec, settings: &[(&str, &str)]) -> Machine {
    let node = stage.node(spec).expect("a node");
    let daemon = ready_daemon(&node, settings).expect("a ready daemon");
    let containerd = Containerd::start(&node, &stage.groups.parent()).expect("containerd");
    wait_for(PATIENCE, "NetworkReady", || Ok(containerd.cri.network_ready()?.ok())).expect("a network");
    Machine { node, daemon, containerd }
}

/// Runs all at once, as kubelet does with a burst.
fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..count).map(|i| scope.spawn(move || work(i))).collect();
        running.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    })
}

/// How often the plugin carried out a DEL for a sandbox, and in how many of them an address was given back.
fn dels(node: &Node, sandbox: &str) -> (usize, usize) {
    let lines = plugin_log(node).expect("a log");
    let of_it =
        |line: &&Value| line["op"] == "DEL" && line["sandbox"] == sandbox && line["msg"] == "pod unwired";
    let dels: Vec<&Value> = lines.iter().filter(of_it).collect();
    (dels.len(), dels.iter().filter(|line| line["ip"] != "").count())
}

/// The addresses on the container's eth0.
fn eth0(cri: &Cri, pod: &RunningPod) -> String {
    cri.exec(pod, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]).expect("exec")
}

/// D22, R-07, D-01, D-02: the network is ready when an address is usable and not before; containers start, run commands and
/// reach each other across nodes and ENIs; containerd's two DELs leave nothing.
#[test]
fn pods_run_and_reach_each_other_across_nodes() {
    let stage = Stage::start("pods").expect("a simulated VPC");
    let node = stage.node(NodeSpec::new("a").of_type("t3.medium")).expect("a node");
    let containerd = Containerd::start(&node, &stage.groups.parent()).expect("containerd");
    assert!(containerd.cri.network_ready().expect("Status").is_err(), "a network before the daemon");
    let _daemon = ready_daemon(&node, &[]).expect("a ready daemon");
    wait_for(PATIENCE, "NetworkReady", || Ok(containerd.cri.network_ready()?.ok())).expect("a network");
    let other = machine(&stage, NodeSpec::new("b").of_type("t3.medium"), &[]);

    // Seven pods do not fit on a t3.medium's first ENI, which holds five.
    let (here, there) = (&containerd.cri, &other.containerd.cri);
    let pods = at_once(7, |i| here.run(&PodSpec::named(&format!("pod-{i}"))).expect("a pod"));
    let far = there.run(&PodSpec::named("far")).expect("a pod");
    let addresses: Vec<Ipv4Addr> = pods.iter().map(|pod| pod.address).collect();
    stage.addresses_are_true(&node, &addresses).expect("EC2 agrees");
    stage.addresses_are_true(&other.node, &[far.address]).expect("EC2 agrees");
    for pod in &pods {
        let inside = eth0(here, pod);
        assert!(inside.contains(&format!(" {}/32 ", pod.address)), "{}: {inside}", pod.address);
        here.ping(pod, far.address).expect("to the other node");
        there.ping(&far, pod.address).expect("from the other node");
    }
    here.ping(&pods[0], pods[6].address).expect("on one node");

    for pod in &pods {
        here.end(pod).expect("stop and remove");
        let (carried_out, gave_back) = dels(&node, &pod.sandbox);
        assert!(carried_out >= 2, "containerd sends two DELs, the plugin carried out {carried_out}");
        assert_eq!(gave_back, 1, "an address is given back once");
    }
    there.end(&far).expect("stop and remove");
    nothing_left(&node).expect("nothing is left");
    nothing_left(&other.node).expect("nothing is left");
}

/// D23: thirty pods at once while the daemon is stopped and started; as many stops while it is killed and started.
#[test]
fn thirty_at_once_with_a_restart_in_the_middle() {
    let stage = Stage::start("thirty").expect("a simulated VPC");
    let spec = NodeSpec::new("n").of_type("m5.large");
    let settings = [("ENABLE_PREFIX_DELEGATION", "true")];
    let Machine { node, daemon, containerd } = machine(&stage, spec, &settings);
    let cri = &containerd.cri;
    let (pods, daemon) = thread::scope(|scope| {
        let running = scope.spawn(|| at_once(30, |i| cri.run(&PodSpec::named(&format!("pod-{i}")))));
        wait_for(PATIENCE, "the first five pods", || Ok((allocated(&node)? >= 5).then_some(())))
            .expect("pods");
        daemon.stop(PATIENCE).expect("a graceful stop");
        let daemon = ready_daemon(&node, &settings).expect("a ready daemon");
        (running.join().expect("a thread"), daemon)
    });
    let pods: Vec<RunningPod> = pods.into_iter().map(|pod| pod.expect("a pod")).collect();
    let addresses: Vec<Ipv4Addr> = pods.iter().map(|pod| pod.address).collect();
    stage.addresses_are_true(&node, &addresses).expect("EC2 agrees");
    assert_eq!(allocated(&node).expect("an answer"), 30);
    for pair in pods.windows(2).step_by(7) {
        cri.ping(&pair[0], pair[1].address).expect("pods talk");
    }
    let _daemon = thread::scope(|scope| {
        let ending = scope.spawn(|| at_once(30, |i| cri.end(&pods[i])));
        wait_for(PATIENCE, "the first five to go", || Ok((allocated(&node)? <= 25).then_some(())))
            .expect("gone");
        daemon.kill().expect("killed");
        let daemon = ready_daemon(&node, &settings).expect("a ready daemon");
        ending.join().expect("a thread").into_iter().for_each(|ended| ended.expect("stop and remove"));
        daemon
    });
    nothing_left(&node).expect("nothing is left");
}

/// D-13, A-13: a recreated pod of the same name, whose predecessor's sandbox is removed only afterwards. containerd crashes
/// between: what it remembers of ADD is good for its DELs.
#[test]
fn recreated_pod_outlives_its_predecessor_and_a_crash_of_containerd() {
    let stage = Stage::start("again").expect("a simulated VPC");
    let mut machine = machine(&stage, NodeSpec::new("n").of_type("t3.medium"), &[]);
    let old = machine.containerd.cri.run(&PodSpec::named("web-0")).expect("a pod");
    let again = PodSpec { attempt: 1, ..PodSpec::named("web-0") };
    let new = machine.containerd.cri.run(&again).expect("the next sandbox of the pod");
    let witness = machine.containerd.cri.run(&PodSpec::named("witness")).expect("a pod");
    assert_ne!(old.address, new.address);
    machine.containerd.crash_and_restart().expect("containerd is back");
    let cri = &machine.containerd.cri;
    cri.end(&old).expect("the predecessor goes");
    cri.ping(&witness, new.address).expect("the pod is reached");
    cri.ping(&new, witness.address).expect("the pod reaches others");
    assert_eq!(cri.address(&new.sandbox).expect("Status"), Some(new.address));
    assert_eq!(allocated(&machine.node).expect("an answer"), 2);
    for pod in [&new, &witness] {
        cri.end(pod).expect("stop and remove");
    }
    nothing_left(&machine.node).expect("nothing is left");
    machine.daemon.stop(PATIENCE).expect("a graceful stop");
}

/// D-10: the plugin chained after ours gets our result and works with it: a port of the node leads to the pod. At DEL
/// it has gone first.
#[test]
fn host_port_of_the_chained_portmap_reaches_the_pod() {
    let stage = Stage::start("port").expect("a simulated VPC");
    let server = machine(&stage, NodeSpec::new("a").of_type("t3.medium"), &[]);
    let client = machine(&stage, NodeSpec::new("b").of_type("t3.medium"), &[]);
    let cri = &server.containerd.cri;
    let spec = PodSpec { host_ports: vec![(30080, 80)], ..PodSpec::named("web") };
    let web = cri.run(&spec).expect("a pod");
    let serve = "echo podwire > /tmp/index.html && httpd -p 80 -h /tmp";
    cri.exec(&web, &["sh", "-c", serve]).expect("a web server");
    let caller = client.containerd.cri.run(&PodSpec::named("caller")).expect("a pod");
    let node = server.node.primary().expect("an address").address;
    for (address, port) in [(node, 30080), (web.address, 80)] {
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {address} {port}");
        let page = client.containerd.cri.exec(&caller, &["sh", "-c", &ask]).expect("an answer");
        assert!(page.contains("podwire"), "{address}:{port}: {page}");
    }
    client.containerd.cri.end(&caller).expect("stop and remove");
    cri.end(&web).expect("stop and remove");
    nothing_left(&server.node).expect("nothing is left");
    nothing_left(&client.node).expect("nothing is left");
}
