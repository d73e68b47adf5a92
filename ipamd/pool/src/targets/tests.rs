//! The arithmetic against the incumbent's tables (incumbent-testcases A) and over complete small domains.

mod domain;

use std::time::Duration;

use super::{Census, Verdict, ceiling, verdict};
use crate::ids::{BootId, InstanceId};
use crate::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};

fn settings(mode: Mode, warm: Warm) -> Settings {
    Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("b-1"),
        mode,
        warm,
        limits: Limits { enis: 3, ipv4_per_eni: 15 },
        max_eni: None,
        max_pods: 110,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: Duration::from_secs(30),
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::ZERO,
        seed: 1,
    }
}

fn by_ips(ip: u32, minimum: u32) -> Warm {
    Warm::Targets { ip, minimum, eni: 1, prefix: 1 }
}

fn singles(total: u32, held: u32) -> Census {
    Census { total, held, free: total - held, ..Census::default() }
}

/// A08, A05: W, M, total, assigned → short, over.
#[test]
fn single_addresses_follow_the_incumbents_targets() {
    for (w, m, total, held, short, over) in [
        (2, 5, 0, 0, 5, 0),
        (2, 5, 5, 0, 0, 0),
        (2, 5, 9, 0, 0, 4),
        (0, 10, 14, 3, 0, 4),
        (1, 1, 3, 3, 1, 0),
        (1, 0, 4, 2, 0, 1),
        (1, 0, 3, 2, 0, 0),
    ] {
        let is = verdict(&settings(Mode::SecondaryIp, by_ips(w, m)), &singles(total, held));
        assert_eq!((is.short, is.over), (short, over), "W={w} M={m} T={total} A={held}");
    }
}

/// A04: W = 5 with prefixes: prefixes, assigned → prefixes short and over.
#[test]
fn prefixes_follow_the_incumbents_targets() {
    for (prefixes, held, short, over) in
        [(0, 0, 1, 0), (2, 0, 0, 1), (1, 0, 0, 0), (1, 12, 1, 0), (3, 20, 0, 1)]
    {
        let census = Census {
            total: prefixes * 16,
            held,
            free: prefixes * 16 - held,
            prefixes,
            idle_prefixes: prefixes - u32::div_ceil(held, 16),
            ..Census::default()
        };
        let is = verdict(&settings(Mode::Prefix, by_ips(5, 0)), &census);
        assert_eq!(
            (is.short.div_ceil(16), is.over_prefixes),
            (short, over),
            "{prefixes} prefixes, {held} held"
        );
    }
}

/// B01: an ENI may go only when the others still meet W and M. Its two or one addresses, all unused.
#[test]
fn an_eni_goes_only_when_the_others_meet_the_targets() {
    let census = Census { total: 5, held: 2, free: 3, ..Census::default() };
    for (w, m, two, one) in
        [(3, 1, false, false), (1, 5, false, false), (2, 4, false, true), (0, 3, true, true)]
    {
        let is = verdict(&settings(Mode::SecondaryIp, by_ips(w, m)), &census);
        assert_eq!((is.over_eni >= 2, is.over_eni >= 1), (two, one), "W={w} M={m}: {is:?}");
    }
}

/// A06: which of the settings count. W, M → whether they are defined and E and P do not count.
#[test]
fn address_targets_count_when_either_is_set() {
    for (w, m, defined) in [(0, 0, false), (5, 0, true), (0, 10, true), (5, 10, true)] {
        let is = verdict(&settings(Mode::SecondaryIp, by_ips(w, m)), &singles(0, 0));
        assert_eq!(is.fill, !defined, "W={w} M={m}: whole ENIs count exactly when addresses do not: {is:?}");
    }
    // P counts with prefixes only, E without them only.
    let prefix = Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix: 1 };
    assert!(!verdict(&settings(Mode::Prefix, prefix), &Census::default()).fill);
    assert_eq!(verdict(&settings(Mode::Prefix, prefix), &Census::default()).short, 16);
    assert_eq!(verdict(&settings(Mode::SecondaryIp, prefix), &singles(3, 0)).short, 0);
}

