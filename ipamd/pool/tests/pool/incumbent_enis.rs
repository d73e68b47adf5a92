//! How ENIs come and go, where pods may not go, and which ENIs count as left behind (incumbent-testcases B and D).

use std::net::IpAddr;
use std::time::Duration;

use podwire_pool::settings::{LeakPolicy, Limits, SubnetPolicy, Warm};
use podwire_pool::{
    Answer, Ec2Call, EniConfig, EniId, GroupId, GrowBy, Input, InstanceId, ObservedEni, ObservedSubnet,
    Settings, SubnetId,
};

use crate::bench::{Bench, eni, settings};

const WHOLE_ENIS: Warm = Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 };
const FEW: Warm = Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 };

fn subnet(id: &str, free: u32, tags: &[(&str, &str)]) -> ObservedSubnet {
    let tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    ObservedSubnet { id: SubnetId::new(id), cidr: Some("10.0.0.0/16".parse().unwrap()), free, tags }
}

/// B03: under custom networking a new ENI has the ENIConfig's subnet and groups, and all its places filled.
#[test]
fn new_eni_under_custom_networking_is_as_the_eniconfig_says() {
    let limits = Limits { enis: 4, ipv4_per_eni: 15 };
    let mut bench = Bench::new(Settings { limits, warm: WHOLE_ENIS, primary_excluded: true, ..settings() });
    bench.see_metadata();
    bench.pass(120_000);
    assert_eq!(bench.all_calls, Vec::new(), "without an ENIConfig nothing is made");
    let groups = vec![GroupId::new("sg1-id"), GroupId::new("sg2-id")];
    let config = EniConfig { subnet: SubnetId::new("subnet1"), groups: groups.clone() };
    bench.input(Input::EniConfig(Some(config)));
    bench.pass(60_000);
    let created = bench.all_calls.iter().find(|call| matches!(call, Ec2Call::Create { .. })).cloned();
    let with = GrowBy::Addresses(14);
    assert_eq!(created, Some(Ec2Call::Create { subnet: SubnetId::new("subnet1"), groups, with }));
}

/// B05: an ENI has room, its subnet has none: less is asked for, then one address, then a whole ENI in another subnet.
/// Better than the incumbent, which asks for all and for one: the amount is halved, so what is left is not lost.
#[test]
fn eni_with_room_in_an_exhausted_subnet_leads_to_an_eni_in_another() {
    let limits = Limits { enis: 4, ipv4_per_eni: 15 };
    let policy = SubnetPolicy { discovery: true, floor: 0 };
    let mut bench = Bench::new(Settings { limits, warm: WHOLE_ENIS, subnets: policy, ..settings() });
    bench.subnets =
        vec![subnet("subnet-1", 0, &[]), subnet("subnet-2", 200, &[("kubernetes.io/role/cni", "1")])];
    bench.dry.insert(SubnetId::new("subnet-1"));
    bench.see_metadata();
    bench.add(1, "pod-1");
    bench.pass(60_000);
    let asked: Vec<u32> = bench
        .all_calls
        .iter()
        .map_while(|call| match call {
            Ec2Call::Assign { by: GrowBy::Addresses(n), .. } => Some(*n),
            Ec2Call::DescribeSubnets { .. } => Some(0),
            _ => None,
        })
        .filter(|n| *n > 0)
        .collect();
    assert_eq!(asked, [14, 7, 3, 1], "{:?}", bench.all_calls);
    let created = bench.all_calls.iter().find_map(|call| match call {
        Ec2Call::Create { subnet, with, .. } => Some((subnet.clone(), *with)),
        _ => None,
    });
    assert_eq!(created, Some((SubnetId::new("subnet-2"), GrowBy::Addresses(14))));
    assert!(matches!(bench.answer(1), Some(Answer::Allocated { .. })), "{:?}", bench.answer(1));
}

/// A node of two ENIs whose pods on the second one are gone.
fn with_an_idle_eni() -> Bench {
    let limits = Limits { enis: 3, ipv4_per_eni: 3 };
    let mut bench = Bench::new(Settings { limits, warm: FEW, ..settings() });
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    assert_eq!(bench.pool.stats().enis, 3);
    for n in 1..=4 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    bench
}

fn count(bench: &Bench, which: impl Fn(&Ec2Call) -> bool) -> usize {
    bench.all_calls.iter().filter(|call| which(call)).count()
}

/// B08: an ENI goes also where the host will not let its rules go.
#[test]
fn eni_goes_although_its_rules_stay() {
    for broken in [None, Some("RemoveEni")] {
        let mut bench = with_an_idle_eni();
        bench.broken = broken;
        bench.pass(900_000);
        assert_eq!(bench.removed.len(), 2, "{broken:?}");
        assert_eq!(count(&bench, |c| matches!(c, Ec2Call::Delete { .. })), 2, "{broken:?}");
        let of_them = bench.pool.rows().iter().filter(|row| bench.removed.contains(&row.eni)).count();
        assert_eq!((bench.pool.stats().enis, of_them), (1, 0), "nothing of them is remembered: {broken:?}");
    }
}

