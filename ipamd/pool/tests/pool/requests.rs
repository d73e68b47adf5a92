//! ADD, DEL and GC: who is answered what, and when.

use std::time::Duration;

use podwire_pool::{Answer, Cause, Ec2Call, FailureClass, HostChange, Input, RequestId, Time};

use crate::bench::{Bench, key};
use crate::scenes::booted;

fn refused(bench: &Bench, request: u64) -> Option<Cause> {
    match bench.answer(request)? {
        Answer::Refused(cause) => Some(cause),
        Answer::Allocated { .. } | Answer::Released(_) | Answer::Collected(_) | Answer::Leaks(_) => None,
    }
}

fn release(bench: &mut Bench, request: u64, name: &str, started: Time) {
    bench.input(Input::Release { request: RequestId(request), sandbox: key(name), started });
}

fn collect(bench: &mut Bench, request: u64, network: &str, valid: &[&str], started: Time) {
    let valid = valid.iter().map(|name| key(name)).collect();
    bench.input(Input::Collect { request: RequestId(request), network: network.into(), valid, started });
}

#[test]
fn unknown_del_leaves_one_durable_tombstone_and_the_second_adds_none() {
    let mut bench = booted();
    bench.disk_holds = true;
    bench.del(1, "pod-1");
    bench.run();
    assert_eq!(bench.answer(1), None, "not before it is durable");
    bench.disk_holds = false;
    bench.run();
    assert_eq!(bench.answer(1), Some(Answer::Released(vec![])));
    let records = bench.log.len();
    bench.del(2, "pod-1");
    assert_eq!(bench.answer(2), Some(Answer::Released(vec![])));
    assert_eq!(bench.log.len(), records);
    assert_eq!(bench.pool.stats().tombstones, 1);
}

#[test]
fn add_that_began_before_the_del_is_refused_and_a_later_one_is_a_new_life() {
    let mut bench = booted();
    let before = bench.now;
    bench.now = before.after(Duration::from_secs(1));
    bench.del(1, "pod-1");
    bench.run();
    let deadline = bench.now.after(Duration::from_secs(75));
    bench.add_until(2, "pod-1", before, deadline);
    assert!(matches!(refused(&bench, 2), Some(Cause::SandboxDeleted { .. })));
    bench.add(3, "pod-1");
    bench.run();
    assert!(matches!(bench.answer(3), Some(Answer::Allocated { is_new: true, .. })));
}

/// S8: an ADD that sat in a queue for longer than tombstones are kept; the plugin and its sandbox are long gone.
#[test]
fn add_taken_in_after_its_deadline_gets_nothing_although_an_address_is_free() {
    let mut bench = booted();
    bench.add(1, "pod-1");
    bench.run();
    bench.del(2, "pod-1");
    bench.run();
    let started = bench.now;
    bench.pass(700_000);
    bench.input(Input::Timer);
    assert_eq!(bench.pool.stats().tombstones, 0, "the DEL is forgotten");
    assert!(bench.pool.stats().free > 0);
    let records = bench.log.len();
    bench.add_until(3, "pod-1", started, started.after(Duration::from_secs(75)));
    bench.run();
    assert!(matches!(refused(&bench, 3), Some(Cause::TooSlow { .. })));
    assert_eq!(bench.log.len(), records, "nothing was given out");
}

/// S8: the second DEL of a sandbox comes when the first is nearly forgotten, the ADD between them after that.
#[test]
fn repeated_del_is_remembered_as_long_as_the_first() {
    let mut bench = booted();
    bench.del(1, "pod-1");
    bench.run();
    bench.pass(595_000);
    let between = bench.now;
    bench.now = between.after(Duration::from_secs(1));
    bench.del(2, "pod-1");
    bench.run();
    bench.pass(20_000);
    bench.input(Input::Timer);
    bench.add_until(3, "pod-1", between, between.after(Duration::from_secs(75)));
    bench.run();
    assert!(matches!(refused(&bench, 3), Some(Cause::SandboxDeleted { .. })));
}

