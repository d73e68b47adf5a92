//! The node as one of many in an account: budget, subnets, floors, leaks, a cordon, custom networking
//! (pain-points §3 C). The oracle judges every step.

use podwire_pool::settings::{LeakPolicy, Limits, Mode, Share, SubnetPolicy};
use podwire_pool::{Cause, Ec2Call, EniConfig, FailureClass, Input, InstanceId, Settings, SubnetId};
use podwire_sim::ec2::Subnet;
use podwire_sim::script::{Script, settings};
use podwire_sim::storm::{naive, storm};
use podwire_sim::world::{Action, Blur, Fate, Open};
use podwire_sim::zone::Event;

const ROLE: &str = "kubernetes.io/role/cni";

/// Default settings of the product, in a cluster with a name.
fn product() -> Settings {
    Settings {
        cluster: Some("ours".into()),
        subnets: SubnetPolicy::default(),
        leaks: LeakPolicy::Delete,
        ..settings()
    }
}

fn calls(script: &Script) -> u64 {
    script.world.tally.changes + script.world.tally.describes
}

/// C28, issue 5: 200 daemons start at once against buckets of 50 and 5 a second. Three seeds, so that it is no accident.
#[test]
fn two_hundred_daemons_at_once_do_not_storm() {
    for seed in [1, 2, 3] {
        let known = Share { nodes: Some(200), percent: 100 };
        let ours = storm(200, known, seed).unwrap();
        let theirs = naive(200, seed);
        assert!(ours.rejected_share() <= 0.10, "{ours:?}");
        assert!(ours.over_arithmetic() <= 1.3, "{ours:?}");
        assert!(ours.rejected_share() < theirs.rejected_share() / 3.0, "{ours:?} {theirs:?}");
    }
}

/// The same when nobody told how many there are: all are served, and fewer calls are wasted than by plain retries.
#[test]
fn two_hundred_daemons_of_unknown_number_are_all_served() {
    let ours = storm(200, Share::default(), 1).unwrap();
    let theirs = naive(200, 1);
    assert!(ours.rejected < theirs.rejected, "{ours:?} {theirs:?}");
    assert!(ours.over_arithmetic() <= 4.0, "{ours:?}");
}

/// A node with 20 pods and no evidence of change makes no call in an hour and one in a day: the look for leaks.
#[test]
fn idle_node_calls_nobody_for_an_hour_and_once_a_day() {
    let mut script = Script::boot(product(), 20).unwrap();
    script.start(0..20).unwrap();
    script.pass(600_000).unwrap();
    assert_eq!(script.living(), 20);
    let before = calls(&script);
    script.pass(3_600_000).unwrap();
    assert_eq!(calls(&script), before, "calls in an idle hour");
    let (changes, looks) = (script.world.tally.changes, script.world.marks.times("find detached"));
    script.pass(86_400_000).unwrap();
    assert_eq!(script.world.tally.changes, changes);
    assert_eq!(calls(&script), before + 1, "calls in an idle day");
    assert_eq!(script.world.marks.times("find detached"), looks + 1);
}

fn prefixes() -> Settings {
    Settings { mode: Mode::Prefix, limits: Limits { enis: 3, ipv4_per_eni: 10 }, max_pods: 110, ..product() }
}

/// C29: the home has no /28: prefixes come from another subnet on a new ENI, within the time an ENI takes.
#[test]
fn fragmented_home_gives_way_to_prefixes_of_another_subnet() {
    let mut script = Script::boot_in(prefixes(), 20, |ec2| {
        ec2.home().fragmented = true;
        ec2.subnets.push(Subnet::new(1, 1_000).tagged(ROLE, "1"));
    })
    .unwrap();
    script.start(0..20).unwrap();
    script.pass(5_000).unwrap();
    assert_eq!(script.living(), 20);
    assert_eq!(script.enis(), 2);
    let eni = script.world.ec2.enis.values().find(|e| e.seen.subnet.as_str() == "subnet-2").unwrap();
    assert_eq!((eni.seen.prefixes.len(), eni.seen.singles.len()), (2, 0));
}

