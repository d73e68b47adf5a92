//! What a Describe shows and does not show (design D1, D3): doubt at once, forgetting only on the word of a second one.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_pool::settings::Limits;
use podwire_pool::{
    AddressState, Answer, Cause, Ec2Call, Ec2Failure, Effect, EniId, FailureClass, Input, OpId, Record,
    Settings, Snapshot, SnapshotSource,
};

use crate::bench::{Bench, eni, settings};
use crate::scenes::{self, address, describes, second};

/// A node with four pods, the last of them on a second ENI, at rest.
fn grown() -> Bench {
    let mut bench = scenes::grown();
    bench.pass(60_000);
    assert_eq!(bench.pool.stats().enis, 2);
    bench.causes.clear();
    bench
}

fn state_of(bench: &Bench, ip: IpAddr) -> Option<AddressState> {
    bench.pool.rows().iter().find(|row| row.address == ip).map(|row| row.state)
}

/// EC2 loses an address of ours, without a word.
fn lose(bench: &mut Bench, ip: IpAddr) {
    bench.enis.values_mut().for_each(|eni| eni.addresses.retain(|other| *other != ip));
}

fn free_one(bench: &Bench) -> IpAddr {
    let free = |row: &&podwire_pool::AddressRow| row.state == AddressState::Free;
    bench.pool.rows().iter().find(free).expect("one in reserve").address
}

fn forgotten(bench: &Bench, ip: IpAddr) -> bool {
    bench.log.iter().any(|r| matches!(r, Record::Unassigned { net, .. } if *net == IpNetwork::from(ip)))
}

fn quarantined(bench: &Bench) -> usize {
    bench.causes.iter().filter(|c| matches!(c, Cause::Quarantined { .. })).count()
}

/// One Describe withholds a free address, a second one half a minute later forgets it.
#[test]
fn address_that_two_describes_miss_is_forgotten_and_one_is_not() {
    let mut bench = grown();
    let ip = free_one(&bench);
    lose(&mut bench, ip);
    bench.describe();
    assert_eq!(state_of(&bench, ip), Some(AddressState::Quarantined));
    assert_eq!(quarantined(&bench), 1);
    let before = describes(&bench);
    bench.describe();
    bench.pass(29_999);
    assert!(!forgotten(&bench, ip), "a second look at once proves nothing");
    assert_eq!(quarantined(&bench), 1, "told once");
    bench.pass(1);
    assert!(forgotten(&bench, ip));
    assert_eq!(describes(&bench) - before, 1, "asked for when it can tell, and not before");
}

/// An address that is listed again is as good as before.
#[test]
fn address_that_is_listed_again_is_used_again() {
    let mut bench = grown();
    let ip = free_one(&bench);
    let enis = bench.enis.clone();
    lose(&mut bench, ip);
    bench.describe();
    bench.enis = enis;
    bench.pass(1);
    bench.describe();
    assert_eq!(state_of(&bench, ip), Some(AddressState::Free));
    bench.pass(600_000);
    assert!(!forgotten(&bench, ip));
}

/// An address a pod lives on is never forgotten; once the pod is gone, the next look ends it. Meanwhile EC2 is asked every
/// five minutes and not more often.
#[test]
fn address_of_a_pod_that_ec2_does_not_list_is_kept_until_the_pod_is_gone() {
    let mut bench = grown();
    let ip = address(&bench, 1);
    lose(&mut bench, ip);
    bench.describe();
    bench.pass(31_000);
    let before = describes(&bench);
    bench.pass(1_200_000);
    assert_eq!(describes(&bench) - before, 4);
    assert!(!forgotten(&bench, ip));
    assert_eq!(state_of(&bench, ip), Some(AddressState::Allocated));
    bench.del(100, "pod-1");
    bench.pass(400_000);
    assert!(forgotten(&bench, ip));
}

/// An ENI that no Describe lists is forgotten by the second one, when no pod lives on it.
#[test]
fn idle_eni_that_two_describes_miss_is_forgotten() {
    let mut bench = grown();
    bench.del(100, "pod-4");
    bench.run();
    bench.pass(31_000);
    bench.enis.remove(&second());
    bench.describe();
    let gone =
        |bench: &Bench| bench.log.iter().any(|r| matches!(r, Record::EniGone { eni } if *eni == second()));
    bench.describe();
    bench.pass(29_999);
    assert!(!gone(&bench), "one look, or two at once, are not enough");
    bench.pass(2);
    assert!(gone(&bench));
    let touched = |c: &Ec2Call| matches!(c, Ec2Call::Detach { .. } | Ec2Call::Delete { .. });
    assert!(!bench.all_calls.iter().any(touched), "there is nothing to delete");
}

