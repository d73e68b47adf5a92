//! Pods that come together cost one call (design D9, D11).

use std::time::Duration;

use crate::bench::{Bench, settings};
use podwire_pool::settings::{Limits, Mode, Settings};
use podwire_pool::{Answer, Ec2Call, GrowBy};

/// An m5.large: 3 ENIs with 10 addresses each.
fn m5_large(mode: Mode, max_pods: u32) -> Settings {
    Settings {
        mode,
        limits: Limits { enis: 3, ipv4_per_eni: 10 },
        max_pods,
        gather: Duration::from_millis(20),
        ..settings()
    }
}

fn mutating(bench: &Bench) -> Vec<&Ec2Call> {
    bench.all_calls.iter().filter(|c| !matches!(c, Ec2Call::Describe { .. })).collect()
}

fn served(bench: &Bench, pods: u64) -> bool {
    (1..=pods).all(|n| matches!(bench.answer(n), Some(Answer::Allocated { .. })))
}

/// C40b, boot without a launch prefix: 27 pods arrive one after the other while the daemon starts.
#[test]
fn pods_that_waited_for_the_daemon_cost_seven_calls_on_an_m5_large() {
    let mut bench = Bench::new(m5_large(Mode::SecondaryIp, 29));
    bench.see_metadata();
    assert!(bench.all_calls.is_empty(), "the first call waits for those who waited: {:?}", bench.all_calls);
    for n in 1..=27 {
        bench.add(n, &format!("pod-{n}"));
        bench.pass(2);
    }
    bench.pass(5_000);
    assert!(served(&bench, 27));
    assert!(matches!(mutating(&bench)[0], Ec2Call::Assign { by: GrowBy::Addresses(9), .. }));
    assert_eq!(mutating(&bench).len(), 7, "{:?}", mutating(&bench));
}

/// Plugins look for the daemon's socket again and again, and notice it one by one: whoever does so within 100 ms is counted
/// before anything is asked for.
#[test]
fn first_pod_of_a_boot_costs_one_call_however_soon_it_notices_the_daemon() {
    for notices in [0, 5, 30, 70, 95] {
        let mut bench = Bench::new(m5_large(Mode::SecondaryIp, 29));
        bench.see_metadata();
        bench.pass(notices);
        assert!(bench.all_calls.is_empty(), "before {notices} ms: {:?}", bench.all_calls);
        bench.add(1, "pod-1");
        bench.pass(20);
        assert!(served(&bench, 1), "no longer than the gap, after {notices} ms");
        bench.pass(5_000);
        assert_eq!(mutating(&bench).len(), 1, "after {notices} ms: {:?}", mutating(&bench));
    }
}

#[test]
fn prefixes_for_108_waiting_pods_cost_one_call() {
    let mut bench = Bench::new(m5_large(Mode::Prefix, 110));
    bench.see_metadata();
    for n in 1..=108 {
        bench.add(n, &format!("pod-{n}"));
        if n % 4 == 0 {
            bench.pass(2);
        }
    }
    bench.pass(5_000);
    assert!(served(&bench, 108));
    assert_eq!(mutating(&bench).len(), 1, "{:?}", mutating(&bench));
}

#[test]
fn single_pod_waits_one_gap_and_no_longer() {
    let mut bench = Bench::new(m5_large(Mode::SecondaryIp, 29));
    bench.see_metadata();
    bench.pass(1_000);
    bench.add(1, "pod-1");
    bench.run();
    assert!(served(&bench, 1), "the reserve serves it at once");
    bench.ec2_holds = true;
    bench.add(2, "pod-2");
    bench.add(3, "pod-3");
    bench.pass(19);
    let before = bench.all_calls.len();
    bench.pass(1);
    assert_eq!(bench.all_calls.len(), before + 1, "{:?}", bench.all_calls);
}

/// Pods that trickle in without end do not put the call off for ever.
#[test]
fn endless_burst_is_cut_after_five_gaps() {
    let mut bench = Bench::new(m5_large(Mode::SecondaryIp, 29));
    bench.see_metadata();
    for n in 1..=9 {
        bench.add(n, &format!("pod-{n}"));
        bench.pass(15);
        let asked = !bench.all_calls.is_empty();
        assert_eq!(asked, n >= 7, "after {} ms: {:?}", 15 * n, bench.all_calls);
    }
}

/// The timer that ends a burst is late, and a pod comes before it, at the burst's end or after: that one ends the burst just
/// so, and waits for nobody itself.
#[test]
fn pod_that_comes_before_a_late_timer_does_not_begin_the_burst_anew() {
    for late in [0, 1, 15] {
        let mut bench = Bench::new(m5_large(Mode::SecondaryIp, 29));
        bench.see_metadata();
        bench.pass(1_000);
        bench.add(1, "pod-1");
        bench.run();
        let before = bench.all_calls.len();
        for n in 2..=8 {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
            assert_eq!(bench.all_calls.len(), before, "pod {n}");
            bench.now = bench.now.after(Duration::from_millis(if n < 8 { 14 } else { 16 + late }));
        }
        bench.add(9, "pod-9");
        assert_eq!(bench.all_calls.len(), before + 1, "{late} ms late: {:?}", bench.all_calls);
    }
}

/// A node that is being filled asks for its next pods together with its first; one that was full for long does not.
#[test]
fn first_pods_of_a_node_are_asked_for_ahead() {
    let mut bench = Bench::new(m5_large(Mode::SecondaryIp, 29));
    bench.see_metadata();
    bench.run();
    bench.pass(1_000);
    let sizes = |bench: &Bench| {
        let by = bench.all_calls.iter().filter_map(|call| match call {
            Ec2Call::Assign { by: GrowBy::Addresses(n), .. } => Some(*n),
            _ => None,
        });
        by.collect::<Vec<_>>()
    };
    bench.add(1, "pod-1");
    bench.pass(1_000);
    assert_eq!(sizes(&bench), [1, 6], "two are short, four more are likely to come");
    for n in 2..=7 {
        bench.add(n, &format!("pod-{n}"));
        bench.pass(30_000);
    }
    assert_eq!(sizes(&bench).last(), Some(&2), "{:?}", sizes(&bench));
}

/// Pods for which the ENI that is just being filled has no place get another ENI at once, not when that call has ended.
#[test]
fn eni_is_made_while_the_last_places_of_another_are_being_filled() {
    let limits = Limits { enis: 3, ipv4_per_eni: 8 };
    let mut bench = Bench::new(Settings { limits, ..settings() });
    bench.see_metadata();
    bench.run();
    bench.ec2_holds = true;
    let creates = |bench: &Bench| bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. }));
    for n in 1..=7 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let assigned = bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Assign { .. })).count();
    assert_eq!(assigned, 2, "the reserve, and one call in flight: {:?}", bench.all_calls);
    bench.add(8, "pod-8");
    bench.run();
    assert!(creates(&bench), "{:?}", bench.all_calls);
}
