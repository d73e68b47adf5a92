//! Defects that the simulator found and no other test would see again: each by the order of events that shows it, with the
//! seed it was found by. Each test fails without the change that mended it.

use std::net::IpAddr;

use podwire_pool::settings::{Limits, SubnetPolicy};
use podwire_pool::{
    Answer, Ec2Call, EniId, FailureClass, GroupId, Input, ObservedSubnet, OpId, Record, Settings, Snapshot,
    SnapshotSource, SubnetId,
};

use crate::bench::{Bench, eni, key, pod, settings};
use crate::scenes::{describes, grow};

/// A Describe that lists these alone, asked for before operation `as_of`.
fn described(bench: &mut Bench, as_of: OpId, only: &[&str]) {
    let enis = only.iter().map(|id| bench.enis[&EniId::new(*id)].clone()).collect();
    bench.input(Input::Observed(Snapshot { source: SnapshotSource::Describe, as_of, enis }));
}

/// A node that grew beyond its primary ENI.
fn grown(bench: &mut Bench) {
    grow(bench);
    assert!(bench.pool.stats().enis >= 2);
}

/// What somebody else does.
fn detach(bench: &mut Bench, id: &str) {
    let taken = bench.enis.get_mut(&EniId::new(id)).expect("an ENI of that name");
    (taken.attached, taken.attachment, taken.instance) = (false, None, None);
}

/// Seed 1745 (L7): a Describe older than a call for the primary ENI was not looked at for its security groups either.
#[test]
fn groups_of_the_primary_count_from_every_describe() {
    let mut bench = Bench::new(settings());
    grown(&mut bench);
    bench.pass(60_000);
    let groups = vec![GroupId::new("sg-2")];
    for eni in bench.enis.values_mut().filter(|eni| eni.id == EniId::new("eni-0")) {
        eni.groups = groups.clone();
    }
    described(&mut bench, OpId(1), &["eni-0", "eni-1"]);
    bench.pass(1_000);
    let set = Ec2Call::SetGroups { eni: EniId::new("eni-1"), groups };
    assert!(bench.all_calls.contains(&set), "{:?}", bench.all_calls);
}

/// A primary ENI that carries an address, after the ledger was lost.
fn after_a_loss(records: Vec<Record>) -> Bench {
    let mut bench = Bench::new(settings());
    let mut primary = eni("eni-0", 0);
    primary.addresses = vec![IpAddr::from([10, 0, 1, 1])];
    bench.enis.insert(primary.id.clone(), primary);
    bench.restart(records);
    bench
}

/// Seed 76 (S2): an ENI whose give-back was under way when the ledger was lost had its addresses handed out again. What an
/// ENI with an unknown past carries waits for a second look, also when it has cooled.
#[test]
fn addresses_met_with_an_unknown_past_wait_for_a_second_look() {
    let mut bench = after_a_loss(Vec::new());
    bench.describe();
    bench.ec2_holds = true;
    bench.pass(45_000);
    bench.add(1, "pod-1");
    bench.pass(1_000);
    assert_eq!(bench.answer(1), None, "what is about to go is not known yet");
    bench.ec2_holds = false;
    bench.pass(20_000);
    assert!(matches!(bench.answer(1), Some(Answer::Allocated { .. })), "{:?}", bench.answer(1));
}

/// Seeds 2233 and 2458 (S4): the release of an address stood in the ledger before anything said which ENI carries it, and
/// after a crash the address was free instead of resting.
#[test]
fn address_released_before_its_eni_is_known_rests_after_a_crash() {
    let address = IpAddr::from([10, 0, 1, 1]);
    let held =
        |at| Record::Allocated { sandbox: key("pod-1"), pod: pod("pod-1"), addresses: vec![address], at };
    let mut bench = after_a_loss(Vec::new());
    bench.restart(vec![held(bench.now)]);
    bench.disk_holds = true;
    bench.del(1, "pod-1");
    bench.describe();
    bench.disk_holds = false;
    bench.restart(bench.log.clone());
    let stats = bench.pool.stats();
    assert_eq!((stats.cooling, stats.free), (1, 0), "{stats:?}");
}