/// C29: no /28 anywhere: single addresses at once, no stall, and prefixes again when they return.
#[test]
fn fragmented_zone_gives_single_addresses_at_once_and_prefixes_later() {
    let mut script = Script::boot_in(prefixes(), 40, |ec2| {
        ec2.home().fragmented = true;
        let mut other = Subnet::new(1, 1_000).tagged(ROLE, "1");
        other.fragmented = true;
        ec2.subnets.push(other);
    })
    .unwrap();
    script.start(0..8).unwrap();
    script.pass(4_000).unwrap();
    assert_eq!(script.living(), 8, "{:?}", script.world.pool.stats());
    for subnet in &mut script.world.ec2.subnets {
        subnet.fragmented = false;
    }
    script.pass(301_000).unwrap();
    script.start(8..40).unwrap();
    script.pass(6_000).unwrap();
    assert_eq!(script.living(), 40);
    let with_prefixes = script.world.ec2.enis.values().map(|e| e.seen.prefixes.len()).sum::<usize>();
    assert!(with_prefixes >= 2, "{with_prefixes} prefixes");
}

/// C29: an exhausted home in single-address mode: the next ENI goes to the subnet with most free addresses.
#[test]
fn exhausted_home_gives_way_to_the_emptiest_subnet() {
    let mut script = Script::boot_in(product(), 20, |ec2| {
        ec2.home().free = 5;
        ec2.subnets.push(Subnet::new(1, 300).tagged(ROLE, "1"));
        ec2.subnets.push(Subnet::new(2, 900).tagged(ROLE, "1"));
        ec2.subnets.push(Subnet::new(3, 5_000).tagged(ROLE, "0"));
        ec2.subnets.push(
            Subnet::new(4, 5_000).tagged(ROLE, "1").tagged("cni.networking.k8s.aws/cluster/theirs", ""),
        );
    })
    .unwrap();
    script.start(0..18).unwrap();
    script.pass(8_000).unwrap();
    assert_eq!(script.living(), 18);
    let subnets: Vec<_> = script.world.ec2.enis.values().map(|e| e.seen.subnet.as_str()).collect();
    assert!(subnets[1..].iter().all(|s| *s == "subnet-3"), "{subnets:?}");
}

/// C34, W3: DescribeSubnets is denied: growth goes on in the primary ENI's subnet, and the cause is named.
#[test]
fn denied_describe_subnets_degrades_to_the_home() {
    let mut script = Script::boot(product(), 20).unwrap();
    script.start(0..18).unwrap();
    for _ in 0..40 {
        script.pass(250).unwrap();
        let asks = |open: &Open| matches!(open, Open::Ec2(Ec2Call::DescribeSubnets { .. }, None));
        let denied = script.world.open.values().any(asks);
        script.fate = if denied { Fate::Refused(FailureClass::Denied) } else { Fate::Plain };
    }
    script.fate = Fate::Plain;
    script.pass(10_000).unwrap();
    assert_eq!(script.living(), 18);
    assert!(script.world.marks.times("denied") > 0);
}

/// The floor: a reserve does not draw beyond it, a waiting pod does, and the cause says so.
#[test]
fn floor_stops_the_reserve_and_not_a_waiting_pod() {
    let mut script = Script::boot_in(product(), 20, |ec2| ec2.home().free = 20).unwrap();
    script.pass(2_000).unwrap();
    script.start(0..10).unwrap();
    script.pass(5_000).unwrap();
    assert_eq!(script.living(), 10, "pods that wait draw beyond the floor");
    let stats = script.world.pool.stats();
    assert!(matches!(stats.growth_waits, Some(Cause::SubnetFloor { floor: 16, .. })), "{stats:?}");
    assert_eq!(script.world.marks.times("subnet floor"), 1, "said once");
    script.world.ec2.home().free = 500;
    script.pass(1_300_000).unwrap();
    assert!(script.world.pool.stats().free > 0, "{:?}", script.world.pool.stats());
}

/// C36, C38: only what a dead node of this cluster left behind goes, and not before it was seen twice.
#[test]
fn only_proven_leaks_are_deleted() {
    let mut script = Script::boot_in(product(), 4, |ec2| {
        ec2.others.insert(InstanceId::new("i-alive"));
    })
    .unwrap();
    for kind in 0..5 {
        script.act(Action::Zone(Event::LeftBehind(kind))).unwrap();
    }
    assert_eq!(script.world.ec2.enis.len(), 6);
    script.pass(86_400_000 + 700_000).unwrap();
    assert_eq!(script.world.ec2.enis.len(), 5, "one of five is a leak");
    assert_eq!(script.world.marks.times("leak deleted"), 1);
    assert_eq!(script.world.marks.times("leak proven"), 1);
}

