//! ADD and a daemon that is away, goes away or hangs. Requirement ids are those of `cni-conformance.md`.

use podwire_netns::{FakeIpamd, Runtime, Stage, on_stage};
use podwire_proto::v1::Failure;
use std::time::{Duration, Instant};

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

fn no_pod_links(stage: &Stage) -> bool {
    stage.json("ip -j link show type veth").as_array().is_some_and(Vec::is_empty)
}

/// P-19, W1: no daemon; the wait is bounded.
#[test]
fn add_without_daemon_is_code_11_in_time() {
    on_stage(|stage| {
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let started = Instant::now();
        assert_eq!(runtime.add(&sandbox).code(), 11);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert!(no_pod_links(stage));
    });
}

/// D23: an ADD waits through a restart of the daemon.
#[test]
fn add_waits_for_a_daemon_that_is_restarted() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let mut runtime = runtime();
        runtime.conf["podwireConnectTimeoutMs"] = 5000.into();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        daemon.stop();
        let child = runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
        std::thread::sleep(Duration::from_millis(150));
        daemon.resume();
        assert_eq!(podwire_netns::runtime::wait(child).result()["ips"][0]["address"], "10.0.0.101/32");
    });
}

/// D23: a daemon that stops refuses who waits; its successor answers.
#[test]
fn add_refused_by_a_daemon_that_stops_waits_for_the_next() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let refusal = Failure { cause: "stopping".into(), message: "a successor comes".into(), retry: true };
        daemon.state().refusal = Some(refusal);
        let child = runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
        await_asked(&daemon);
        assert!(daemon.state().asked > 0, "else it was never refused");
        daemon.state().refusal = None;
        assert_eq!(podwire_netns::runtime::wait(child).result()["ips"][0]["address"], "10.0.0.101/32");
    });
}

/// Waits until an Allocate has come in.
fn await_asked(daemon: &FakeIpamd) {
    let until = Instant::now() + Duration::from_secs(10);
    while daemon.state().asked == 0 && Instant::now() < until {
        std::thread::yield_now();
    }
}

/// D23: the restart comes when the ADD has waited for its address for longer than it would wait for a restart.
#[test]
fn add_that_has_waited_long_waits_for_a_restart_too() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let mut runtime = runtime();
        runtime.conf["podwireConnectTimeoutMs"] = 1000.into();
        daemon.state().delay = Duration::from_secs(600);
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let child = runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
        await_asked(&daemon);
        std::thread::sleep(Duration::from_millis(1100));
        daemon.stop();
        daemon.state().delay = Duration::ZERO;
        std::thread::sleep(Duration::from_millis(100));
        daemon.resume();
        assert_eq!(podwire_netns::runtime::wait(child).result()["ips"][0]["address"], "10.0.0.101/32");
    });
}

/// The daemon took the request and is never seen again: the address that it may have given is not forgotten.
#[test]
fn add_that_lost_its_daemon_for_good_leaves_a_pending_release() {
    on_stage(|stage| {
        let mut daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        daemon.state().lose_reply = true;
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let child = runtime.spawn(&runtime.env("ADD", &sandbox), &runtime.conf.to_string());
        await_asked(&daemon);
        daemon.stop();
        assert_eq!(podwire_netns::runtime::wait(child).code(), 11);
        assert_eq!(pending(), 1);
    });
}

/// P-19: a daemon that hangs.
#[test]
fn add_with_a_daemon_that_hangs_ends_in_time_and_is_not_forgotten() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        daemon.state().delay = Duration::from_secs(600);
        let mut runtime = runtime();
        runtime.conf["podwireAddTimeoutMs"] = 500.into();
        let sandbox = runtime.sandbox(stage, "c1", "p");
        let started = Instant::now();
        assert_eq!(runtime.add(&sandbox).code(), 11);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert_eq!(pending(), 1, "the daemon may yet give an address");
        assert!(no_pod_links(stage));
    });
}

fn pending() -> usize {
    std::fs::read_dir("/run/aws-node/podwire/released").map_or(0, Iterator::count)
}
