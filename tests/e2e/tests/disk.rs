//! The disk under the ledger is full: what cannot be made durable is not shown, the kernel is tidied all the same, people
//! are told why, and everything goes on by itself when there is room again (design §7, Ledger).

use std::collections::BTreeSet;
use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, status_of, wait_for};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::runtime::{self, Ran};
use podwire_e2e::scene::{Mode, READY};
use serde_json::{Value, json};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

const PATIENCE: Duration = Duration::from_secs(20);
const PREFIXES: (&str, &str) = Mode::Prefix.setting();
const LEDGER: &str = "/var/run/aws-node/podwire";
/// Too small for the reserve, so that the ledger finds out that the disk is full.
const SMALL: &str = "512k";

fn allocated(node: &Node) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(status_of(node)).expect("the daemon answers").allocated
}

fn sh(node: &Node, script: &str) -> bool {
    node.command("sh").args(["-c", script]).status().expect("sh").success()
}

/// An ADD with little patience.
fn try_add(node: &Node, name: &str) -> Ran {
    let mut conf = runtime::netconf(node, "1.0.0", None).expect("a conflist");
    conf["podwireAddTimeoutMs"] = json!(3000);
    node.add_netns(name).expect("a namespace");
    runtime::execute(node, "ADD", &pod::attachment(node, name), &conf).expect("executed")
}