/// A dry run names and keeps.
#[test]
fn dry_run_names_leaks_and_keeps_them() {
    let mut script = Script::boot(Settings { leaks: LeakPolicy::DryRun, ..product() }, 4).unwrap();
    script.act(Action::Zone(Event::LeftBehind(0))).unwrap();
    script.pass(86_400_000 + 700_000).unwrap();
    assert_eq!(script.world.ec2.enis.len(), 2);
    let rows = script.world.pool.leaks();
    assert!(rows.len() == 1 && rows[0].proven, "{rows:?}");
    assert_eq!(script.world.marks.times("leak proven"), 1);
}

/// An operator asks: a look at once, no proof shortened, an order carried out also where the daemon would only name; what is
/// another cluster's, of a living node or not to be managed stays.
#[test]
fn ordered_collection_deletes_what_is_proven_and_no_more() {
    let dry = Settings { leaks: LeakPolicy::DryRun, ..product() };
    let mut script = Script::boot_in(dry, 4, |ec2| {
        ec2.others.insert(InstanceId::new("i-alive"));
    })
    .unwrap();
    for kind in 0..5 {
        script.act(Action::Zone(Event::LeftBehind(kind))).unwrap();
    }
    let asked = |script: &mut Script, delete| {
        script.act(Action::Zone(Event::LeaksAsked(delete))).unwrap();
        script.pass(5_000).unwrap();
        script.world.ec2.enis.len()
    };
    assert_eq!(asked(&mut script, true), 6, "seen once");
    script.pass(590_000).unwrap();
    assert_eq!(asked(&mut script, true), 6, "not long enough apart");
    script.pass(10_000).unwrap();
    assert_eq!(asked(&mut script, false), 6, "nothing is ordered");
    assert_eq!(asked(&mut script, true), 5, "one of five is a leak");
    assert_eq!(script.world.marks.times("leaks told"), 4);
    assert_eq!(asked(&mut script, true), 5);
}

/// C36: a cordoned node starts no detach; afterwards it gives back as ever.
#[test]
fn cordoned_node_detaches_nothing() {
    let mut script = Script::boot(product(), 30).unwrap();
    script.start(0..30).unwrap();
    script.pass(20_000).unwrap();
    assert_eq!(script.enis(), 3);
    script.act(Action::Zone(Event::Cordon(true))).unwrap();
    script.stop(0..30).unwrap();
    script.pass(1_800_000).unwrap();
    assert_eq!(script.enis(), 3);
    script.act(Action::Zone(Event::Cordon(false))).unwrap();
    script.pass(600_000).unwrap();
    assert_eq!(script.enis(), 1);
}

/// Custom networking: no ENI without an ENIConfig, a named cause, no pod on the primary ENI, subnet and groups as told.
#[test]
fn custom_networking_uses_the_eniconfig_and_never_the_primary_eni() {
    let custom = Settings { primary_excluded: true, ..product() };
    let mut script = Script::boot_in(custom, 5, |ec2| ec2.subnets.push(Subnet::new(1, 1_000))).unwrap();
    script.input(Input::EniConfig(None)).unwrap();
    script.start(0..5).unwrap();
    script.pass(10_000).unwrap();
    assert_eq!((script.living(), script.enis()), (0, 1));
    assert_eq!(script.world.pool.stats().growth_waits, Some(Cause::NoEniConfig));
    let groups = vec![podwire_pool::GroupId::new("sg-pods")];
    let config = EniConfig { subnet: SubnetId::new("subnet-2"), groups: groups.clone() };
    script.input(Input::EniConfig(Some(config))).unwrap();
    script.pass(5_000).unwrap();
    assert_eq!((script.living(), script.enis()), (5, 2));
    let eni = script.world.ec2.enis.values().find(|e| e.seen.subnet.as_str() == "subnet-2").unwrap();
    assert_eq!(eni.seen.groups, groups);
    assert_eq!(script.world.marks.times("set groups"), 0, "the primary's groups are not forced on it");
}

/// Security groups follow the primary ENI's: seen by metadata, confirmed by a Describe, set once for each ENI.
#[test]
fn changed_groups_reach_the_secondary_enis_once() {
    let mut script = Script::boot(product(), 20).unwrap();
    script.start(0..20).unwrap();
    script.pass(10_000).unwrap();
    assert_eq!(script.enis(), 2);
    script.act(Action::Zone(Event::Regroup(7))).unwrap();
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.pass(60_000).unwrap();
    assert_eq!(script.world.marks.times("set groups"), 1);
    let groups: Vec<_> = script.world.ec2.enis.values().map(|e| e.seen.groups.clone()).collect();
    assert_eq!(groups[0], groups[1]);
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.pass(600_000).unwrap();
    assert_eq!(script.world.marks.times("set groups"), 1, "compared before it is set");
}
