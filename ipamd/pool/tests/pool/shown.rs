//! What people and programs are shown: names that stay, rows that add up.

use podwire_pool::settings::{Share, Warm};
use podwire_pool::{
    AddressState, Cause, EniId, FailureClass, GrowthNow, Input, LeakVerdict, RequestId, Settings, Time,
};

use crate::bench::{Bench, key, settings};
use crate::scenes::booted;

/// Programs read these names: they never change.
#[test]
fn names_for_programs_are_stable() {
    let states = [
        (AddressState::Preparing, "preparing"),
        (AddressState::Free, "free"),
        (AddressState::Allocating, "allocating"),
        (AddressState::Allocated, "allocated"),
        (AddressState::Releasing, "releasing"),
        (AddressState::Cooling, "cooling"),
        (AddressState::Unassigning, "unassigning"),
        (AddressState::Quarantined, "quarantined"),
    ];
    for (state, name) in states {
        assert_eq!(state.name(), name);
    }
    let until = Time::from_ms(1);
    let growth = [
        (GrowthNow::Blind, "blind"),
        (GrowthNow::Satisfied, "satisfied"),
        (GrowthNow::Gathering { until }, "gathering"),
        (GrowthNow::InFlight, "in-flight"),
        (GrowthNow::Waiting { until, cause: Cause::Starting }, "waiting"),
        (GrowthNow::Full, "full"),
        (GrowthNow::Halted, "halted"),
    ];
    for (growth, name) in growth {
        assert_eq!(growth.name(), name);
    }
    let owner = podwire_pool::InstanceId::new("i-2");
    assert_eq!(LeakVerdict::OwnerAlive(owner).name(), "owner-exists");
}

/// Every address is in the state that says what becomes of it next.
#[test]
fn rows_say_what_an_address_waits_for() {
    let states = |bench: &Bench, id: &str| -> Vec<AddressState> {
        bench.pool.rows().iter().filter(|row| row.eni == EniId::new(id)).map(|row| row.state).collect()
    };
    let mut bench = Bench::new(settings());
    bench.host_holds = true;
    bench.see_metadata();
    bench.run();
    assert_eq!(states(&bench, "eni-0"), [AddressState::Preparing]);
    bench.host_holds = false;
    bench.run();
    assert_eq!(states(&bench, "eni-0"), [AddressState::Free]);
    bench.disk_holds = true;
    bench.add(1, "pod-1");
    assert!(states(&bench, "eni-0").contains(&AddressState::Allocating));
    bench.disk_holds = false;
    for n in 2..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.broken = Some("RemoveEni");
    for n in 2..=4 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    let leaving = |bench: &Bench| bench.pool.eni_rows().iter().any(|row| row.stage == "leaving");
    for _ in 0..600 {
        if leaving(&bench) {
            break;
        }
        bench.pass(500);
    }
    assert!(leaving(&bench));
    assert!(states(&bench, "eni-1").iter().all(|state| *state == AddressState::Unassigning));
}

/// Held are all that a sandbox still has, also while its end is not on disk; nothing is in flight at rest.
#[test]
fn eni_rows_and_holdings_count_what_sandboxes_have() {
    let mut bench = booted();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.pass(60_000);
    assert_eq!(bench.pool.stats().in_flight, 0);
    let (_, holdings) = bench.pool.holdings();
    assert_eq!(holdings.len(), 3);
    bench.disk_holds = true;
    bench.del(11, "pod-1");
    bench.del(12, "pod-2");
    let held: u32 = bench.pool.eni_rows().iter().map(|row| row.held).sum();
    assert_eq!(held, 3, "{:?}", bench.pool.eni_rows());
}

/// A disk that works again is no trouble any more.
#[test]
fn trouble_with_the_disk_ends_with_it() {
    let mut bench = booted();
    bench.disk_holds = true;
    bench.add(1, "pod-1");
    let revision = bench.pool.stats().revision;
    bench.input(Input::PersistFailed { revision, reason: "no space".into() });
    assert!(matches!(bench.pool.stats().failure, Some(Cause::LedgerUnwritable { .. })));
    bench.disk_holds = false;
    bench.pass(60_000);
    bench.add(2, "pod-2");
    bench.run();
    assert_eq!(bench.pool.stats().failure, None);
}

