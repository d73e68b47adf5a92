//! The incumbent's documented end states, with its settings (incumbent-testcases A13, B, D).

use podwire_pool::settings::{Limits, Mode, Warm};
use podwire_pool::{Answer, DeviceIndex, Ec2Call, GrowBy};

use crate::bench::{Bench, eni, settings};

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

/// The incumbent's second table (docs/prefix-and-ip-target.md): type, P, W, M, pods → ENIs, prefixes, unused addresses.
/// Where that page contradicts the incumbent's own arithmetic, the arithmetic counts: it writes two or three ENIs for a
/// p3dn.24xlarge whose prefixes all fit on the first, and 16 unused addresses of two empty prefixes.
#[test]
fn end_states_with_prefixes_are_those_of_the_documentation_table() {
    let small = Limits { enis: 3, ipv4_per_eni: 4 };
    let large = Limits { enis: 15, ipv4_per_eni: 50 };
    for (limits, prefix, ip, minimum, pods, enis, prefixes, unused) in [
        (small, 1, 0, 0, 0, 1, 1, 16),
        (small, 1, 0, 0, 5, 1, 2, 27),
        (small, 1, 0, 0, 16, 1, 2, 16),
        (small, 1, 0, 0, 17, 1, 3, 31),
        (small, 1, 0, 0, 58, 2, 5, 22),
        (small, 0, 1, 1, 0, 1, 1, 16),
        (small, 0, 1, 1, 5, 1, 1, 11),
        (small, 0, 1, 1, 17, 1, 2, 15),
        (small, 0, 1, 1, 58, 2, 4, 6),
        (small, 0, 7, 20, 0, 1, 2, 32),
        (small, 0, 7, 20, 5, 1, 2, 27),
        (small, 0, 7, 20, 17, 1, 2, 15),
        (small, 0, 7, 20, 58, 2, 5, 22),
        (large, 1, 0, 0, 0, 1, 1, 16),
        (large, 1, 0, 0, 3, 1, 2, 29),
        (large, 1, 0, 0, 95, 1, 7, 17),
        (large, 0, 5, 10, 0, 1, 1, 16),
        (large, 0, 5, 10, 7, 1, 1, 9),
        (large, 0, 5, 10, 15, 1, 2, 17),
        (large, 0, 5, 10, 45, 1, 4, 19),
    ] {
        let warm = Warm::Targets { ip, minimum, eni: 0, prefix };
        let mut bench = Bench::new(podwire_pool::Settings { mode: Mode::Prefix, warm, limits, ..settings() });
        bench.see_metadata();
        bench.run();
        for n in 1..=pods {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
        }
        bench.pass(300_000);
        let stats = bench.pool.stats();
        let case = format!("{limits:?} P={prefix} W={ip} M={minimum} pods={pods}");
        assert_eq!((stats.enis, stats.prefixes, stats.free), (enis, prefixes, unused), "{case}");
        assert_eq!(u64::from(stats.allocated), pods, "{case}");
    }
}

/// B09: room for another ENI: most ENIs, those not managed, those of ours → whether one more is created. (Excluded ENIs
/// and trunks are refused at start so far.)
#[test]
fn another_eni_is_made_only_where_there_is_room_for_it() {
    for (most, unmanaged, ours, room) in
        [(3, 0, 2, true), (3, 0, 3, false), (3, 1, 2, false), (4, 1, 2, true), (4, 1, 3, false)]
    {
        let warm = Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 };
        let limits = Limits { enis: 15, ipv4_per_eni: 3 };
        let mut bench =
            Bench::new(podwire_pool::Settings { warm, limits, max_eni: Some(most), ..settings() });
        for device in 1..ours + unmanaged {
            let mut more = eni(&format!("eni-x{device}"), device);
            if device >= ours {
                more.tags = Some(vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())]);
            }
            bench.enis.insert(more.id.clone(), more);
        }
        bench.describe();
        bench.run();
        for n in 1..=u64::from(ours) * 2 {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
        }
        let created = bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. }));
        assert_eq!(created, room, "most={most} unmanaged={unmanaged} ours={ours}");
    }
}

/// B12: the lowest free device index.
#[test]
fn new_eni_takes_the_lowest_free_device_index() {
    let warm = Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 };
    let limits = Limits { enis: 15, ipv4_per_eni: 2 };
    let mut bench = Bench::new(podwire_pool::Settings { warm, limits, ..settings() });
    let third = eni("eni-x3", 3);
    bench.enis.insert(third.id.clone(), third);
    bench.describe();
    bench.run();
    for n in 1..=2 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let device = bench.all_calls.iter().find_map(|c| match c {
        Ec2Call::Attach { device, .. } => Some(*device),
        _ => None,
    });
    assert_eq!(device, Some(DeviceIndex(1)));
}

/// D01, with `MANAGE_UNTAGGED_ENI=true`: tags of eni-x1 (primary), eni-x2 and eni-x3 → which of them are ours. Better than
/// the incumbent in the last row: an ENI that says it is another instance's is left alone.
#[test]
fn enis_are_ours_by_their_tags() {
    let no_manage = |value: &str| Some(("node.k8s.amazonaws.com/no_manage", value.to_owned()));
    let instance = |value: &str| Some(("node.k8s.amazonaws.com/instance_id", value.to_owned()));
    for (tags, ours) in [
        ([None, None, None], 3),
        ([no_manage("true"), None, None], 3),
        ([None, no_manage("true"), no_manage("true")], 1),
        ([None, no_manage("true"), no_manage("false")], 2),
        ([None, no_manage("true"), instance("i-1")], 2),
        ([None, instance("i-other"), instance("i-1")], 2),
    ] {
        let limits = Limits { enis: 3, ipv4_per_eni: 15 };
        let mut bench = Bench::new(podwire_pool::Settings { limits, manage_untagged: true, ..settings() });
        bench.enis.clear();
        for (device, tag) in (0u8..).zip(&tags) {
            let mut one = eni(&format!("eni-x{}", device + 1), u32::from(device));
            one.tags = Some(tag.iter().map(|(k, v)| ((*k).into(), v.as_str().into())).collect());
            one.addresses = vec![std::net::IpAddr::from([10, 0, device, 1])];
            bench.enis.insert(one.id.clone(), one);
        }
        bench.describe();
        bench.run();
        assert_eq!(bench.pool.rows().len(), ours, "{tags:?}: each of ours shows its address");
    }
}