#[test]
fn whole_enis_are_kept_warm_and_filled() {
    let warm = Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 };
    let settings = settings(Mode::SecondaryIp, warm);
    let low = verdict(&settings, &singles(14, 1));
    assert!(low.fill && low.short == 1, "{low:?}");
    assert_eq!(verdict(&settings, &singles(28, 14)), Verdict::default());
    assert_eq!(verdict(&settings, &singles(28, 0)).over_eni, 14, "one of two idle ENIs may go");
    assert_eq!(verdict(&settings, &singles(28, 1)).over_eni, 0, "27 free are less than two ENIs' worth");
}

#[test]
fn zero_targets_still_leave_one_address() {
    let none = Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix: 0 };
    assert_eq!(verdict(&settings(Mode::SecondaryIp, none), &singles(0, 0)).short, 1);
    assert_eq!(verdict(&settings(Mode::Prefix, none), &Census::default()).short, 16);
    assert_eq!(verdict(&settings(Mode::SecondaryIp, none), &singles(5, 4)).short, 0);
}

#[test]
fn targets_stop_at_max_pods() {
    let mut few = settings(Mode::SecondaryIp, by_ips(5, 0));
    few.max_pods = 8;
    assert_eq!(verdict(&few, &singles(8, 8)).short, 0);
    assert_eq!(verdict(&few, &singles(7, 7)).short, 5);
}

#[test]
fn demand_counts_pods_that_are_bound_and_not_wired_yet() {
    let settings = settings(Mode::SecondaryIp, Warm::DemandDriven);
    let census = Census { total: 4, held: 4, bound: Some(10), ..Census::default() };
    assert_eq!(verdict(&settings, &census).short, 8, "six pods, one in reserve, and the band above it");
    let unknown = Census { bound: None, ..census };
    assert_eq!(verdict(&settings, &unknown).short, 2);
    let waiting = Census { waiting: 6, ..unknown };
    assert_eq!(verdict(&settings, &waiting).short, 8);
    let both = Census { waiting: 6, ..census };
    assert_eq!(verdict(&settings, &both).short, 8, "a pod that waits is one of those bound");
}

/// While pods come faster than addresses, a call brings as many more as wait; never beyond what pods can use, and not
/// when it is known who comes.
#[test]
fn surge_is_met_ahead_within_max_pods() {
    let settings = settings(Mode::SecondaryIp, Warm::DemandDriven);
    let surge = Census { total: 2, held: 2, waiting: 4, arrivals: 5, ..Census::default() };
    let is = verdict(&settings, &surge);
    assert_eq!((is.short, is.ahead), (6, 4));
    let filling = Census { total: 1, held: 1, arrivals: 1, ..Census::default() };
    assert_eq!(verdict(&settings, &filling).ahead, 4, "the first pod of a node");
    assert_eq!(verdict(&settings, &Census { held: 6, total: 6, arrivals: 6, ..filling }).ahead, 6);
    assert_eq!(verdict(&settings, &Census { arrivals: 0, ..surge }).ahead, 0, "nobody came lately");
    assert_eq!(verdict(&settings, &Census { bound: Some(5), ..surge }).ahead, 0);
    let nearly_full = Census { total: 103, held: 103, ..surge };
    assert_eq!(
        verdict(&settings, &nearly_full).ahead,
        0,
        "{nearly_full:?}: 107 of 110, and three in reserve"
    );
}

/// Whatever the targets: while addresses come or pods wait, nothing is given back, however much is idle.
#[test]
fn nothing_is_given_back_while_addresses_come_or_pods_wait() {
    let targets = |ip, eni, prefix| Warm::Targets { ip, minimum: 0, eni, prefix };
    for (mode, warm) in [
        (Mode::SecondaryIp, Warm::DemandDriven),
        (Mode::SecondaryIp, targets(1, 0, 0)),
        (Mode::SecondaryIp, targets(0, 1, 0)),
        (Mode::Prefix, Warm::DemandDriven),
        (Mode::Prefix, targets(1, 0, 0)),
        (Mode::Prefix, targets(0, 0, 1)),
    ] {
        let settings = settings(mode, warm);
        let idle = Census { total: 48, free: 48, prefixes: 3, idle_prefixes: 3, ..Census::default() };
        let over = |census: Census| {
            let is = verdict(&settings, &census);
            is.over + is.over_prefixes + is.over_eni
        };
        assert!(over(idle) > 0, "{mode:?} {warm:?}");
        assert_eq!(over(Census { coming: 1, ..idle }), 0, "{mode:?} {warm:?}");
        assert_eq!(over(Census { waiting: 1, ..idle }), 0, "{mode:?} {warm:?}");
    }
}

