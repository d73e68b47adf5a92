//! EC2 and metadata in trouble: the pool serves on, and says why when it cannot.

use std::process::Stdio;
use std::time::{Duration, Instant};

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{CONFLIST, Daemon, wait_for};
use podwire_e2e::pod;
use podwire_e2e::proof;
use podwire_e2e::runtime;
use podwire_e2e::scene::{Mode, READY, Worker, delete, holdings};
use serde_json::json;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::trouble::TroubleSettings;

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::named(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, spec: NodeSpec, mode: Mode) -> Worker {
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, mode, &[]).expect("a ready node")
}

fn trouble(settings: serde_json::Value) -> TroubleSettings {
    serde_json::from_value(settings).expect("trouble settings")
}

/// C32: endpoint black-holed. ADD and DEL from the pool go on; growth resumes by itself when it comes back.
#[test]
fn c32_black_holed_endpoint_stops_nothing_that_the_pool_can_serve() {
    let lab = lab("hole");
    let worker = worker(&lab, NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(1), Mode::Prefix);
    lab.trouble(trouble(json!({"black_hole": ["*"]})));
    let began = Instant::now();
    let pods = worker.add_pods("pod", 10).expect("pods from the pool");
    assert!(began.elapsed() < Duration::from_secs(5), "ADD waited for EC2: {:?}", began.elapsed());
    delete(&pods[..5]).expect("DEL");
    assert!(began.elapsed() < Duration::from_secs(10), "DEL waited for EC2: {:?}", began.elapsed());
    lab.trouble(TroubleSettings::default());
    let more = worker.add_pods("more", 20).expect("growth resumes without a restart");
    let all: Vec<_> = pods[5..].iter().chain(&more).cloned().collect();
    proof::addresses_are_true(&lab, &all).expect("EC2 agrees");
}

/// Pain point 51: a log that takes nothing, a pipe nobody reads, holds up no pod, and no stop.
#[test]
fn blocked_log_holds_up_neither_pods_nor_a_stop() {
    let lab = lab("log");
    let spec = NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(2);
    let node = lab.add_node(spec).expect("a node");
    let pipe = node.path("/var/log/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    let unread = rustix::fs::open(&pipe, flags, rustix::fs::Mode::empty()).expect("opened");
    while rustix::io::write(&unread, &[b'.'; 4096]).is_ok() {}
    let settings = [Mode::Prefix.setting(), ("AWS_VPC_K8S_CNI_LOG_FILE", "/var/log/pipe")];
    let mut daemon = Daemon::start(&node, &Binaries::find().expect("binaries"), &settings).expect("started");
    daemon.wait_ready(READY).expect("ready");
    let began = Instant::now();
    let pods: Vec<_> = (0..20).map(|n| pod::add(&node, &format!("pod-{n}")).expect("an ADD")).collect();
    delete(&pods).expect("DEL");
    assert!(began.elapsed() < Duration::from_secs(10), "the log held pods up: {:?}", began.elapsed());
    let stopped = daemon.stop(Duration::from_secs(10)).expect("stopped");
    assert!(stopped < Duration::from_secs(5), "the log held the stop up: {stopped:?}");
}

/// C40b: a launch template's prefix serves the first pods without any mutating call (design D11).
#[test]
fn c40b_launch_prefix_serves_first_pods_without_a_mutating_call() {
    let lab = lab("zero");
    lab.with_cloud(|cloud| cloud.forget_calls());
    let worker = worker(&lab, NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(1), Mode::Prefix);
    worker.add_pods("pod", 8).expect("pods");
    let stats = lab.with_cloud(|cloud| cloud.stats());
    assert_eq!(stats.mutating_calls, 0, "{:?}", stats.actions);
}

/// C34: EC2 denies the action. The pod's event must say which, for whom, and what to do.
#[test]
fn denied_action_is_named_in_the_plugins_error() {
    let lab = lab("denied");
    let worker = worker(&lab, NodeSpec::new("n1").of_type("t3.medium"), Mode::Secondary);
    lab.trouble(trouble(
        json!({"iam": {"policy": {"deny": ["AssignPrivateIpAddresses", "CreateNetworkInterface"]}}}),
    ));
    let mut conf = runtime::netconf(&worker.node, "1.0.0", None).expect("a conflist");
    conf["podwireAddTimeoutMs"] = json!(3000);
    let refused = (0..14).find_map(|i| {
        let name = format!("pod-{i}");
        worker.node.add_netns(&name).expect("a namespace");
        let ran = runtime::execute(&worker.node, "ADD", &pod::attachment(&worker.node, &name), &conf)
            .expect("executed");
        (ran.code != Some(0)).then_some(ran)
    });
    let refused = refused.expect("14 pods cannot fit without growth");
    assert_eq!(refused.error_code().expect("an error object"), 11, "{}", refused.stdout);
    assert!(refused.stdout.contains("is denied"), "{}", refused.stdout);
    assert!(refused.stdout.contains("ec2:"), "the action is named: {}", refused.stdout);
}

/// C27: throttled account. Pods wait, back-off ends, all are served; the calls stay few.
#[test]
fn c27_throttled_account_delays_but_serves_all() {
    let lab = lab("throttle");
    let worker = worker(&lab, NodeSpec::new("n1").of_type("t3.medium"), Mode::Secondary);
    lab.trouble(trouble(
        json!({"throttle": {"enabled": true, "mutating": {"capacity": 1.0, "refill_per_s": 0.5},
        "actions": {}}}),
    ));
    let pods = worker.add_pods("pod", 12).expect("all pods in the end");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    let stats = lab.with_cloud(|cloud| cloud.stats());
    assert!(stats.mutating_calls < 60, "{:?}", stats.actions);
}

/// Scenario A: metadata lags far behind. No live pod loses its address, no address is forgotten.
#[test]
fn lagging_metadata_black_holes_nobody() {
    let lab = lab("lag");
    let mut worker = worker(&lab, NodeSpec::new("n1").of_type("t3.medium"), Mode::Secondary);
    let pods = worker.add_pods("pod", 9).expect("pods");
    lab.trouble(trouble(json!({"imds": {"lag": {"delay": {"fixed": {"ms": 600_000}}}}})));
    worker.daemon.kill().expect("killed");
    worker.daemon = Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[]).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    std::thread::sleep(Duration::from_secs(3));
    proof::addresses_are_true(&lab, &pods).expect("EC2 still has every pod's address");
    pods[0].ping(pods[8].address).expect("pods talk");
    proof::leaves_by_snat(&lab, &pods[8]).expect("the newest ENI's pods reach the internet");
}