/// Seed 7088 (S3): a create waited for the disk while the list of subnets came that keeps pods out of its subnet; it was
/// sent all the same.
#[test]
fn create_held_by_the_disk_is_not_sent_into_a_subnet_that_keeps_pods_out_by_now() {
    let limits = Limits { enis: 3, ipv4_per_eni: 2 };
    let policy = SubnetPolicy { discovery: true, floor: 0 };
    let mut bench = Bench::new(Settings { limits, subnets: policy, ..settings() });
    bench.subnets = vec![ObservedSubnet {
        id: SubnetId::new("subnet-1"),
        cidr: None,
        free: 100,
        tags: vec![("kubernetes.io/role/cni".into(), "0".into())],
    }];
    bench.broken = Some("DescribeSubnets");
    bench.see_metadata();
    bench.pass(1_000);
    bench.disk_holds = true;
    bench.input(Input::Demand { bound: Some(2) });
    bench.run();
    let intended = |r: &Record| matches!(r, Record::Intent { create: Some(_), .. });
    assert!(bench.log.iter().any(intended), "a create waits for the disk: {:?}", bench.all_calls);
    bench.broken = None;
    bench.pass(40_000);
    bench.input(Input::Demand { bound: Some(6) });
    bench.run();
    let listed = |call: &&Ec2Call| matches!(call, Ec2Call::DescribeSubnets { .. });
    assert!(bench.all_calls.iter().filter(listed).count() >= 2, "{:?}", bench.all_calls);
    bench.disk_holds = false;
    bench.run();
    assert!(
        !bench.all_calls.iter().any(|call| matches!(call, Ec2Call::Create { .. })),
        "{:?}",
        bench.all_calls
    );
    assert!(bench.log.iter().any(|r| matches!(r, Record::Settled { .. })), "its intent is settled");
}

/// Seed 14834 (L5): EC2 said that an address was gone which it had kept. Metadata lists it on; once that can no longer be
/// metadata's delay, a Describe is asked for, and the pool knows of it again.
#[test]
fn address_that_did_not_go_is_looked_at_again() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.add(1, "pod-1");
    bench.run();
    bench.del(2, "pod-1");
    bench.pass(120_000);
    let unassigned = |bench: &Bench| -> Vec<ipnetwork::IpNetwork> {
        let calls = bench.all_calls.iter().filter_map(|call| match call {
            Ec2Call::Unassign { nets, .. } => Some(nets.clone()),
            _ => None,
        });
        calls.flatten().collect()
    };
    let kept = unassigned(&bench).first().copied().expect("something idle went back");
    let primary = EniId::new("eni-0");
    bench.enis.get_mut(&primary).expect("the primary").addresses.push(kept.ip());
    let before = describes(&bench);
    bench.see_metadata();
    bench.pass(60_000);
    assert_eq!(describes(&bench), before, "metadata may be late");
    bench.pass(300_000);
    bench.see_metadata();
    bench.pass(120_000);
    assert!(describes(&bench) > before);
    assert!(bench.pool.rows().iter().any(|row| row.address == kept.ip()), "{:?}", bench.pool.rows());
}

/// Seed 14030 (S2): an ENI that others had detached was taken for attached as long as calls for it failed every few seconds,
/// and the first one that did not brought a pod's address.
#[test]
fn detached_eni_is_seen_as_such_while_calls_for_it_fail() {
    let mut bench = Bench::new(settings());
    grown(&mut bench);
    bench.pass(60_000);
    detach(&mut bench, "eni-1");
    bench.failures = vec![FailureClass::Throttled; 20];
    let calls = |bench: &Bench| {
        bench
            .all_calls
            .iter()
            .filter(|c| matches!(c, Ec2Call::Assign { eni, .. } if *eni == EniId::new("eni-1")))
            .count()
    };
    let before = calls(&bench);
    for n in 5..=6 {
        bench.add(n, &format!("pod-{n}"));
        bench.pass(500);
    }
    assert!(calls(&bench) > before, "{:?}", bench.all_calls);
    bench.causes.clear();
    bench.describe();
    bench.run();
    let told = |cause: &podwire_pool::Cause| matches!(cause, podwire_pool::Cause::Quarantined { .. });
    assert!(bench.causes.iter().any(told), "{:?}", bench.causes);
}

