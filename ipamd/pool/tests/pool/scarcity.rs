//! Nothing is free: what a pod that waits gets, when, and what it is told.

use podwire_pool::settings::{Limits, Mode};
use podwire_pool::{Answer, Cause, Ec2Call, EniId, FailureClass, GrowthNow, HostChange, Input, Settings};

use crate::bench::{Bench, settings};

/// A node of one ENI whose three addresses are held.
fn full() -> Bench {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 1, ipv4_per_eni: 4 }, ..settings() });
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    assert_eq!(bench.pool.stats().allocated, 3);
    bench
}

fn given(bench: &Bench, request: u64) -> bool {
    matches!(bench.answer(request), Some(Answer::Allocated { .. }))
}

fn cause(bench: &Bench) -> Cause {
    bench.pool.waiting_now().first().expect("a pod waits").cause.clone()
}

/// Design §7: where nothing is free and nothing can grow, the address that cooled longest is used after five seconds, and
/// that is counted.
#[test]
fn full_node_uses_what_cools_after_five_seconds_and_counts_it() {
    let mut bench = full();
    bench.del(11, "pod-1");
    bench.run();
    bench.add(4, "pod-4");
    bench.pass(4_999);
    assert!(!given(&bench, 4));
    bench.pass(1);
    assert!(given(&bench, 4));
    assert_eq!(bench.pool.stats().hurried, 1);
}

/// While something is on its way nobody is hurried: what cools goes on cooling.
#[test]
fn nothing_is_hurried_while_growth_is_under_way() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.pass(60_000);
    bench.ec2_holds = true;
    bench.del(11, "pod-1");
    bench.run();
    bench.add(4, "pod-4");
    bench.add(5, "pod-5");
    bench.pass(10_000);
    assert_eq!(bench.pool.stats().hurried, 0);
    bench.pass(25_000);
    assert_eq!(bench.pool.stats().hurried, 0);
    assert!(given(&bench, 4), "it has cooled in full");
}

/// A subnet without addresses and a role without permission are no growth either; throttling is, a little later.
#[test]
fn hurry_depends_on_why_nothing_grows() {
    for (class, hurried) in [
        (FailureClass::SubnetExhausted, 1),
        (FailureClass::Denied, 1),
        (FailureClass::Throttled, 0),
        (FailureClass::Busy, 0),
    ] {
        let mut bench = Bench::new(settings());
        bench.see_metadata();
        for n in 1..=3 {
            bench.add(n, &format!("pod-{n}"));
        }
        bench.run();
        bench.pass(60_000);
        bench.failures = vec![class; 100];
        for n in 1..=3 {
            bench.del(10 + n, &format!("pod-{n}"));
            bench.add(20 + n, &format!("pod-2{n}"));
        }
        bench.run();
        bench.pass(6_000);
        assert_eq!(bench.pool.stats().hurried.min(1), hurried, "{class:?}: {:?}", bench.pool.growth_now());
    }
}

/// What a pod that waits would be told now is what keeps it waiting.
#[test]
fn pod_that_waits_is_told_what_it_waits_for() {
    let mut bench = Bench::new(settings());
    bench.broken = Some("Describe");
    bench.add(1, "pod-1");
    assert_eq!(cause(&bench), Cause::Starting);
    let mut bench = full();
    bench.add(4, "pod-4");
    assert_eq!(cause(&bench), Cause::NodeFull { held: 3, capacity: 3 });
    bench.del(11, "pod-1");
    bench.run();
    assert_eq!(cause(&bench), Cause::NodeFull { held: 3, capacity: 3 }, "what cools is held, too");
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.ec2_holds = true;
    bench.add(1, "pod-1");
    assert!(matches!(cause(&bench), Cause::TooSlow { .. }), "{:?}", cause(&bench));
    bench.input(Input::Stop);
    assert_eq!(cause(&bench), Cause::Stopping);
}

/// A node whose last ENI the host cannot use is not full of pods: the pod that waits is told which ENI, and why.
#[test]
fn pod_is_told_of_the_eni_that_the_host_cannot_use() {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 2, ipv4_per_eni: 2 }, ..settings() });
    bench.see_metadata();
    bench.run();
    bench.host_fails = true;
    bench.add(1, "pod-1");
    bench.add(2, "pod-2");
    let told = |bench: &Bench| match cause(bench) {
        Cause::Host { eni, .. } => Some(eni),
        _ => None,
    };
    bench.pass(1_000);
    assert_eq!(told(&bench), Some(EniId::new("eni-1")), "{:?}", cause(&bench));
    bench.pass(20_000);
    assert_eq!(bench.pool.growth_now(), GrowthNow::Full);
    assert_eq!(told(&bench), Some(EniId::new("eni-1")), "{:?}", cause(&bench));
}