#[test]
fn del_of_an_earlier_life_come_late_leaves_the_present_one_alone() {
    let mut bench = booted();
    let before = bench.now;
    bench.now = before.after(Duration::from_secs(5));
    bench.add(1, "pod-1");
    bench.run();
    release(&mut bench, 2, "pod-1", before);
    assert_eq!(bench.answer(2), Some(Answer::Released(vec![])));
    assert!(bench.pool.inspect(&key("pod-1")).is_some());
}

#[test]
fn tombstones_are_forgotten_after_ten_minutes_and_bounded() {
    let mut bench = booted();
    bench.disk_holds = false;
    for n in 0..5_000u64 {
        bench.del(n, &format!("pod-{n}"));
        bench.run();
    }
    assert_eq!(bench.pool.stats().tombstones, 4_096);
    bench.now = bench.now.after(Duration::from_secs(601));
    bench.input(Input::Timer);
    assert_eq!(bench.pool.stats().tombstones, 0);
}

#[test]
fn waiting_adds_are_served_first_come_first_served_and_bounded() {
    let mut bench = booted();
    bench.ec2_holds = true;
    for n in 0..1_026u64 {
        bench.add(n, &format!("pod-{n}"));
    }
    // One address was in reserve: 1,024 wait, the next one is too many.
    assert_eq!(refused(&bench, 1_025), Some(Cause::QueueFull));
    bench.ec2_holds = false;
    bench.run();
    let served: Vec<u64> =
        (0..1_025).filter(|n| matches!(bench.answer(*n), Some(Answer::Allocated { .. }))).collect();
    assert_eq!(served, (0..9).collect::<Vec<_>>(), "the first nine fill the node");
    bench.pass(80_000);
    assert!(
        matches!(refused(&bench, 500), Some(Cause::NodeFull { held: 9, .. })),
        "{:?}",
        refused(&bench, 500)
    );
}

#[test]
fn add_is_refused_at_its_deadline_with_the_reason() {
    let mut bench = booted();
    bench.failures = vec![FailureClass::Throttled; 1_000];
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(76_000);
    assert_eq!(refused(&bench, 3), Some(Cause::Throttled { action: "AssignPrivateIpAddresses" }));
}

#[test]
fn abandoned_add_leaves_the_queue() {
    let mut bench = booted();
    bench.ec2_holds = true;
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.input(Input::Abandon { request: RequestId(3) });
    assert_eq!(bench.pool.stats().waiting, 1);
    bench.ec2_holds = false;
    bench.run();
    assert_eq!(bench.answer(3), None);
    assert_eq!(bench.pool.stats().allocated, 2);
}

#[test]
fn gc_takes_only_older_attachments_of_its_network_that_are_not_listed() {
    let mut bench = booted();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    let listed_at = bench.now.after(Duration::from_secs(1));
    bench.now = listed_at.after(Duration::from_secs(1));
    bench.add(4, "pod-4");
    bench.run();
    collect(&mut bench, 10, "another-network", &[], listed_at);
    assert_eq!(bench.answer(10), Some(Answer::Collected(vec![])));
    collect(&mut bench, 11, "aws-cni", &["pod-1"], listed_at);
    assert_eq!(bench.answer(11), None, "not before it is durable");
    bench.run();
    assert_eq!(bench.answer(11), Some(Answer::Collected(vec![key("pod-2"), key("pod-3")])));
    assert!(bench.pool.inspect(&key("pod-1")).is_some());
    assert!(bench.pool.inspect(&key("pod-4")).is_some(), "younger than the list");
    assert!(bench.pool.inspect(&key("pod-2")).is_none());
}