/// The reserve is a quarter of what came lately, at most a twentieth of what is held, at least one; with as much again above
/// it as pods may come and go within.
#[test]
fn reserve_follows_arrivals_and_what_is_held() {
    let settings = settings(Mode::SecondaryIp, Warm::DemandDriven);
    for (held, arrivals, short) in
        [(0, 0, 1), (19, 0, 2), (20, 40, 2), (40, 3, 3), (60, 12, 6), (60, 8, 5), (80, 8, 6), (80, 99, 8)]
    {
        let census = Census { total: held, held, arrivals, ..Census::default() };
        assert_eq!(verdict(&settings, &census).short, short, "{census:?}");
    }
}

/// The first prefix makes the node ready; another one is not fetched for a reserve alone.
#[test]
fn reserve_alone_is_worth_no_second_prefix() {
    let settings = settings(Mode::Prefix, Warm::DemandDriven);
    let full = Census { total: 16, held: 16, prefixes: 1, ..Census::default() };
    assert!(verdict(&settings, &Census::default()).short > 0, "not ready without any address");
    assert_eq!(verdict(&settings, &full).short, 0);
    assert_eq!(
        verdict(&settings, &Census { coming: 16, ..Census::default() }).short,
        0,
        "the first one is coming"
    );
    assert!(verdict(&settings, &Census { waiting: 1, ..full }).short > 0, "a pod is");
}

/// What goes, goes as whole prefixes first; the rest, as single addresses.
#[test]
fn excess_goes_as_prefixes_first_and_then_as_single_addresses() {
    let singles_too = Census { total: 40, free: 40, prefixes: 2, idle_prefixes: 2, ..Census::default() };
    let parts = |mode, warm, census: &Census| {
        let is = verdict(&settings(mode, warm), census);
        (is.over_prefixes, is.over, is.over_eni)
    };
    assert_eq!(parts(Mode::SecondaryIp, Warm::DemandDriven, &singles_too), (2, 6, 38));
    assert_eq!(parts(Mode::SecondaryIp, by_ips(2, 0), &singles_too), (2, 6, 38));
    assert_eq!(parts(Mode::SecondaryIp, by_ips(24, 0), &singles_too), (1, 0, 16));
    let three = Census { total: 54, free: 54, prefixes: 3, idle_prefixes: 3, ..Census::default() };
    assert_eq!(parts(Mode::Prefix, by_ips(2, 0), &three), (2, 20, 32));
    let four = Census { total: 64, free: 64, prefixes: 4, idle_prefixes: 4, ..Census::default() };
    let warm_prefix = Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix: 1 };
    assert_eq!(parts(Mode::Prefix, warm_prefix, &four), (3, 0, 48));
}

/// `WARM_PREFIX_TARGET`: prefixes on their way count as warm ones.
#[test]
fn prefixes_that_are_coming_count_as_warm() {
    let warm = Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix: 4 };
    let none = Census { total: 16, held: 16, prefixes: 1, ..Census::default() };
    let short = |coming| verdict(&settings(Mode::Prefix, warm), &Census { coming, ..none }).short;
    assert_eq!([short(0), short(16), short(32), short(64)], [64, 48, 32, 0]);
}

/// Pods that wait get addresses whatever the targets say, up to the ceiling.
#[test]
fn pods_that_wait_are_served_beyond_the_targets() {
    for warm in [by_ips(1, 0), by_ips(0, 4), Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix: 0 }] {
        for mode in [Mode::SecondaryIp, Mode::Prefix] {
            let settings = settings(mode, warm);
            let census = Census { total: 32, held: 30, free: 2, waiting: 40, ..Census::default() };
            assert_eq!(verdict(&settings, &census).short, 38, "{mode:?} {warm:?}");
        }
    }
}