/// What the node can hold for pods: places on ENIs that carry pods, present and possible, up to max pods.
#[test]
fn capacity_is_what_the_enis_can_hold_for_pods() {
    let plain = settings();
    let prefixes = Settings { mode: Mode::Prefix, ..settings() };
    for (settings, capacity) in [
        (plain.clone(), 9),
        (Settings { max_pods: 5, ..plain.clone() }, 5),
        (Settings { max_eni: Some(2), ..plain.clone() }, 6),
        (Settings { primary_excluded: true, ..plain }, 6),
        (Settings { max_pods: 1_000, ..prefixes.clone() }, 144),
        (prefixes, 110),
    ] {
        let case = format!("{settings:?}");
        let mut bench = Bench::new(settings);
        bench.see_metadata();
        bench.run();
        assert_eq!(bench.pool.stats().capacity, capacity, "{case}");
        bench.add(1, "pod-1");
        bench.run();
        bench.pass(60_000);
        assert_eq!(bench.pool.stats().capacity, capacity, "{case}");
    }
}

/// Calls about one ENI that fail again and again do not stop the node: after three of them another ENI grows.
#[test]
fn eni_that_fails_three_times_is_not_waited_for() {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 3, ipv4_per_eni: 6 }, ..settings() });
    bench.see_metadata();
    bench.run();
    bench.pass(60_000);
    bench.broken = Some("Assign {");
    let assigns =
        |bench: &Bench| bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Assign { .. })).count();
    let creates = |bench: &Bench| bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. }));
    let before = assigns(&bench);
    for n in 1..=2 {
        bench.add(n, &format!("pod-{n}"));
    }
    for _ in 0..60 {
        if creates(&bench) {
            break;
        }
        bench.pass(500);
    }
    assert!(creates(&bench), "{:?}", bench.pool.growth_now());
    let tried = assigns(&bench) - before;
    assert_eq!(tried, 3);
}

/// EC2 does not say what became of a call for an ENI: after ten seconds the others grow instead.
#[test]
fn eni_in_doubt_for_long_is_not_waited_for() {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 3, ipv4_per_eni: 6 }, ..settings() });
    bench.see_metadata();
    bench.run();
    bench.pass(60_000);
    bench.broken = Some("Describe");
    bench.failures = vec![FailureClass::Unknown];
    for n in 1..=2 {
        bench.add(n, &format!("pod-{n}"));
    }
    let creates = |bench: &Bench| bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. }));
    bench.pass(9_500);
    assert!(!creates(&bench), "it may still help");
    bench.pass(3_000);
    assert!(creates(&bench), "{:?}", bench.pool.growth_now());
}

/// An address whose flush fails is flushed three times in all, then left to time.
#[test]
fn failing_flush_is_tried_three_times() {
    let mut bench = full();
    bench.broken = Some("Flush");
    bench.del(11, "pod-1");
    bench.run();
    let flushes = bench.all_hosts.iter().filter(|c| matches!(c, HostChange::Flush { .. })).count();
    assert_eq!(flushes, 3);
    bench.add(4, "pod-4");
    bench.pass(31_000);
    assert!(given(&bench, 4));
}

/// A stopping daemon turns nobody away for whom a call is under way.
#[test]
fn stopping_daemon_refuses_nobody_before_its_call_has_ended() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.ec2_holds = true;
    bench.add(1, "pod-1");
    bench.add(2, "pod-2");
    bench.run();
    bench.input(Input::Stop);
    assert_eq!(bench.answer(2), None);
    bench.ec2_holds = false;
    bench.run();
    assert!(bench.answer(2).is_some());
}

/// An address whose connections are not known to be forgotten is not used, however long it has cooled.
#[test]
fn address_rests_until_its_flush_is_answered() {
    let mut bench = full();
    bench.host_holds = true;
    bench.del(11, "pod-1");
    bench.run();
    bench.add(4, "pod-4");
    bench.pass(45_000);
    assert!(!given(&bench, 4));
    bench.host_holds = false;
    bench.pass(2_000);
    assert!(given(&bench, 4));
}

/// An instance type whose ENIs have no place beside their own address can hold no pod: nothing is asked for, and the pod is
/// told.
#[test]
fn instance_without_places_asks_for_nothing() {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 3, ipv4_per_eni: 1 }, ..settings() });
    bench.see_metadata();
    bench.add(1, "pod-1");
    bench.pass(60_000);
    assert_eq!(cause(&bench), Cause::NodeFull { held: 0, capacity: 0 });
    assert!(bench.all_calls.is_empty(), "{:?}", bench.all_calls);
}