/// The same request twice is one request.
#[test]
fn repeated_request_is_answered_once() {
    let mut bench = booted();
    bench.ec2_holds = true;
    for _ in 0..2 {
        bench.add(1, "pod-1");
        bench.add(2, "pod-2");
    }
    assert_eq!(bench.pool.stats().waiting, 1);
    bench.ec2_holds = false;
    bench.run();
    assert!(bench.answer(2).is_some());
}

/// More callers than are taken in at once are told to come again.
#[test]
fn callers_beyond_the_bound_are_turned_away() {
    let mut bench = booted();
    bench.disk_holds = true;
    for n in 0..4_096 {
        bench.del(n, "pod-unknown");
    }
    bench.add(5_000, "pod-1");
    let full = podwire_pool::Answer::Refused(Cause::QueueFull);
    assert_eq!(bench.answer(5_000), Some(full));
}

/// A sandbox's next life begins when the end of the one before is on disk.
#[test]
fn next_life_waits_for_the_end_of_the_one_before() {
    let mut bench = booted();
    bench.add(1, "pod-1");
    bench.run();
    bench.disk_holds = true;
    bench.del(2, "pod-1");
    bench.now = bench.now.after(std::time::Duration::from_secs(1));
    bench.add(3, "pod-1");
    bench.run();
    assert_eq!(bench.answer(3), None);
    bench.disk_holds = false;
    bench.pass(1_000);
    assert!(matches!(bench.answer(3), Some(podwire_pool::Answer::Allocated { is_new: true, .. })));
    assert!(bench.pool.inspect(&key("pod-1")).is_some());
    bench.input(Input::Abandon { request: RequestId(3) });
}

/// After a throttle the reserve rests; what is known to be needed waits only as long as EC2 asks for.
#[test]
fn reserve_rests_longer_after_a_throttle_than_what_is_needed() {
    let waits = |warm: Warm, bound: Option<u32>| {
        let share = Share { nodes: Some(2), percent: 100 };
        let mut bench = Bench::new(Settings { warm, share, ..settings() });
        bench.see_metadata();
        bench.run();
        bench.pass(60_000);
        bench.failures = vec![FailureClass::Throttled];
        bench.add(1, "pod-1");
        bench.run();
        assert!(bench.failures.is_empty(), "it was throttled");
        bench.input(Input::Demand { bound });
        let (calls, began) = (bench.all_calls.len(), bench.now);
        while bench.all_calls.len() == calls {
            bench.pass(100);
        }
        bench.now.since(began).as_millis()
    };
    let reserve = waits(Warm::DemandDriven, None);
    assert_eq!(waits(Warm::DemandDriven, Some(1)), reserve, "the one pod there is has its address");
    assert!(waits(Warm::DemandDriven, Some(2)) < reserve);
    let targets = |ip, minimum| Warm::Targets { ip, minimum, eni: 0, prefix: 0 };
    assert_eq!(waits(targets(1, 1), None), reserve, "the minimum is there");
}

/// Numbers of the present state tell what is under way, what is on disk and why growth waits.
#[test]
fn stats_tell_what_is_under_way_and_what_is_on_disk() {
    let mut bench = booted();
    bench.run();
    let stats = bench.pool.stats();
    assert_eq!((stats.in_flight, stats.durable), (0, stats.revision), "{stats:?}");
    bench.disk_holds = true;
    bench.ec2_holds = true;
    bench.add(1, "pod-1");
    let stats = bench.pool.stats();
    assert!(stats.in_flight > 0 && stats.durable < stats.revision, "{stats:?}");
    assert_eq!(stats.growth_waits, None);
    bench.disk_holds = false;
    bench.ec2_holds = false;
    bench.failures = vec![FailureClass::Denied; 100];
    bench.add(2, "pod-2");
    bench.run();
    bench.pass(1_000);
    assert!(
        matches!(bench.pool.stats().growth_waits, Some(Cause::Denied { .. })),
        "{:?}",
        bench.pool.stats()
    );
}
