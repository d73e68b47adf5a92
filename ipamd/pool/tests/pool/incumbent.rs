//! The incumbent's documented end states, with its settings (incumbent-testcases A13, B).

use podwire_pool::settings::{Limits, Warm};
use podwire_pool::{Answer, Ec2Call, GrowBy};

use crate::bench::{Bench, settings};

fn boot(limits: Limits, warm: Warm) -> Bench {
    let mut settings = settings();
    settings.limits = limits;
    settings.warm = warm;
    settings.max_pods = limits.enis * (limits.ipv4_per_eni - 1) + 2;
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    bench.run();
    bench
}

/// A13: type, E, W, M, pods → ENIs, attached secondary addresses.
#[test]
fn end_states_are_those_of_the_documentation_tables() {
    let small = Limits { enis: 3, ipv4_per_eni: 4 };
    let large = Limits { enis: 15, ipv4_per_eni: 50 };
    for (limits, eni, ip, minimum, pods, enis, addresses) in [
        (small, 1, 0, 0, 0, 1, 3),
        (small, 1, 0, 0, 5, 3, 9),
        (small, 1, 0, 0, 9, 3, 9),
        (small, 0, 1, 1, 0, 1, 1),
        (small, 0, 1, 1, 5, 2, 6),
        (small, 0, 1, 1, 9, 3, 9),
        (small, 0, 2, 5, 0, 2, 5),
        (small, 0, 2, 5, 5, 3, 7),
        (small, 0, 2, 5, 9, 3, 9),
        (large, 1, 0, 0, 0, 1, 49),
        (large, 1, 0, 0, 3, 2, 98),
        (large, 1, 0, 0, 95, 3, 147),
        (large, 0, 5, 10, 0, 1, 10),
        (large, 0, 5, 10, 7, 1, 12),
        (large, 0, 5, 10, 15, 1, 20),
        (large, 0, 5, 10, 45, 2, 50),
    ] {
        let mut bench = boot(limits, Warm::Targets { ip, minimum, eni, prefix: 1 });
        for n in 1..=pods {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
        }
        bench.pass(300_000);
        let stats = bench.pool.stats();
        let case = format!("{limits:?} E={eni} W={ip} M={minimum} pods={pods}");
        assert_eq!((stats.enis, stats.assigned), (enis, addresses), "{case}");
        let served =
            (1..=pods).filter(|n| matches!(bench.answer(*n), Some(Answer::Allocated { .. }))).count();
        assert_eq!(u64::try_from(served).unwrap(), pods, "{case}");
    }
}

/// The same end states on the way down: pods go, and what the targets do not ask for goes too.
#[test]
fn end_states_hold_on_the_way_down() {
    let small = Limits { enis: 3, ipv4_per_eni: 4 };
    for (eni, ip, minimum, enis, addresses) in [(1, 0, 0, 1, 3), (0, 1, 1, 1, 1), (0, 2, 5, 2, 5)] {
        let mut bench = boot(small, Warm::Targets { ip, minimum, eni, prefix: 1 });
        for n in 1..=9 {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
        }
        for n in 1..=9 {
            bench.del(100 + n, &format!("pod-{n}"));
        }
        bench.pass(900_000);
        let stats = bench.pool.stats();
        assert_eq!((stats.enis, stats.assigned), (enis, addresses), "E={eni} W={ip} M={minimum}");
    }
}

/// B02, B07: a new ENI comes with what is wanted of it.
#[test]
fn new_eni_carries_what_is_wanted() {
    let limits = Limits { enis: 4, ipv4_per_eni: 15 };
    for (warm, with) in [
        (Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 }, 14),
        (Warm::Targets { ip: 3, minimum: 0, eni: 0, prefix: 0 }, 3),
    ] {
        let mut bench = boot(limits, warm);
        for n in 1..=14 {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
            if bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. })) {
                break;
            }
        }
        let created = bench.all_calls.iter().find_map(|c| match c {
            Ec2Call::Create { with: GrowBy::Addresses(n), .. } => Some(*n),
            _ => None,
        });
        assert!(created.is_some_and(|n| n <= with), "{warm:?}: {created:?}");
    }
}
