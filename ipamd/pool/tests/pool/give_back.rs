//! What nobody needs goes back, with nothing but the pool's own deadlines to wake it.

use std::time::Duration;

use podwire_pool::Ec2Call;
use podwire_pool::settings::{Limits, Mode};

use crate::bench::{Bench, settings};

/// A t3.micro in prefix mode after a burst of 19 pods has ended: two ENIs with a prefix each become one.
#[test]
fn second_eni_of_prefixes_goes_back_after_a_burst() {
    let mut settings = settings();
    settings.mode = Mode::Prefix;
    settings.limits = Limits { enis: 2, ipv4_per_eni: 2 };
    settings.max_pods = 34;
    settings.cooldown = Duration::from_secs(8);
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    bench.run();
    for n in 1..=19 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    assert_eq!(bench.pool.stats().allocated, 19);
    for n in 1..=19 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.run();
    let began = bench.now;
    while bench.now.since(began) < Duration::from_secs(45) {
        let Some(due) = bench.pool.next_deadline() else {
            panic!("nothing will ever wake the pool: {:?}", bench.pool.stats())
        };
        if due > bench.now {
            bench.now = due;
        }
        bench.input(podwire_pool::Input::Timer);
        bench.run();
        if bench.enis.len() == 1 {
            return;
        }
    }
    panic!("two ENIs are kept: {:?}", bench.pool.stats());
}

/// C26: the device of a new ENI never appears. It is tried again for minutes, then the ENI goes back; the pod that waited for
/// it is told why.
#[test]
fn eni_whose_device_never_appears_goes_back() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.host_fails = true;
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(80_000);
    let refused = (1..=4).filter_map(|n| match bench.answer(n) {
        Some(podwire_pool::Answer::Refused(cause)) => Some(cause),
        _ => None,
    });
    let refused: Vec<podwire_pool::Cause> = refused.collect();
    assert!(matches!(refused.as_slice(), [podwire_pool::Cause::Host { .. }]), "{refused:?}");
    bench.pass(1_800_000);
    assert!(bench.removed.contains(&podwire_pool::EniId::new("eni-1")), "{:?}", bench.pool.stats());
}

/// C26, economy: where no new ENI can be used, ENIs are not made and given back for ever at one pace; when the host works
/// again, growth goes on.
#[test]
fn enis_the_host_cannot_use_are_made_less_and_less_often() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.host_fails = true;
    let mut number = 0;
    let mut creates = |bench: &mut Bench, minutes: u64| {
        let made =
            |bench: &Bench| bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Create { .. })).count();
        let before = made(bench);
        for _ in 0..minutes {
            // Pods come again and again, as a kubelet's do.
            for _ in 0..4 {
                number += 1;
                bench.add(number, &format!("pod-{number}"));
            }
            bench.pass(60_000);
        }
        made(bench) - before
    };
    let (first, later) = (creates(&mut bench, 30), creates(&mut bench, 30));
    // It was 64 in each half hour.
    assert!((2..=16).contains(&first) && (1..=10).contains(&later), "{first}, then {later}");
    bench.host_fails = false;
    bench.pass(600_000);
    assert!(bench.pool.stats().enis > 1, "{:?}", bench.pool.stats());
}

/// The node is cordoned, which may be its end: nothing goes back, neither an ENI nor an address. Afterwards it does.
#[test]
fn cordoned_node_gives_nothing_back() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    for n in 1..=6 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.input(podwire_pool::Input::Cordoned(true));
    for n in 1..=6 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.pass(3_600_000);
    let gives =
        |c: &Ec2Call| matches!(c, Ec2Call::Unassign { .. } | Ec2Call::Detach { .. } | Ec2Call::Delete { .. });
    assert!(!bench.all_calls.iter().any(gives), "{:?}", bench.all_calls);
    bench.input(podwire_pool::Input::Cordoned(false));
    bench.pass(600_000);
    assert!(bench.all_calls.iter().any(gives));
}

/// An ENI of ours that carries nothing was attached by others, or was left empty: it goes when its time has come, although
/// nothing is in excess on it.
#[test]
fn eni_that_carries_nothing_goes_back() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.pass(20_000);
    let found = crate::bench::eni("eni-7", 1);
    bench.enis.insert(found.id.clone(), found.clone());
    bench.describe();
    bench.pass(120_000);
    assert!(bench.removed.contains(&found.id), "{:?}", bench.pool.eni_rows());
}

/// A give-back waits for the disk when the daemon is told to stop: it is not sent, what was to go stays in use, and the ledger
/// says that nothing came of it.
#[test]
fn give_back_that_the_disk_holds_is_not_sent_by_a_stopping_daemon() {
    let warm = podwire_pool::settings::Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 };
    let limits = Limits { enis: 1, ipv4_per_eni: 4 };
    let mut bench = Bench::new(podwire_pool::Settings { warm, limits, ..settings() });
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    for n in 1..=3 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    bench.run();
    bench.disk_holds = true;
    bench.pass(100_000);
    let intended = |bench: &Bench| {
        bench.log.iter().rev().find_map(|r| match r {
            podwire_pool::Record::Intent { op, create: None, .. } => Some(*op),
            _ => None,
        })
    };
    let op = intended(&bench).expect("a give-back waits for the disk");
    bench.input(podwire_pool::Input::Stop);
    bench.disk_holds = false;
    bench.run();
    assert!(!bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Unassign { .. })), "{:?}", bench.all_calls);
    assert!(bench.log.contains(&podwire_pool::Record::Settled { op }));
    let going = |row: &podwire_pool::AddressRow| row.state == podwire_pool::AddressState::Unassigning;
    assert!(!bench.pool.rows().iter().any(going), "{:?}", bench.pool.rows());
}

/// A node whose subnet had no /28 for a while holds prefixes and single addresses on one ENI. EC2 takes one kind in a call,
/// so they go in two, none of which fails; only the reserve is left.
#[test]
fn prefix_and_single_addresses_go_back_in_two_calls() {
    let mut settings = settings();
    settings.mode = Mode::Prefix;
    settings.limits = Limits { enis: 2, ipv4_per_eni: 20 };
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    bench.run();
    for n in 1..=40 {
        bench.fragmented = n > 32;
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let own = bench.enis.values().next().unwrap();
    assert!(own.prefixes.len() > 1 && own.addresses.len() >= 8, "{own:?}");
    for n in 1..=40 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.pass(600_000);
    let unassigns: Vec<_> =
        bench.all_calls.iter().filter(|call| matches!(call, Ec2Call::Unassign { .. })).collect();
    assert!(unassigns.len() <= 4, "{unassigns:?}");
    let own = bench.enis.values().next().unwrap();
    assert!(own.prefixes.len() + own.addresses.len() <= 2, "{own:?}");
    assert!(!bench.causes.iter().any(|c| matches!(c, podwire_pool::Cause::Ec2 { .. })), "{:?}", bench.causes);
}