/// What `podwire explain --json` says on the node.
fn explained(node: &Node, binaries: &Binaries) -> Value {
    let output = node.command(binaries.podwire()).args(["explain", "--json"]).output().expect("podwire");
    assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A node with the ledger on a file system of this size.
fn scene(test: &str, size: &str) -> (Lab, Node, Binaries) {
    let name = format!("e2e-{test}-{}", std::process::id());
    let lab = Lab::start(LabSpec::named(&name)).expect("a simulated VPC (root, ip and nft)");
    let node = lab.add_node(NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(3)).expect("a node");
    assert!(sh(&node, &format!("mkdir -p {LEDGER} && mount -t tmpfs -o size={size} tmpfs {LEDGER}")));
    (lab, node, Binaries::find().expect("binaries"))
}

fn start(node: &Node, binaries: &Binaries) -> Daemon {
    let mut daemon = Daemon::start(node, binaries, &[PREFIXES]).expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    daemon
}

/// Fills the file system; whatever was free is taken.
fn fill(node: &Node) {
    assert!(!sh(node, &format!("dd if=/dev/zero of={LEDGER}/filler bs=4096 2>/dev/null")), "it is full");
}

#[test]
fn full_disk_refuses_adds_tidies_dels_and_recovers_by_itself() {
    let (_lab, node, binaries) = scene("disk", SMALL);
    let daemon = start(&node, &binaries);
    let mut pods: Vec<Pod> = (0..3).map(|n| pod::add(&node, &format!("pod-{n}")).expect("an ADD")).collect();
    fill(&node);

    // What still fits into the last page is taken.
    let refused = (0..40).find_map(|n| {
        let ran = try_add(&node, &format!("more-{n}"));
        (ran.code != Some(0)).then_some((n, ran))
    });
    let (served, ran) = refused.expect("the disk is full");
    assert_eq!(ran.error_code().expect("an error object"), 11, "{}", ran.stdout);
    assert!(ran.stdout.contains("ledger-unwritable") && ran.stdout.contains("free space"), "{}", ran.stdout);
    let explained = explained(&node, &binaries);
    assert_eq!(explained["problem"]["cause"], "ledger-unwritable", "{explained}");
    assert!(explained["complaints"][0]["count"].as_u64().is_some_and(|count| count >= 1), "{explained}");

    // DEL: the kernel's part is done, whether or not the release can be noted.
    let gone = pods.remove(0);
    let conf = runtime::netconf(&node, "1.0.0", Some(&gone.result)).expect("a conflist");
    let ran = runtime::execute(&node, "DEL", &gone.attachment, &conf).expect("executed");
    assert!(ran.code == Some(0) || ran.error_code().expect("an error object") == 11, "{}", ran.stdout);
    let routes = node.command("ip").args(["route", "show", "table", "all"]).output().expect("ip");
    assert!(!String::from_utf8_lossy(&routes.stdout).contains(&gone.address.to_string()), "its route stays");
    pods[0].ping(pods[1].address).expect("pods do not notice");

    assert!(sh(&node, &format!("rm {LEDGER}/filler")));
    let name = format!("more-{served}");
    let again = || {
        runtime::execute(
            &node,
            "ADD",
            &pod::attachment(&node, &name),
            &runtime::netconf(&node, "1.0.0", None)?,
        )
    };
    // The runtime repeats a refused ADD; the daemon tries its disk every half second.
    wait_for(PATIENCE, "an ADD to work again, without a restart", || {
        Ok((again()?.code == Some(0)).then_some(()))
    })
    .expect("it works again");
    gone.detach().expect("the runtime repeats its DEL");
    let wanted = u32::try_from(2 + served + 1).expect("few");
    wait_for(PATIENCE, "the release to be noted", || Ok((allocated(&node) == wanted).then_some(())))
        .expect("noted");
    assert!(explained_problem(&node, &binaries).is_null(), "nothing is wrong any more");
    drop(daemon);
}

fn explained_problem(node: &Node, binaries: &Binaries) -> Value {
    explained(node, binaries)["problem"].clone()
}

/// A crash while the disk is full: what was answered is there, what was not is not given twice.
#[test]
fn crash_with_a_full_disk_keeps_what_was_answered() {
    let (_lab, node, binaries) = scene("fullcrash", SMALL);
    let daemon = start(&node, &binaries);
    let mut live: BTreeSet<_> =
        (0..3).map(|n| pod::add(&node, &format!("pod-{n}")).expect("an ADD").address).collect();
    fill(&node);
    let mut refused = false;
    for n in 0..40 {
        match pod_address(&try_add(&node, &format!("more-{n}"))) {
            Some(address) => assert!(live.insert(address), "{address} was given twice"),
            None => {
                refused = true;
                break;
            }
        }
    }
    assert!(refused, "the disk is full");
    daemon.kill().expect("killed");
    assert!(sh(&node, &format!("rm {LEDGER}/filler")));
    let _daemon = start(&node, &binaries);
    assert_eq!(usize::try_from(allocated(&node)).expect("few"), live.len());
    for n in 0..5 {
        let pod = pod::add(&node, &format!("later-{n}")).expect("an ADD");
        assert!(live.insert(pod.address), "{} was given twice", pod.address);
    }
}

/// Started on a full disk, where not even the snapshot fits that founds a ledger: an ADD is told why at once, and the daemon
/// ends when it is told to.
#[test]
fn daemon_started_on_a_full_disk_says_so_and_can_be_stopped() {
    let (_lab, node, binaries) = scene("fullstart", SMALL);
    fill(&node);
    let daemon = start(&node, &binaries);
    let ran = try_add(&node, "more");
    assert_eq!(ran.error_code().expect("an error object"), 11, "{}", ran.stdout);
    assert!(ran.stdout.contains("ledger-unwritable") && ran.stdout.contains("free space"), "{}", ran.stdout);
    daemon.stop(PATIENCE).expect("it ends");
    assert!(sh(&node, &format!("rm {LEDGER}/filler")));
    let _daemon = start(&node, &binaries);
    assert_eq!(allocated(&node), 0);
    pod::add(&node, "again").expect("an ADD");
}

/// Others fill the disk while the ledger has its own space on it: nothing is refused, neither before a restart nor after
/// it, though the ledger cannot be rewritten.
#[test]
fn disk_filled_by_others_refuses_nothing() {
    let (_lab, node, binaries) = scene("others", "6m");
    let daemon = start(&node, &binaries);
    let mut pods = vec![pod::add(&node, "pod-0").expect("an ADD")];
    fill(&node);
    pods.extend((1..4).map(|n| pod::add(&node, &format!("pod-{n}")).expect("an ADD on a full disk")));
    daemon.stop(PATIENCE).expect("it ends");
    for life in 0..2 {
        let daemon = start(&node, &binaries);
        assert_eq!(usize::try_from(allocated(&node)).expect("few"), pods.len());
        let name = format!("again-{life}");
        pods.push(pod::add(&node, &name).expect("an ADD after a restart on a full disk"));
        pods.remove(0).detach().expect("a DEL");
        daemon.kill().expect("killed");
    }
    assert!(sh(&node, &format!("rm {LEDGER}/filler")));
    let _daemon = start(&node, &binaries);
    assert_eq!(usize::try_from(allocated(&node)).expect("few"), pods.len());
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.address).collect();
    assert_eq!(addresses.len(), pods.len(), "none was given twice");
    for pod in &pods {
        pod.check().expect("CHECK");
    }
}

fn pod_address(ran: &Ran) -> Option<std::net::Ipv4Addr> {
    let result = ran.result().ok()?;
    result["ips"][0]["address"].as_str()?.split('/').next()?.parse().ok()
}