#[test]
fn full_disk_refuses_adds_and_leaves_dels_to_the_plugin_until_it_heals() {
    let mut bench = booted();
    bench.add(1, "pod-1");
    bench.run();
    bench.disk_holds = true;
    bench.del(2, "pod-1");
    bench.add(3, "pod-2");
    let revision = bench.pool.stats().revision;
    bench.input(Input::PersistFailed { revision, reason: "no space".into() });
    for request in [2, 3] {
        assert!(
            matches!(refused(&bench, request), Some(Cause::LedgerUnwritable { .. })),
            "request {request}"
        );
    }
    bench.add(4, "pod-3");
    assert!(matches!(refused(&bench, 4), Some(Cause::LedgerUnwritable { .. })), "at once");
    bench.disk_holds = false;
    bench.run();
    bench.del(5, "pod-1");
    bench.run();
    assert!(matches!(bench.answer(5), Some(Answer::Released(_))));
    bench.add(6, "pod-4");
    bench.run();
    assert!(matches!(bench.answer(6), Some(Answer::Allocated { .. })));
}

#[test]
fn stopping_pool_serves_what_it_has_and_calls_nobody() {
    let mut bench = booted();
    bench.input(Input::Stop);
    let calls = bench.all_calls.len();
    bench.add(1, "pod-1");
    bench.run();
    assert!(matches!(bench.answer(1), Some(Answer::Allocated { .. })));
    bench.add(2, "pod-2");
    bench.run();
    assert_eq!(refused(&bench, 2), Some(Cause::Stopping));
    bench.del(3, "pod-1");
    bench.run();
    assert!(matches!(bench.answer(3), Some(Answer::Released(a)) if a.len() == 1));
    bench.pass(600_000);
    assert_eq!(bench.all_calls.len(), calls, "no EC2 call after stop");
}

#[test]
fn lost_answer_counts_as_unknown_and_one_describe_decides() {
    let mut bench = booted();
    bench.ec2_holds = true;
    bench.add(1, "pod-1");
    bench.add(2, "pod-2");
    bench.run();
    bench.pending.clear();
    bench.ec2_holds = false;
    bench.pass(121_000);
    assert!(bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Describe { .. })));
    bench.add(3, "pod-3");
    bench.pass(5_000);
    assert!(matches!(bench.answer(3), Some(Answer::Allocated { .. })));
}

#[test]
fn released_address_is_flushed_rests_and_is_used_last() {
    let mut bench = booted();
    bench.add(1, "pod-1");
    bench.run();
    let Some(Answer::Allocated { addresses, .. }) = bench.answer(1) else { panic!("no address") };
    bench.del(2, "pod-1");
    bench.run();
    let address = addresses[0];
    assert!(bench.all_hosts.contains(&HostChange::Flush { address }));
    bench.add(3, "pod-2");
    bench.run();
    let Some(Answer::Allocated { addresses: other, .. }) = bench.answer(3) else { panic!("no address") };
    assert_ne!(other[0], address, "it still cools");
}

#[test]
fn reserve_of_the_subnet_runs_out_and_the_cause_says_so() {
    let mut bench = booted();
    bench.free_addresses = 0;
    for n in 1..=2 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(76_000);
    assert!(matches!(refused(&bench, 2), Some(Cause::SubnetExhausted { .. })), "{:?}", refused(&bench, 2));
    bench.free_addresses = 100;
    bench.add(3, "pod-3");
    bench.pass(31_000);
    assert!(matches!(bench.answer(3), Some(Answer::Allocated { .. })), "recovers within its back-off");
}

/// Two callers wait for the same DEL and one goes away: the other is answered, and only that one.
#[test]
fn caller_of_a_del_that_goes_away_takes_nobody_with_it() {
    let mut bench = booted();
    bench.disk_holds = true;
    bench.del(1, "pod-1");
    bench.del(2, "pod-1");
    bench.input(Input::Abandon { request: RequestId(1) });
    bench.disk_holds = false;
    bench.run();
    assert_eq!((bench.answer(1), bench.answer(2)), (None, Some(Answer::Released(vec![]))));
}
