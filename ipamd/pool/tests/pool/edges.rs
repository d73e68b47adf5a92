//! Small decisions at the edges, each of which mutation testing found unguarded.

use std::net::IpAddr;
use std::time::Duration;

use podwire_pool::settings::{Limits, Warm};
use podwire_pool::{
    Answer, Cause, Ec2Answer, Ec2Call, Ec2Failure, Effect, FailureClass, Input, RequestId, Settings,
};

use crate::bench::{Bench, key, settings};
use crate::scenes::booted;

/// A sandbox that was deleted stays deleted; everything else may turn out well later.
#[test]
fn only_a_deleted_sandbox_is_not_worth_another_try() {
    assert!(!Cause::SandboxDeleted { sandbox: key("pod-1") }.retry());
    assert!(Cause::NoSubnet.retry() && Cause::Starting.retry());
}

/// Two callers ask for the same sandbox and one goes away: the other is answered, and only that one.
#[test]
fn caller_that_goes_away_takes_nobody_with_it() {
    let mut bench = booted();
    bench.disk_holds = true;
    for request in [1, 2] {
        bench.add(request, "pod-1");
    }
    bench.input(Input::Abandon { request: RequestId(1) });
    bench.disk_holds = false;
    bench.run();
    assert_eq!(bench.answer(1), None);
    assert!(matches!(bench.answer(2), Some(Answer::Allocated { .. })), "{:?}", bench.answer(2));
}

/// A DEL and an ADD of the same moment: that ADD is of the life that ends.
#[test]
fn add_as_old_as_the_del_is_turned_away() {
    let mut bench = Bench::new(settings());
    bench.add(1, "pod-1");
    bench.del(2, "pod-1");
    bench.run();
    let refused = Some(Answer::Refused(Cause::SandboxDeleted { sandbox: key("pod-1") }));
    assert_eq!(bench.answer(1), refused);
}

/// The DEL of an unknown sandbox is remembered across a restart: an ADD that began before it gets nothing.
#[test]
fn tombstone_survives_a_restart() {
    let mut bench = booted();
    let before = bench.now;
    bench.pass(1_000);
    bench.del(1, "pod-1");
    bench.run();
    for records in [bench.log.clone(), bench.pool.snapshot()] {
        bench.restart(records);
        bench.answers.clear();
        bench.add_until(2, "pod-1", before, bench.now.after(Duration::from_secs(60)));
        bench.run();
        let refused = Some(Answer::Refused(Cause::SandboxDeleted { sandbox: key("pod-1") }));
        assert_eq!(bench.answer(2), refused);
    }
}

/// Numbers of the present state are sums over all ENIs, whichever state an address is in.
#[test]
fn numbers_are_sums_over_all_enis() {
    let limits = Limits { enis: 2, ipv4_per_eni: 3 };
    let mut bench = Bench::new(Settings { limits, ..settings() });
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    let stats = bench.pool.stats();
    assert_eq!((stats.enis, stats.assigned, stats.allocated, stats.free), (2, 4, 4, 0), "{stats:?}");
    bench.disk_holds = true;
    for n in 1..=4 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    let stats = bench.pool.stats();
    assert_eq!((stats.releasing, stats.cooling), (4, 0), "{stats:?}");
    bench.disk_holds = false;
    bench.run();
    let stats = bench.pool.stats();
    assert_eq!((stats.releasing, stats.cooling, stats.allocated), (0, 4, 0), "{stats:?}");
}

/// Pods that are bound to the node and not wired yet are grown for, before any of them asks.
#[test]
fn bound_pods_are_grown_for() {
    let mut bench = booted();
    bench.input(Input::Demand { bound: Some(6) });
    bench.run();
    let stats = bench.pool.stats();
    assert!(stats.free >= 6 && stats.enis == 3, "{stats:?}");
}

/// A give-back whose outcome is unknown is repeated for the same addresses, and they are gone in the end.
#[test]
fn give_back_of_unknown_outcome_is_repeated() {
    let warm = Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 };
    let mut bench = Bench::new(Settings { warm, ..settings() });
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    for n in 1..=3 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    bench.ec2_holds = true;
    bench.pass(100_000);
    let asked = |bench: &Bench| {
        let nets = bench.all_calls.iter().filter_map(|call| match call {
            Ec2Call::Unassign { nets, .. } => Some(nets.clone()),
            _ => None,
        });
        nets.collect::<Vec<_>>()
    };
    let first = asked(&bench).pop().unwrap();
    // Nothing was done, and nobody said so.
    let open = std::mem::take(&mut bench.pending);
    for effect in open {
        if let Effect::Ec2 { op, .. } = effect {
            let lost = Ec2Failure { class: FailureClass::Unknown, code: "t".into(), message: "t".into() };
            bench.input(Input::Ec2 { op, outcome: Err(lost) });
        }
    }
    bench.ec2_holds = false;
    bench.pass(60_000);
    assert!(asked(&bench).len() >= 2 && asked(&bench)[1..].contains(&first), "{:?}", asked(&bench));
    let left: Vec<IpAddr> = bench.pool.rows().iter().map(|row| row.address).collect();
    assert!(first.iter().all(|net| !left.contains(&net.ip())), "{left:?}");
}

/// An answer of another kind than the question is as good as none: the addresses in it are not believed.
#[test]
fn odd_answer_is_no_answer() {
    let mut bench = Bench::new(settings());
    bench.ec2_holds = true;
    bench.see_metadata();
    bench.run();
    let open =
        bench.pending.iter().find_map(|e| if let Effect::Ec2 { op, .. } = e { Some(*op) } else { None });
    bench.pending.clear();
    bench.input(Input::Ec2 { op: open.unwrap(), outcome: Ok(Ec2Answer::Detached) });
    assert_eq!(bench.pool.stats().assigned, 0);
    assert!(bench.causes.iter().any(|cause| cause.name() == "ec2-error"), "{:?}", bench.causes);
}

/// One answer that leaves out an ENI which could not be attached is no proof that it is gone: it is used or deleted in the
/// end, and does not lie in the subnet for ever.
#[test]
fn created_eni_is_not_forgotten_for_one_answer_without_it() {
    let mut bench = Bench::new(settings());
    bench.broken = Some("Attach");
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(11_000);
    let made = bench.enis.values().find(|eni| !eni.attached).expect("one was made").id.clone();
    bench.left_out = Some(made.clone());
    bench.pass(60_000);
    assert_eq!(bench.left_out, None, "nobody looked");
    bench.broken = None;
    bench.pass(300_000);
    assert!(bench.enis.get(&made).is_none_or(|eni| eni.attached), "{:?}", bench.all_calls);
}
