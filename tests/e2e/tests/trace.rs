//! A living daemon's trace, asked for by SIGUSR1, plays again with equal effects.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, TRACE, wait_for};
use podwire_e2e::scene::{Mode, READY, Worker, delete};
use podwire_trace::{Outcome, Trace};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

/// Asks until there is a trace that tells of so many allocations at its end: what is asked for is written a little later.
fn trace(worker: &Worker, allocated: u32) -> Trace {
    let path = worker.node.path(TRACE);
    let look = || {
        worker.daemon.ask_for_trace()?;
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        // Written whole or not at all.
        let trace = Trace::parse(&text)?;
        Ok((trace.replay().pool.stats().allocated == allocated).then_some(trace))
    };
    wait_for(Duration::from_secs(20), "the trace", look).expect("a trace")
}

#[test]
fn trace_of_a_living_daemon_replays_with_equal_effects() {
    let lab = Lab::start(LabSpec::named(&format!("e2e-trace-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)");
    let binaries = Binaries::find().expect("binaries");
    let spec = NodeSpec::new("n1").of_type("t3.medium");
    let mut worker = Worker::start(&lab, &binaries, spec, Mode::Secondary, &[]).expect("a ready node");
    let pods = worker.add_pods("first", 8).expect("pods");
    delete(&pods[..3]).expect("deleted");

    let first = trace(&worker, 5);
    let mode = std::fs::metadata(worker.node.path(TRACE)).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a trace names pods and addresses: for root alone");
    let replay = first.replay();
    assert_eq!(replay.outcome, Outcome::Same, "{} inputs", replay.inputs);
    let stats = replay.pool.stats();
    assert_eq!((stats.allocated, stats.cooling + stats.free > 3), (5, true), "{stats:?}");

    worker.add_pods("second", 1).expect("a pod");
    let second = trace(&worker, 6);
    assert_eq!(second.replay().outcome, Outcome::Same);

    // A new life of the daemon records from what the ledger gave it.
    worker.daemon.stop(Duration::from_secs(15)).expect("a graceful stop");
    std::fs::remove_file(worker.node.path(TRACE)).expect("the old trace");
    worker.daemon = Daemon::start(&worker.node, &binaries, &[]).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    let third = trace(&worker, 6);
    assert_eq!(third.start.stats().allocated, 6, "it begins with what the ledger remembers");
    assert_eq!(third.replay().outcome, Outcome::Same);
}