/// B15: deleting an ENI is tried again. Better than the incumbent, which gives up after twelve tries and leaves the ENI
/// behind: it is tried on until it works. And no Describe is needed on the way, so a failing one stops nothing.
#[test]
fn eni_that_cannot_be_deleted_yet_is_deleted_later() {
    for (broken, for_ms, tries) in
        [(None, 0, 1..=1), (Some("Delete {"), 200_000, 13..=200), (Some("Describe"), 900_000, 1..=1)]
    {
        let mut bench = with_an_idle_eni();
        bench.broken = broken;
        bench.pass(for_ms + 120_000);
        if broken == Some("Delete {") {
            assert_eq!(bench.removed.len(), 0, "not yet");
            bench.broken = None;
            bench.pass(120_000);
        }
        assert_eq!(bench.removed.len(), 2, "{broken:?}: {:?}", bench.pool.stats());
        let id = EniId::new("eni-1");
        let deletes = count(&bench, |call| matches!(call, Ec2Call::Delete { eni } if *eni == id));
        assert!(tries.contains(&deletes), "{broken:?}: {deletes} tries");
        assert_eq!(count(&bench, |c| matches!(c, Ec2Call::Detach { eni, .. } if *eni == id)), 1);
    }
}

/// B10: an ENI in a subnet that keeps pods out is not grown, carries no new pod, and its addresses do not count.
#[test]
fn excluded_eni_is_not_grown_carries_no_new_pod_and_does_not_count() {
    let limits = Limits { enis: 2, ipv4_per_eni: 4 };
    let policy = SubnetPolicy { discovery: true, floor: 0 };
    let warm = Warm::Targets { ip: 2, minimum: 0, eni: 0, prefix: 0 };
    let mut bench = Bench::new(Settings { limits, warm, subnets: policy, ..settings() });
    let mut other = ObservedEni { subnet: SubnetId::new("subnet-2"), ..eni("eni-x1", 1) };
    other.addresses = vec![IpAddr::from([10, 0, 9, 1])];
    bench.enis.insert(other.id.clone(), other);
    bench.subnets =
        vec![subnet("subnet-1", 100, &[]), subnet("subnet-2", 200, &[("kubernetes.io/role/cni", "0")])];
    bench.describe();
    bench.pass(1_000);
    let stats = bench.pool.stats();
    assert_eq!((stats.assigned, stats.free), (2, 2), "its address is not counted: {stats:?}");
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(120_000);
    bench.add(4, "pod-4");
    bench.pass(1_000);
    let id = EniId::new("eni-x1");
    let grown = count(&bench, |call| matches!(call, Ec2Call::Assign { eni, .. } if *eni == id));
    assert_eq!(grown, 0, "never offered for growth: {:?}", bench.all_calls);
    for n in 1..=4 {
        let Some(Answer::Allocated { eni, .. }) = bench.answer(n) else {
            panic!("pod {n}: {:?}", bench.answer(n))
        };
        assert_ne!(eni, id, "never used for a new pod");
    }
}

fn left_behind(id: &str, owner: &str, tags: &[(&str, &str)]) -> ObservedEni {
    let mut tags: Vec<_> = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    tags.push(("node.k8s.amazonaws.com/instance_id".into(), owner.into()));
    tags.push(("cluster.k8s.amazonaws.com/name".into(), "ours".into()));
    let plain = eni(id, 0);
    ObservedEni { attached: false, attachment: None, instance: None, tags: Some(tags), ..plain }
}

/// D06: what counts as left behind. The incumbent goes by the tag `createdAt`, writes it where it is missing, and deletes
/// an ENI whose tag it cannot read. Better: nothing is written and no clock of others' believed. What is found twice, ten
/// minutes apart, with an owner that is gone, goes; an owner that lives keeps its ENI, however old.
#[test]
fn left_behind_is_what_has_no_owner_twice() {
    let created = "node.k8s.amazonaws.com/createdAt";
    let mut bench =
        Bench::new(Settings { leaks: LeakPolicy::Delete, cluster: Some("ours".into()), ..settings() });
    let found = [
        left_behind("eni-old", "i-dead", &[(created, "2020-01-01T00:00:00Z")]),
        left_behind("eni-young", "i-dead", &[(created, "2099-01-01T00:00:00Z")]),
        left_behind("eni-undated", "i-dead", &[]),
        left_behind("eni-odd", "i-dead", &[(created, "yesterday")]),
        left_behind("eni-owned", "i-2", &[(created, "2020-01-01T00:00:00Z")]),
        left_behind("eni-theirs", "not-an-instance", &[(created, "2020-01-01T00:00:00Z")]),
    ];
    bench.enis.extend(found.map(|eni| (eni.id.clone(), eni)));
    bench.dead.insert(InstanceId::new("i-dead"));
    bench.see_metadata();
    let looks = |bench: &Bench| count(bench, |call| matches!(call, Ec2Call::FindDetached));
    while looks(&bench) == 0 {
        bench.pass(60_000);
    }
    let first = bench.now;
    assert_eq!(bench.removed.len(), 0, "seen once is no proof");
    while bench.removed.is_empty() {
        bench.pass(10_000);
    }
    let apart = bench.now.since(first);
    assert!((Duration::from_secs(540)..Duration::from_secs(700)).contains(&apart), "{apart:?}");
    bench.pass(60_000);
    assert_eq!(looks(&bench), 2);
    let kept: Vec<&str> = bench.enis.keys().map(EniId::as_str).collect();
    assert_eq!(kept, ["eni-0", "eni-owned", "eni-theirs"]);
}