/// With a pod on it the ENI is out of use and stays known until the pod is gone.
#[test]
fn eni_with_a_pod_that_no_describe_lists_is_kept_until_the_pod_is_gone() {
    let mut bench = grown();
    let taken = bench.enis.remove(&second()).unwrap();
    bench.describe();
    bench.pass(700_000);
    let known = |bench: &Bench| bench.pool.eni_rows().iter().any(|row| row.id == second());
    assert!(known(&bench));
    assert!(bench.pool.out_of_reach(&crate::bench::key("pod-4")).is_some());
    bench.enis.insert(second(), taken);
    bench.describe();
    assert_eq!(bench.pool.out_of_reach(&crate::bench::key("pod-4")), None, "it was there all the time");
    bench.enis.remove(&second());
    bench.describe();
    bench.del(100, "pod-4");
    bench.pass(700_000);
    assert!(!known(&bench));
}

/// An idle ENI that others detached is deleted, never detached once more; one with a pod waits for the pod's end.
#[test]
fn eni_that_others_detached_is_deleted_once_no_pod_lives_on_it() {
    let mut bench = grown();
    let taken = bench.enis.get_mut(&second()).unwrap();
    (taken.attached, taken.attachment, taken.instance) = (false, None, None);
    bench.describe();
    bench.pass(700_000);
    assert!(!bench.removed.contains(&second()), "a pod lives on it");
    bench.del(100, "pod-4");
    bench.pass(700_000);
    assert!(bench.removed.contains(&second()), "{:?}", bench.pool.eni_rows());
    assert!(!bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Detach { .. })));
}

/// A Describe that was asked for before a call cannot show what the call did, however long ago that is.
#[test]
fn describe_older_than_a_call_says_nothing_of_what_the_call_touched() {
    let mut bench = grown();
    let known = bench.pool.rows().len();
    let mut old = bench.enis.clone();
    old.remove(&second());
    old.values_mut().for_each(|eni| eni.addresses.clear());
    let enis = old.into_values().collect();
    bench.input(Input::Observed(Snapshot { source: SnapshotSource::Describe, as_of: OpId(1), enis }));
    assert_eq!(quarantined(&bench), 0, "{:?}", bench.causes);
    assert_eq!(bench.pool.rows().len(), known);
}

/// What EC2 did a moment ago may not show yet: that is no doubt, but a reason to look once more when it must show.
#[test]
fn describe_within_ec2s_lag_is_followed_by_another_and_doubts_nothing() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let (before, asked) = (bench.enis.clone(), describes(&bench));
    bench.enis.remove(&second());
    bench.enis.values_mut().for_each(|eni| eni.addresses.clear());
    bench.describe();
    assert_eq!(quarantined(&bench), 0, "{:?}", bench.causes);
    bench.enis = before;
    bench.pass(9_999);
    assert_eq!(describes(&bench) - asked, 0);
    bench.pass(2);
    assert_eq!(describes(&bench) - asked, 1);
}

/// Answers a call that is open with silence, after EC2 did what it asked.
fn lose_answer(bench: &mut Bench, which: impl Fn(&Ec2Call) -> bool) {
    let fits = |e: &Effect| matches!(e, Effect::Ec2 { call, .. } if which(call));
    let open = bench.pending.iter().position(fits).expect("such a call is open");
    let Effect::Ec2 { op, .. } = bench.pending.remove(open) else { panic!("a call") };
    let lost = Ec2Failure { class: FailureClass::Unknown, code: "t".into(), message: "t".into() };
    bench.input(Input::Ec2 { op, outcome: Err(lost) });
}

fn assigns(call: &Ec2Call) -> bool {
    matches!(call, Ec2Call::Assign { .. })
}