/// Seed 2693 (L4): EC2 showed an ENI as detached, a later answer did not list it, and it was forgotten for ever. One answer
/// that leaves out what exists is no proof.
#[test]
fn detached_eni_is_not_forgotten_for_one_answer_without_it() {
    let mut bench = Bench::new(settings());
    grown(&mut bench);
    bench.pass(60_000);
    for n in 1..=4 {
        bench.del(n + 10, &format!("pod-{n}"));
    }
    bench.pass(5_000);
    detach(&mut bench, "eni-1");
    bench.describe();
    bench.pass(1_000);
    let left_out = bench.enis.remove(&EniId::new("eni-1")).expect("a second ENI");
    bench.pass(45_000);
    bench.enis.insert(left_out.id.clone(), left_out.clone());
    bench.pass(300_000);
    let deleted = Ec2Call::Delete { eni: left_out.id };
    assert!(bench.all_calls.contains(&deleted), "{:?}", bench.all_calls);
}

/// A node whose second ENI was created and attached while EC2 could not be told that it goes with the instance.
fn untold() -> Bench {
    let mut bench = Bench::new(settings());
    bench.broken = Some("DeleteOnTermination");
    grown(&mut bench);
    bench.broken = None;
    bench
}

/// EC2 hears of the second ENI after a crash, although the first Describe then does not list it yet.
fn is_told_after_a_crash(mut bench: Bench, records: Vec<Record>) {
    bench.all_calls.clear();
    bench.restart(records);
    bench.now = bench.now.after(std::time::Duration::from_secs(20));
    described(&mut bench, OpId(u64::MAX), &["eni-0"]);
    bench.pass(60_000);
    let told = |call: &Ec2Call| matches!(call, Ec2Call::DeleteOnTermination { eni, .. } if *eni == EniId::new("eni-1"));
    assert!(bench.all_calls.iter().any(told), "{:?}", bench.all_calls);
}

/// Seed 1268 (L4): a create had come out well, the daemon crashed, and a Describe that did not list the ENI yet settled the
/// create: EC2 was never told to delete the ENI with the instance.
#[test]
fn create_that_came_out_well_is_not_settled_by_a_partial_describe_after_a_crash() {
    let bench = untold();
    let records = bench.log.clone();
    is_told_after_a_crash(bench, records);
}

/// Seed 6440 (L4): the same after the ledger was compacted, which left out what the create had made.
#[test]
fn compacted_ledger_says_which_eni_a_create_made() {
    let bench = untold();
    let records = bench.pool.snapshot();
    is_told_after_a_crash(bench, records);
}

/// Seed 7215 (L7): two incomplete Describes had missed an ENI, and metadata that listed it came ten minutes after everything
/// else: it was compared with what was remembered then, and EC2 was not asked.
#[test]
fn eni_missed_twice_is_looked_at_again_when_metadata_lists_it_much_later() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    let other = eni("eni-x", 1);
    bench.enis.insert(other.id.clone(), other.clone());
    bench.describe();
    bench.pass(11_000);
    bench.enis.remove(&other.id);
    bench.describe();
    bench.pass(31_000);
    let gone = |r: &Record| matches!(r, Record::EniGone { eni } if *eni == other.id);
    assert!(bench.log.iter().any(gone), "two Describes missed it");
    bench.enis.insert(other.id.clone(), other.clone());
    bench.now = bench.now.after(std::time::Duration::from_secs(600));
    bench.all_calls.clear();
    bench.see_metadata();
    assert!(bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Describe { .. })), "{:?}", bench.all_calls);
}
