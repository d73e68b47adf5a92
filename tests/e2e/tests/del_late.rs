//! A DEL that comes when the container has begun another life: the runtime gave up on it, and started the container again.

use std::path::Path;
use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, client_of, status_of, wait_for};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::runtime;
use podwire_e2e::scene::{Mode, Worker};
use podwire_proto::v1::release_response::Outcome;
use podwire_proto::v1::{ReleaseRequest, Released, Sandbox};
use rustix::time::{ClockId, clock_gettime};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::named(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ms = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
    u64::try_from(ms).expect("after the boot")
}

fn ask<T>(future: impl Future<Output = anyhow::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future).expect("the daemon answers")
}

fn host_name(pod: &Pod) -> String {
    pod.result["interfaces"][0]["name"].as_str().expect("a host interface").to_owned()
}

/// What the plugin sends for a DEL of this pod that started then.
fn release(pod: &Pod, started_boottime_ms: u64) -> Released {
    let sandbox = Sandbox {
        container_id: pod.attachment.container_id.clone(),
        ifname: pod.attachment.ifname.clone(),
        network: "aws-cni".into(),
    };
    let host_interfaces = vec![host_name(pod)];
    let request = ReleaseRequest { sandbox: Some(sandbox), pod: None, started_boottime_ms, host_interfaces };
    let answer = ask(async { Ok(client_of(&pod.node).await?.release(request).await?.into_inner()) });
    match answer.outcome {
        Some(Outcome::Released(released)) => released,
        other => unreachable!("not released: {other:?}"),
    }
}

/// `podman start` after a DEL that hung: container id, interface name and alias are those of the life before.
#[test]
fn late_del_of_an_earlier_life_leaves_the_link_of_the_present_one() {
    let lab = lab("late-del");
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let worker = Worker::start(&lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, &[])
        .expect("a ready node");
    let pods = worker.add_pods("pod", 2).expect("pods");
    let earlier = boottime_ms();
    pods[0].detach().expect("DEL");
    let again = pod::attach(&worker.node, pods[0].netns.clone(), pods[0].attachment.clone()).expect("ADD");
    assert_eq!(host_name(&again), host_name(&pods[0]), "else a name alone would keep the link");

    assert_eq!(release(&again, earlier), Released::default());
    again.check().expect("CHECK");
    again.ping(pods[1].address).expect("the pod still talks");
    assert_eq!(ask(status_of(&worker.node)).allocated, 2);

    // The same request of now ends the present life, so that it was the time which kept it.
    let released = release(&again, boottime_ms());
    assert_eq!(released.host_interface, host_name(&again));
    assert_eq!(released.addresses, [again.address.to_string()]);
}

/// With no daemon, no namespace, no previous result and without the pod's name, the plugin cannot know the link's name. The
/// daemon finds it by whose it is, before the address is given back (design D4).
#[test]
fn pending_release_takes_a_link_that_the_plugin_did_not_find() {
    let lab = lab("pending-link");
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let binaries = Binaries::find().expect("binaries");
    let mut worker = Worker::start(&lab, &binaries, spec, Mode::Secondary, &[]).expect("a ready node");
    let pod = worker.add_pods("pod", 1).expect("a pod").remove(0);
    worker.daemon.stop(PATIENCE).expect("a graceful stop");
    let conf = runtime::netconf(&worker.node, "1.0.0", None).expect("a conflist");
    let env = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", pod.attachment.container_id.as_str()),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let plugin = Path::new("/opt/cni/bin/aws-cni");
    let ran =
        runtime::execute_raw(&worker.node, plugin, &env, conf.to_string().as_bytes()).expect("executed");
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(has_link(&pod), "else there is nothing to prove");

    worker.daemon = Daemon::start(&worker.node, &binaries, &[Mode::Secondary.setting()]).expect("a daemon");
    worker.daemon.wait_ready(PATIENCE).expect("ready");
    wait_for(PATIENCE, "the release to be taken in", || {
        Ok((ask(status_of(&worker.node)).allocated == 0).then_some(()))
    })
    .expect("taken in");
    assert!(!has_link(&pod), "the address went back before its link");
}

fn has_link(pod: &Pod) -> bool {
    let shown = pod.node.command("ip").args(["link", "show", &host_name(pod)]).output().expect("ip");
    shown.status.success()
}