/// The answer to an assignment was lost: what a Describe finds is new, and serves the pod that waits at once.
#[test]
fn addresses_of_a_lost_answer_are_used_without_a_rest() {
    let mut bench = Bench::new(settings());
    bench.ec2_holds = true;
    bench.see_metadata();
    bench.run();
    bench.add(1, "pod-1");
    lose_answer(&mut bench, assigns);
    let primary = bench.enis.get_mut(&EniId::new("eni-0")).unwrap();
    primary.addresses.push(IpAddr::from([10, 0, 7, 1]));
    bench.ec2_holds = false;
    bench.pass(2_000);
    assert_eq!(address(&bench, 1), IpAddr::from([10, 0, 7, 1]));
}

/// An address that somebody else assigned to our ENI may have been in use until now: it rests before a pod gets it.
#[test]
fn address_assigned_by_others_rests_first() {
    let mut bench = grown();
    let ip = IpAddr::from([10, 0, 7, 1]);
    bench.enis.get_mut(&second()).unwrap().addresses.push(ip);
    bench.describe();
    assert_eq!(state_of(&bench, ip), Some(AddressState::Cooling));
}

/// A create whose answer was lost: no second one before a Describe young enough to show the first; then, where none is
/// found, growth goes on.
#[test]
fn lost_create_is_looked_for_before_another_is_made() {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 3, ipv4_per_eni: 2 }, ..settings() });
    bench.see_metadata();
    bench.add(1, "pod-1");
    bench.run();
    bench.pass(60_000);
    bench.failures = vec![FailureClass::Unknown];
    bench.add(2, "pod-2");
    bench.add(3, "pod-3");
    let creates =
        |bench: &Bench| bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Create { .. })).count();
    let made = creates(&bench);
    bench.pass(9_000);
    assert_eq!(creates(&bench), made + 1, "not while the first may still show");
    bench.pass(10_000);
    assert!(creates(&bench) > made + 1, "{:?}", bench.all_calls);
    let open = |r: &Record| matches!(r, Record::Settled { .. });
    assert!(bench.log.iter().any(open), "the ledger knows that nothing came of it");
    assert!(matches!(bench.answer(3), Some(Answer::Allocated { .. })), "{:?}", bench.answer(3));
}

/// An ENI of ours is tagged away from us and back while it is attached: out of use, then in use again, also for the ledger.
#[test]
fn eni_given_back_to_us_by_its_tags_is_used_again() {
    let mut bench = grown();
    let ours = bench.enis[&second()].tags.clone();
    let no_manage = vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())];
    bench.enis.get_mut(&second()).unwrap().tags = Some(no_manage);
    bench.describe();
    let usable = |bench: &Bench| {
        let rows = bench.pool.eni_rows();
        rows.iter().find(|row| row.id == second()).map(|row| row.role)
    };
    assert_eq!(usable(&bench), Some("foreign"));
    bench.describe();
    assert_eq!(quarantined(&bench), 1, "told once: {:?}", bench.causes);
    bench.enis.get_mut(&second()).unwrap().tags = ours;
    bench.describe();
    assert_eq!(usable(&bench), Some("secondary"));
    bench.run();
    let carried = |bench: &Bench| bench.pool.rows().iter().filter(|row| row.eni == second()).count();
    let before = carried(&bench);
    assert!(before > 0);
    bench.restart(bench.log.clone());
    assert_eq!((usable(&bench), carried(&bench)), (Some("secondary"), before));
}

/// Metadata shows an ENI whose tags it cannot show: one Describe tells whose it is. Ours joins; somebody else's takes a
/// place and nothing more.
#[test]
fn eni_that_metadata_shows_belongs_to_whom_its_tags_say() {
    for (tags, role) in [
        (vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())], "secondary"),
        (vec![("node.k8s.amazonaws.com/instance_id".into(), "i-2".into())], "foreign"),
        (vec![], "foreign"),
    ] {
        let mut bench = Bench::new(settings());
        let other = podwire_pool::ObservedEni { tags: Some(tags), ..eni("eni-x", 1) };
        bench.enis.insert(other.id.clone(), other);
        bench.see_metadata();
        bench.run();
        let row = bench.pool.eni_rows().into_iter().find(|row| row.id == EniId::new("eni-x")).unwrap();
        assert_eq!(row.role, role);
        assert_eq!(describes(&bench), 1);
    }
}