/// Over every census of a small domain: what is short never goes beyond the ceiling, nothing is short and over at once,
/// giving back what is over never makes anything short, and filling what is short never makes anything over.
#[test]
fn verdicts_are_stable_over_a_complete_small_domain() {
    let warms = [
        Warm::DemandDriven,
        by_ips(2, 0),
        by_ips(2, 5),
        by_ips(0, 4),
        Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 },
        Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix: 0 },
    ];
    for warm in warms {
        let mut settings = settings(Mode::SecondaryIp, warm);
        settings.max_pods = 9;
        for held in 0..=9 {
            for free in 0..=9 {
                for resting in 0..=3 {
                    for waiting in 0..=3 {
                        for bound in [None, Some(0), Some(5), Some(12)] {
                            let total = held + free + resting;
                            let census =
                                Census { held, free, resting, total, waiting, bound, ..Census::default() };
                            judge(&settings, &census);
                        }
                    }
                }
            }
        }
    }
}

/// The same with prefixes, packed and spread, and with single addresses among them.
#[test]
fn verdicts_about_prefixes_are_stable_over_a_complete_small_domain() {
    let by_prefix = |prefix| Warm::Targets { ip: 0, minimum: 0, eni: 0, prefix };
    for warm in [
        Warm::DemandDriven,
        by_ips(2, 0),
        by_ips(2, 20),
        by_ips(0, 33),
        by_prefix(0),
        by_prefix(1),
        by_prefix(2),
    ] {
        let settings = settings(Mode::Prefix, warm);
        for prefixes in 0..=4u32 {
            for singles in 0..=2u32 {
                let total = prefixes * 16 + singles;
                for held in 0..=total {
                    for used in u32::div_ceil(held, 16).min(prefixes)..=held.min(prefixes) {
                        let free = total - held;
                        let idle_prefixes = prefixes - used;
                        let census =
                            Census { total, held, free, prefixes, idle_prefixes, ..Census::default() };
                        judge_prefixes(&settings, &census);
                    }
                }
            }
        }
    }
}

fn judge_prefixes(settings: &Settings, census: &Census) {
    let is = verdict(settings, census);
    assert!(is.short == 0 || is.over + is.over_prefixes + is.over_eni == 0, "{census:?}: {is:?}");
    assert!(is.over_prefixes <= census.idle_prefixes, "{census:?}: {is:?}");
    let gone = is.over_prefixes * 16;
    if gone > 0 {
        let less = Census {
            free: census.free - gone,
            total: census.total - gone,
            prefixes: census.prefixes - is.over_prefixes,
            idle_prefixes: census.idle_prefixes - is.over_prefixes,
            ..*census
        };
        assert_eq!(verdict(settings, &less).short, 0, "{:?} {census:?}: {is:?} flaps", settings.warm);
    }
    let more = is.short.div_ceil(16);
    if more > 0 {
        let then = Census {
            free: census.free + more * 16,
            total: census.total + more * 16,
            prefixes: census.prefixes + more,
            idle_prefixes: census.idle_prefixes + more,
            ..*census
        };
        let after = verdict(settings, &then);
        assert_eq!(after.over_prefixes, 0, "{:?} {census:?}: {is:?} then {after:?} flaps", settings.warm);
    }
}

fn judge(settings: &Settings, census: &Census) {
    let is = verdict(settings, census);
    assert!(is.short == 0 || is.over + is.over_prefixes + is.over_eni == 0, "{census:?}: {is:?}");
    assert!(is.over <= census.free, "{census:?}: {is:?}");
    if matches!(settings.warm, Warm::DemandDriven) {
        let ceiling = ceiling(settings, census);
        assert!(is.short == 0 || census.total + is.short <= ceiling, "{census:?}: {is:?}");
    }
    let less = Census { free: census.free - is.over, total: census.total - is.over, ..*census };
    if is.over > 0 {
        assert_eq!(verdict(settings, &less).short, 0, "{census:?}: {is:?} flaps");
    }
    let more = Census { free: census.free + is.short, total: census.total + is.short, ..*census };
    if is.short > 0 && !is.fill {
        let then = verdict(settings, &more);
        assert_eq!(then.over + then.over_eni, 0, "{census:?}: {is:?} flaps");
    }
}
