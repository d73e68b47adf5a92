//! The main path through the public door: boot, grow, allocate, release, give back.

use crate::bench::{Bench, settings};
use podwire_pool::{Answer, Ec2Call, Effect, GrowBy, HostChange, Input, Record};

#[test]
fn fresh_instance_serves_its_first_pod_after_one_assign() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    assert!(matches!(bench.hosts(), [HostChange::ConfigureEni { .. }]), "the primary is configured");
    assert!(matches!(bench.calls(), [Ec2Call::Assign { by: GrowBy::Addresses(1), .. }]));
    bench.add(1, "pod-1");
    bench.run();
    let Some(Answer::Allocated { addresses, is_new: true, .. }) = bench.answer(1) else {
        panic!("no address: {:?}", bench.answer(1))
    };
    assert_eq!(addresses.len(), 1);
    assert!(bench.pool.stats().ready);
}

#[test]
fn repeated_add_gives_the_same_answer() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.add(1, "pod-1");
    bench.run();
    bench.add(2, "pod-1");
    bench.run();
    let (Some(Answer::Allocated { addresses: a, .. }), Some(Answer::Allocated { addresses: b, is_new, .. })) =
        (bench.answer(1), bench.answer(2))
    else {
        panic!("no addresses")
    };
    assert_eq!(a, b);
    assert!(!is_new);
}

#[test]
fn reply_waits_for_its_revision() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.disk_holds = true;
    bench.add(1, "pod-1");
    bench.run();
    assert_eq!(bench.answer(1), None, "nothing is shown before it is durable");
    bench.disk_holds = false;
    bench.run();
    assert!(matches!(bench.answer(1), Some(Answer::Allocated { .. })));
}

#[test]
fn more_pods_than_the_primary_holds_bring_a_second_eni() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    for n in 1..=5 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    for n in 1..=5 {
        assert!(matches!(bench.answer(n), Some(Answer::Allocated { .. })), "pod {n}: {:?}", bench.answer(n));
    }
    assert!(bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Attach { .. })));
    assert!(bench.all_calls.iter().any(|c| matches!(c, Ec2Call::DeleteOnTermination { .. })));
    let intent = bench.log.iter().position(|r| matches!(r, Record::Intent { create: Some(_), .. }));
    assert!(intent.is_some(), "a create is announced to the ledger");
}

#[test]
fn everything_goes_back_after_the_pods_are_gone() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    for n in 1..=7 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    for n in 1..=7 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.run();
    assert!(matches!(bench.answer(101), Some(Answer::Released(a)) if a.len() == 1));
    let flushed = bench.all_hosts.iter().filter(|h| matches!(h, HostChange::Flush { .. })).count();
    assert_eq!(flushed, 7);
    bench.pass(75_000);
    let stats = bench.pool.stats();
    assert_eq!(stats.enis, 1, "secondary ENIs left: {:?}", bench.all_calls);
    assert!(stats.assigned <= 2, "{stats:?}");
    assert!(bench.all_hosts.iter().any(|h| matches!(h, HostChange::RemoveEni { .. })));
}

#[test]
fn prefixes_serve_sixteen_pods_each() {
    let mut settings = settings();
    settings.mode = podwire_pool::settings::Mode::Prefix;
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    for n in 1..=20 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    for n in 1..=20 {
        assert!(matches!(bench.answer(n), Some(Answer::Allocated { .. })), "pod {n}: {:?}", bench.answer(n));
    }
    assert_eq!(bench.pool.stats().prefixes, 2);
}

#[test]
fn recovered_from_a_snapshot_the_pool_knows_the_same() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.del(10, "pod-2");
    bench.run();
    let before = bench.pool.rows();
    let log = bench.log.clone();
    let snapshot = bench.pool.snapshot();
    for records in [snapshot, log] {
        bench.restart(records);
        let held = |rows: &[podwire_pool::AddressRow]| {
            rows.iter().filter_map(|r| Some((r.address, r.sandbox.clone()?))).collect::<Vec<_>>()
        };
        let after = bench.pool.rows();
        assert_eq!(
            after.iter().map(|r| r.address).collect::<Vec<_>>(),
            before.iter().map(|r| r.address).collect::<Vec<_>>()
        );
        let pods = |rows| held(rows).into_iter().filter(|(_, k)| !k.container_id.is_empty()).count();
        assert!(pods(&after) >= 3, "{after:?}");
        bench.see_metadata();
        bench.add(50, "pod-1");
        bench.run();
        assert!(matches!(bench.answer(50), Some(Answer::Allocated { is_new: false, .. })));
        bench.answers.clear();
    }
}

#[test]
fn timer_alone_changes_nothing() {
    let mut bench = Bench::new(settings());
    let mut effects = Vec::new();
    bench.pool.handle(bench.now, Input::Timer, &mut effects);
    assert!(effects.iter().all(|e| matches!(e, Effect::Explain(_))), "{effects:?}");
}