/// A detached ENI that is not ours is none of this node's business; one of ours that waits to be attached is.
#[test]
fn detached_eni_is_met_only_when_it_is_ours() {
    for (owner, known) in [("i-1", true), ("i-2", false)] {
        let mut bench = grown();
        let mut other = eni("eni-x", 0);
        (other.attached, other.attachment, other.instance) = (false, None, None);
        other.tags = Some(vec![("node.k8s.amazonaws.com/instance_id".into(), owner.into())]);
        bench.enis.insert(other.id.clone(), other);
        bench.describe();
        assert_eq!(bench.pool.eni_rows().iter().any(|row| row.id == EniId::new("eni-x")), known, "{owner}");
    }
}

/// An answer that comes after the ENI's next call began does not undo what that call will do.
#[test]
fn late_describe_brings_back_nothing_that_was_given_back() {
    let mut bench = grown();
    let before = bench.enis.clone();
    for n in 1..=4 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.run();
    let unassigned = |bench: &Bench| bench.log.iter().any(|r| matches!(r, Record::Unassigned { .. }));
    while !unassigned(&bench) {
        bench.pass(1_000);
    }
    let known = bench.pool.rows().len();
    let now = std::mem::replace(&mut bench.enis, before);
    bench.enis.retain(|id, _| now.contains_key(id));
    bench.describe();
    assert_eq!(bench.pool.rows().len(), known, "EC2 may show the time before for a while");
    bench.enis = now;
    let asked = describes(&bench);
    bench.pass(12_000);
    assert!(describes(&bench) > asked, "it is looked at once more");
}

/// The free addresses of an ENI that no Describe lists are shown as kept out of use.
#[test]
fn free_addresses_of_a_missing_eni_are_quarantined() {
    let mut bench = grown();
    bench.enis.remove(&second());
    bench.describe();
    let states = bench.pool.rows().into_iter().filter(|row| row.eni == second());
    let free: Vec<_> =
        states.map(|row| row.state).filter(|state| *state != AddressState::Allocated).collect();
    assert!(!free.is_empty());
    assert!(free.iter().all(|state| *state == AddressState::Quarantined), "{free:?}");
}

/// What EC2 never assigns in one piece is no block of addresses, whoever lists it.
#[test]
fn network_of_another_size_is_not_taken_for_addresses() {
    let mut bench = Bench::new(settings());
    let primary = bench.enis.get_mut(&EniId::new("eni-0")).unwrap();
    primary.prefixes = vec!["10.0.64.0/24".parse().unwrap(), "10.0.65.3/28".parse().unwrap()];
    bench.see_metadata();
    assert_eq!(bench.pool.stats().assigned, 0);
}

/// An ENI whose subnet's CIDR nobody names has that of another ENI in the same subnet: the host needs it for the routes.
#[test]
fn cidr_of_a_subnet_is_known_from_another_eni_in_it() {
    let mut bench = grown();
    let cidr = bench.enis[&EniId::new("eni-0")].subnet_cidr;
    let other = podwire_pool::ObservedEni { subnet_cidr: None, ..eni("eni-x", 2) };
    bench.enis.insert(other.id.clone(), other);
    bench.describe();
    bench.pass(30_000);
    let told = bench.all_hosts.iter().find_map(|change| match change {
        podwire_pool::HostChange::ConfigureEni { eni, subnet_cidr, .. } if *eni == EniId::new("eni-x") => {
            Some(*subnet_cidr)
        }
        _ => None,
    });
    assert_eq!(told, Some(cidr));
}

/// An address that EC2 shows on two ENIs is handed out on neither, whichever of them is looked at first, until it shows it on
/// one again.
#[test]
fn address_listed_on_two_enis_is_given_to_nobody() {
    for other in ["eni-0", "eni-z"] {
        let mut bench = grown();
        let ip = free_one(&bench);
        bench.enis.insert(EniId::new("eni-z"), eni("eni-z", 9));
        bench.describe();
        bench.pass(12_000);
        let before = bench.enis.clone();
        bench.enis.get_mut(&EniId::new(other)).unwrap().addresses.push(ip);
        bench.describe();
        assert_eq!(state_of(&bench, ip), Some(AddressState::Quarantined), "also on {other}");
        assert!(quarantined(&bench) > 0, "people are told");
        bench.pass(12_000);
        assert_eq!(state_of(&bench, ip), Some(AddressState::Quarantined), "on {other} still");
        bench.enis = before;
        bench.pass(300_000);
        assert_eq!(state_of(&bench, ip), Some(AddressState::Free), "after another look");
    }
}
