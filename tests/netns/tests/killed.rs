//! The plugin killed before each of its system calls, one after the other: whatever it had done by then, DEL takes it back.
//!
//! strace delivers the signal as a call is entered, so the call itself is never made; what lies between two calls changes
//! nothing outside the process. Calls are told apart by name and count, which are the same in every run.

use podwire_netns::ipamd::FakeIpamd;
use podwire_netns::runtime::{Runtime, Sandbox, wait};
use podwire_netns::{Stage, kernel_state, on_stage};
use std::collections::BTreeMap;
use std::path::Path;

const TRACE: &str = "/run/trace";

fn runtime() -> Runtime {
    Runtime::new(env!("CARGO_BIN_EXE_aws-cni-under-test"))
}

/// Executes a verb under strace with these options; returns whether it came to its end.
fn traced(runtime: &Runtime, verb: &str, sandbox: &Sandbox, options: &[&str]) -> bool {
    let by = [&["/usr/bin/strace", "-qq", "-o", TRACE], options].concat();
    let child = runtime.spawn_by(&by, &runtime.env(verb, sandbox), &runtime.conf.to_string());
    wait(child).exit == Some(0)
}

/// How often a whole execution makes each system call.
fn calls(runtime: &Runtime, verb: &str, sandbox: &Sandbox) -> BTreeMap<String, usize> {
    assert!(traced(runtime, verb, sandbox, &[]), "the execution that is counted succeeds");
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(TRACE).expect("a trace").lines() {
        let name = line.split_once('(').map_or("", |(name, _)| name);
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    // Starting the program is strace's own deed.
    counts.remove("execve");
    counts
}

fn each_call(counts: &BTreeMap<String, usize>) -> impl Iterator<Item = (&str, usize)> {
    counts.iter().flat_map(|(name, count)| (1..=*count).map(move |number| (name.as_str(), number)))
}

/// Kills a verb before that call. Returns whether it was caught.
fn killed(runtime: &Runtime, verb: &str, sandbox: &Sandbox, (call, number): (&str, usize)) -> bool {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGKILL:when={number}");
    !traced(runtime, verb, sandbox, &["-e", &trace, "-e", &inject])
}

/// Timing decides how often the plugin waits for the daemon, and into how many pieces an answer comes; hardly more.
fn assert_nearly_all(caught: usize, counts: &BTreeMap<String, usize>) {
    let all = each_call(counts).count();
    assert!(caught * 10 >= all * 9, "{caught} caught of {all}: {counts:?}");
}

fn nothing_left(stage: &Stage, daemon: &FakeIpamd, before: &serde_json::Value, when: (&str, usize)) {
    assert_eq!(&kernel_state(stage), before, "{when:?}");
    assert!(daemon.state().held.is_empty(), "{when:?}");
    let pending = Path::new("/var/run/aws-node/podwire/released");
    let left = std::fs::read_dir(pending).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{when:?}: a pending release, though the daemon was there");
}

#[test]
fn add_killed_before_any_call_then_del_leaves_nothing() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let before = kernel_state(stage);
        let first = runtime.sandbox(stage, "first", "web-0");
        // The very first one makes the log's directory.
        let _ = runtime.add(&first).result();
        runtime.del(&first).silent();
        let counts = calls(&runtime, "ADD", &first);
        runtime.del(&first).silent();
        let mut caught = 0;
        for (step, when) in each_call(&counts).enumerate() {
            let sandbox = runtime.sandbox(stage, &format!("c{step}"), "web-0");
            caught += usize::from(killed(&runtime, "ADD", &sandbox, when));
            // Every other time the sandbox is gone by the time DEL comes.
            if step % 2 == 0 {
                sandbox.ns.remove();
            }
            runtime.del(&sandbox).silent();
            nothing_left(stage, &daemon, &before, when);
        }
        assert_nearly_all(caught, &counts);
        let _ = runtime.add(&runtime.sandbox(stage, "last", "web-0")).result();
    });
}

/// A killed DEL is followed by another one: runtimes repeat it until it succeeds.
#[test]
fn del_killed_before_any_call_then_del_leaves_nothing() {
    on_stage(|stage| {
        let daemon = FakeIpamd::start(&["10.0.0.101"]);
        let runtime = runtime();
        let before = kernel_state(stage);
        let first = runtime.sandbox(stage, "first", "web-0");
        let _ = runtime.add(&first).result();
        let counts = calls(&runtime, "DEL", &first);
        let mut caught = 0;
        for (step, when) in each_call(&counts).enumerate() {
            let sandbox = runtime.sandbox(stage, &format!("c{step}"), "web-0");
            let _ = runtime.add(&sandbox).result();
            caught += usize::from(killed(&runtime, "DEL", &sandbox, when));
            if step % 2 == 0 {
                sandbox.ns.remove();
            }
            runtime.del(&sandbox).silent();
            nothing_left(stage, &daemon, &before, when);
        }
        assert_nearly_all(caught, &counts);
    });
}
