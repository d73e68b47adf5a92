//! A DEL that comes when the container has begun another life: the runtime gave up on it, and started the container again.

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{client_of, status_of};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::scene::{Mode, Worker};
use podwire_proto::v1::release_response::Outcome;
use podwire_proto::v1::{ReleaseRequest, Released, Sandbox};
use rustix::time::{ClockId, clock_gettime};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

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