/// C29: subnet full. The cause reaches the plugin's error.
#[test]
fn exhausted_subnet_is_named() {
    let mut spec = LabSpec::named(&format!("e2e-full-{}", std::process::id()));
    spec.cloud.subnets.truncate(1);
    spec.cloud.subnets[0].cidr = "10.0.0.0/28".parse().expect("a CIDR");
    let lab = Lab::start(spec).expect("a simulated VPC");
    let worker = worker(&lab, NodeSpec::new("n1").of_type("m5.large"), Mode::Secondary);
    let mut conf = runtime::netconf(&worker.node, "1.0.0", None).expect("a conflist");
    conf["podwireAddTimeoutMs"] = json!(4000);
    let refused = (0..16).find_map(|i| {
        let name = format!("pod-{i}");
        worker.node.add_netns(&name).expect("a namespace");
        let ran = runtime::execute(&worker.node, "ADD", &pod::attachment(&worker.node, &name), &conf)
            .expect("executed");
        (ran.code != Some(0)).then_some((i, ran))
    });
    let (served, refused) = refused.expect("a /28 has 11 addresses");
    assert!(served >= 9, "only {served} pods were served from 10 free addresses");
    assert!(refused.stdout.contains("has no free address"), "{}", refused.stdout);
}

/// Design D24: what is asked for and not built is refused before anything on the node is changed.
#[test]
fn unsupported_settings_are_refused_before_any_change() {
    let lab = lab("refused");
    let node = lab.add_node(NodeSpec::new("n1").of_type("t3.medium")).expect("a node");
    let binaries = Binaries::find().expect("binaries");
    let before = state(&node);
    for (name, value) in [
        ("ENABLE_POD_ENI", "true"),
        ("ENABLE_IPv6", "true"),
        ("NETWORK_POLICY_ENFORCING_MODE", "strict"),
        ("PODWIRE_SUBNET_FLOOR", "many"),
        ("PODWIRE_SUBNET_FLOR", "16"),
    ] {
        let mut command = node.command(binaries.ipamd());
        command
            .env_clear()
            .env("ENABLE_IPv4", "true")
            .env("AWS_VPC_K8S_CNI_LOG_FILE", "stderr")
            .env(name, value);
        let output = command.stdin(Stdio::null()).output().expect("executed");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name}={value} was accepted");
        assert!(text.contains(name), "the variable is named: {text}");
        if name.starts_with("PODWIRE_") {
            assert_eq!(output.status.code(), Some(2), "{text}");
        }
    }
    assert_eq!(state(&node), before, "the node was changed");
    assert!(!node.path(CONFLIST).exists());
}

fn state(node: &vpcsim::node::Node) -> String {
    ["ip rule", "ip route show table all", "nft list ruleset"]
        .map(|line| {
            let output = node.command("sh").args(["-c", line]).output().expect("executed");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .concat()
}

/// Addresses and ENIs that nobody needs are given back (the subnet is everybody's).
#[test]
fn idle_enis_are_given_back() {
    let lab = lab("idle");
    let settings = [("IP_COOLDOWN_PERIOD", "2")];
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let worker = Worker::start(&lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &settings)
        .expect("a node");
    let pods = worker.add_pods("pod", 11).expect("pods");
    assert!(holdings(&lab, &worker.instance()).len() >= 3, "11 pods need three ENIs of 5");
    delete(&pods).expect("DEL");
    wait_for(Duration::from_secs(90), "ENIs to go", || {
        Ok((holdings(&lab, &worker.instance()).len() == 1).then_some(()))
    })
    .expect("given back");
    wait_for(Duration::from_secs(20), "deleted ENIs to vanish from EC2", || {
        Ok((lab.with_cloud(|cloud| cloud.stats().enis) == 1).then_some(()))
    })
    .expect("no ENI leaks");
}
