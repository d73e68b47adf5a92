//! Subnets with a floor, or that keep pods out, and places that EC2 does not grant: how far growth goes, and when it tries
//! again.

use podwire_pool::settings::{Limits, Mode, SubnetPolicy};
use podwire_pool::{
    AddressState, Cause, Ec2Call, FailureClass, GrowBy, GrowthNow, Input, ObservedSubnet, Settings, SubnetId,
};

use crate::bench::{Bench, settings};

/// A node in a subnet with so many free addresses, of which ten are left for others.
fn with_floor(mode: Mode, free: u32, tags: &[(&str, &str)]) -> Bench {
    let limits = Limits { enis: 2, ipv4_per_eni: 10 };
    let subnets = SubnetPolicy { discovery: false, floor: 10 };
    let mut bench = Bench::new(Settings { mode, limits, subnets, ..settings() });
    let tags = tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    bench.subnets = vec![ObservedSubnet { id: SubnetId::new("subnet-1"), cidr: None, free, tags }];
    bench.see_metadata();
    bench.run();
    bench
}

fn assigned(bench: &Bench) -> Vec<GrowBy> {
    let by = bench.all_calls.iter().filter_map(|call| match call {
        Ec2Call::Assign { by, .. } => Some(*by),
        _ => None,
    });
    by.collect()
}

fn floor(bench: &Bench) -> bool {
    matches!(bench.pool.growth_now(), GrowthNow::Waiting { cause: Cause::SubnetFloor { .. }, .. })
}

/// Without discovery the node asks about its own subnet alone.
#[test]
fn node_with_a_floor_looks_at_its_own_subnet_alone() {
    let mut bench = with_floor(Mode::SecondaryIp, 100, &[]);
    bench.input(Input::Demand { bound: Some(5) });
    bench.pass(1_000);
    let looks: Vec<&Ec2Call> =
        bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::DescribeSubnets { .. })).collect();
    assert!(
        matches!(looks.as_slice(), [Ec2Call::DescribeSubnets { only }] if *only == [SubnetId::new("subnet-1")]),
        "{looks:?}"
    );
}

/// What is above the floor is drawn in whole prefixes; the rest waits, people are told once, and it goes on when the subnet
/// has more.
#[test]
fn prefixes_are_drawn_down_to_the_floor() {
    let mut bench = with_floor(Mode::Prefix, 74, &[]);
    bench.input(Input::Demand { bound: Some(100) });
    bench.pass(20_000);
    let places = |bench: &Bench| -> u32 {
        assigned(bench).iter().map(|by| if let GrowBy::Prefixes(n) = by { *n } else { 0 }).sum()
    };
    assert_eq!(places(&bench), 4, "{:?}", assigned(&bench));
    assert!(floor(&bench), "{:?}", bench.pool.growth_now());
    let told = bench.causes.iter().filter(|c| matches!(c, Cause::SubnetFloor { .. })).count();
    assert_eq!(told, 1, "{:?}", bench.causes);
    bench.subnets[0].free = 1_000;
    bench.pass(700_000);
    assert!(places(&bench) >= 7, "{:?}", assigned(&bench));
}

/// What a failed call was to draw is the subnet's again: a node whose calls fail does not run into a floor of its own making.
#[test]
fn failed_calls_draw_nothing() {
    let mut bench = with_floor(Mode::SecondaryIp, 14, &[]);
    bench.pass(10_000);
    bench.failures = vec![FailureClass::Busy; 4];
    bench.input(Input::Demand { bound: Some(3) });
    bench.pass(20_000);
    assert!(bench.failures.is_empty(), "{:?}", bench.all_calls);
    assert!(!floor(&bench), "{:?} {:?}", bench.pool.growth_now(), assigned(&bench));
    let free = bench.pool.rows().iter().filter(|row| row.state == AddressState::Free).count();
    assert!(free >= 3, "{:?}", assigned(&bench));
}

/// The node's own subnet keeps pods out: no ENI is made in it, and the cause is named.
#[test]
fn no_eni_is_made_in_a_home_that_keeps_pods_out() {
    let mut bench = with_floor(Mode::SecondaryIp, 1_000, &[("kubernetes.io/role/cni", "0")]);
    bench.pass(1_000);
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(60_000);
    assert!(!bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. })), "{:?}", bench.all_calls);
    assert!(bench.causes.iter().any(|c| matches!(c, Cause::NoSubnet)), "{:?}", bench.causes);
}

/// EC2 grants an ENI fewer places than the table says: half of what was refused is tried, and what that teaches is believed
/// for half an hour.
#[test]
fn places_that_are_refused_are_halved_and_tried_again_half_an_hour_later() {
    let limits = Limits { enis: 1, ipv4_per_eni: 14 };
    let mut bench = Bench::new(Settings { limits, ..settings() });
    bench.see_metadata();
    bench.run();
    bench.failures = vec![FailureClass::LimitExceeded];
    bench.input(Input::Demand { bound: Some(8) });
    bench.run();
    let sizes = |bench: &Bench| -> Vec<u32> {
        assigned(bench).iter().map(|by| if let GrowBy::Addresses(n) = by { *n } else { 0 }).collect()
    };
    let first = sizes(&bench);
    let [1, refused, half] = first[..] else { panic!("{first:?}") };
    assert_eq!(half, refused / 2);
    bench.pass(1_700_000);
    assert_eq!(sizes(&bench), first);
    assert_eq!(bench.pool.growth_now(), GrowthNow::Full);
    bench.pass(200_000);
    assert_eq!(sizes(&bench).len(), 4, "{:?}", sizes(&bench));
}

/// A quota of the account or the VPC says nothing of what the ENI can hold: nothing is learned of it, no other ENI is made or
/// attached against it, and the same is asked for again when the pause is over.
#[test]
fn quota_teaches_nothing_of_the_eni() {
    let limits = Limits { enis: 2, ipv4_per_eni: 14 };
    let mut bench = Bench::new(Settings { limits, ..settings() });
    bench.see_metadata();
    bench.run();
    let first = assigned(&bench).len();
    bench.failures = vec![FailureClass::QuotaExceeded];
    bench.input(Input::Demand { bound: Some(8) });
    bench.run();
    assert!(bench.failures.is_empty());
    assert!(matches!(bench.pool.growth_now(), GrowthNow::Waiting { .. }), "{:?}", bench.pool.growth_now());
    bench.pass(20_000);
    let asked = assigned(&bench);
    let [refused, granted] = asked[first..] else { panic!("{asked:?}") };
    assert_eq!(granted, refused, "all of it, on the same ENI");
    assert!(!bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Create { .. })), "{:?}", bench.all_calls);
}

/// Without a floor it is EC2 that says whether a subnet has an address, not what it said an hour ago.
#[test]
fn subnet_without_a_floor_is_asked_whatever_was_said_of_it() {
    let mut bench = with_floor(Mode::SecondaryIp, 0, &[]);
    bench.settings.subnets = SubnetPolicy { discovery: true, floor: 0 };
    let mut fresh = Bench::new(bench.settings.clone());
    fresh.subnets = bench.subnets.clone();
    fresh.see_metadata();
    for n in 1..=3 {
        fresh.add(n, &format!("pod-{n}"));
    }
    fresh.pass(20_000);
    assert_eq!(fresh.pool.stats().allocated, 3, "{:?}", fresh.pool.growth_now());
}
