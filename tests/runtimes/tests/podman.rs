//! podman on podwire: it names no namespace of a pod, and gives the same container a new life after a stop.

use std::thread;

use podwire_runtimes::podman::Podman;
use podwire_runtimes::stage::{PATIENCE, Stage, allocated, nothing_left, plugin_log, ready_daemon};
use vpcsim::lab::NodeSpec;

/// Design D4: stop and start of one container is two lives of one sandbox key, each with an address; a restart of the
/// daemon between them changes nothing.
#[test]
fn stopped_container_starts_again_under_the_same_id() {
    let stage = Stage::start("podman").expect("a simulated VPC");
    let node = stage.node(NodeSpec::new("n").of_type("t3.medium")).expect("a node");
    let daemon = ready_daemon(&node, &[]).expect("a ready daemon");
    let Some(podman) = Podman::set_up(&node, &stage.groups.parent()).expect("podman") else { return };
    let id = podman.start("web").expect("a container");
    let _witness = podman.start("witness").expect("a container");
    let (first, witness) = (podman.address("web").expect("told"), podman.address("witness").expect("told"));
    stage.addresses_are_true(&node, &[first, witness]).expect("EC2 agrees");
    podman.ping("web", witness).expect("containers talk");

    podman.run(&["stop", "--time", "10", "web"]).expect("stopped");
    assert_eq!(allocated(&node).expect("an answer"), 1, "a stopped container holds no address");
    podman.run(&["start", "web"]).expect("started again");
    assert_eq!(podman.run(&["inspect", "--format", "{{.Id}}", "web"]).expect("inspected"), id);
    let second = podman.address("web").expect("told");
    stage.addresses_are_true(&node, &[second, witness]).expect("EC2 agrees");
    assert_ne!(second, first, "the first life's address still cools");
    podman.ping("witness", second).expect("the second life is reached");

    podman.run(&["stop", "--time", "10", "web"]).expect("stopped");
    daemon.stop(PATIENCE).expect("a graceful stop");
    let _daemon = ready_daemon(&node, &[]).expect("a ready daemon");
    podman.run(&["start", "web"]).expect("a third life");
    let third = podman.address("web").expect("told");
    podman.ping("web", witness).expect("the third life reaches others");
    podman.ping("witness", third).expect("and is reached");
    assert_eq!(allocated(&node).expect("an answer"), 2);
    let adds = plugin_log(&node).expect("a log");
    let adds =
        adds.iter().filter(|line| line["sandbox"] == id.as_str() && line["msg"] == "pod wired").count();
    assert_eq!(adds, 3, "three lives of one container id");

    podman.run(&["rm", "--force", "--time", "0", "web", "witness"]).expect("removed");
    nothing_left(&node).expect("nothing is left");
}

/// Several at once, removed while no daemon runs; it takes the releases in when it is back.
#[test]
fn containers_come_at_once_and_go_without_a_daemon() {
    let stage = Stage::start("podmans").expect("a simulated VPC");
    let node = stage.node(NodeSpec::new("n").of_type("m5.large")).expect("a node");
    let daemon = ready_daemon(&node, &[]).expect("a ready daemon");
    let Some(podman) = Podman::set_up(&node, &stage.groups.parent()).expect("podman") else { return };
    let names: Vec<String> = (0..6).map(|i| format!("c{i}")).collect();
    let addresses = thread::scope(|scope| {
        let podman = &podman;
        let starting: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(move || podman.start(name).and_then(|_| podman.address(name))))
            .collect();
        starting.into_iter().map(|s| s.join().expect("a thread").expect("a container")).collect::<Vec<_>>()
    });
    stage.addresses_are_true(&node, &addresses).expect("EC2 agrees");
    podman.ping("c0", addresses[5]).expect("containers talk");
    daemon.stop(PATIENCE).expect("a graceful stop");
    podman.ping("c0", addresses[5]).expect("containers talk while no daemon runs");
    let all: Vec<&str> =
        ["rm", "--force", "--time", "0"].into_iter().chain(names.iter().map(String::as_str)).collect();
    podman.run(&all).expect("removed without a daemon");
    let _daemon = ready_daemon(&node, &[]).expect("a ready daemon");
    nothing_left(&node).expect("the daemon takes the releases in");
}
