//! Whose an ENI is, across restarts: the ledger does not say, so what it remembers is not taken at its word (design D6).

use podwire_pool::{
    Answer, Cause, DeviceIndex, Ec2Call, EniId, GrowBy, HostChange, Input, Mac, ObservedEni, OpId, Record,
    Snapshot, SnapshotSource,
};

use crate::bench::{Bench, eni, settings};

/// A node with an ENI of somebody else's, tagged so.
fn beside(tags: Vec<(Box<str>, Box<str>)>, manage_untagged: bool) -> (Bench, EniId) {
    let mut settings = settings();
    settings.manage_untagged = manage_untagged;
    let mut bench = Bench::new(settings);
    let other = ObservedEni { tags: Some(tags), subnet_cidr: None, ..eni("eni-theirs", 1) };
    let id = other.id.clone();
    bench.enis.insert(id.clone(), other);
    bench.see_metadata();
    bench.run();
    bench.pass(1_000);
    (bench, id)
}

fn touched(bench: &Bench, id: &EniId) -> Vec<Ec2Call> {
    touched_of(bench.all_calls.clone(), id)
}

fn touched_of(calls: Vec<Ec2Call>, id: &EniId) -> Vec<Ec2Call> {
    let touches = |call: &&Ec2Call| match call {
        Ec2Call::Assign { eni, .. }
        | Ec2Call::Unassign { eni, .. }
        | Ec2Call::Attach { eni, .. }
        | Ec2Call::DeleteOnTermination { eni, .. }
        | Ec2Call::Detach { eni, .. }
        | Ec2Call::SetGroups { eni, .. }
        | Ec2Call::Delete { eni } => eni == id,
        _ => false,
    };
    calls.iter().filter(touches).cloned().collect()
}

/// Metadata tells the subnet of a foreign ENI that a Describe had shown without; the daemon restarts. It stays foreign.
#[test]
fn foreign_eni_is_foreign_after_a_restart_too() {
    let (mut bench, id) = beside(vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())], false);
    bench.enis.get_mut(&id).unwrap().subnet_cidr = Some("10.0.0.0/16".parse().unwrap());
    bench.see_metadata();
    bench.run();
    let ours = |r: &&Record| matches!(r, Record::Eni(e) if e.id == id);
    assert_eq!(bench.log.iter().filter(ours).count(), 0, "the ledger remembers ours alone");
    bench.restart(bench.log.clone());
    for n in 1..=6 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    bench.pass(60_000);
    assert_eq!(touched(&bench, &id), Vec::new());
}

/// Calls about an ENI that come before it is tagged, and after.
fn before_and_after_tags(bench: &Bench, id: &EniId) -> (Vec<Ec2Call>, Vec<Ec2Call>) {
    let tags = |c: &Ec2Call| matches!(c, Ec2Call::Tag { eni } if eni == id);
    let tagged = bench.all_calls.iter().position(tags).unwrap_or(bench.all_calls.len());
    let about = |calls: &[Ec2Call]| {
        let calls = calls.iter().filter(|c| !tags(c)).cloned().collect();
        touched_of(calls, id)
    };
    (about(&bench.all_calls[..tagged]), about(&bench.all_calls[tagged..]))
}

/// An untagged ENI that we may use by `MANAGE_UNTAGGED_ENI` is tagged before the first change, and once; from then on it
/// is ours, and goes back like any other (design D6).
#[test]
fn borrowed_eni_is_tagged_before_the_first_change() {
    let (mut bench, id) = beside(Vec::new(), true);
    assert!(!bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Tag { .. })), "nothing is to be changed");
    for n in 1..=5 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let used = |c: &Ec2Call| matches!(c, Ec2Call::Assign { eni, by: GrowBy::Addresses(_) } if *eni == id);
    let (before, after) = before_and_after_tags(&bench, &id);
    assert_eq!(before, Vec::new());
    assert!(after.iter().any(used), "pods live on it");
    assert_eq!(bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Tag { .. })).count(), 1);
    bench.restart(bench.log.clone());
    bench.see_metadata();
    bench.run();
    for n in 1..=5 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.pass(3_600_000);
    assert!(bench.removed.contains(&id), "it went back");
    assert_eq!(bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Tag { .. })).count(), 1);
}

/// The ledger remembers that it was not tagged: a later life does not take it for ours either.
#[test]
fn borrowed_eni_is_borrowed_after_a_restart_too() {
    let (mut bench, id) = beside(Vec::new(), true);
    bench.enis.get_mut(&id).unwrap().addresses.push("10.0.7.7".parse().unwrap());
    bench.describe();
    bench.run();
    bench.restart(bench.log.clone());
    bench.see_metadata();
    bench.run();
    for n in 1..=5 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let (before, after) = before_and_after_tags(&bench, &id);
    assert_eq!(before, Vec::new());
    assert!(!after.is_empty(), "it is used");
}

/// Where the role may not tag, the ENI is used as it is and never changed; the others grow, and the cause is named.
#[test]
fn eni_that_may_not_be_tagged_is_left_as_it_is() {
    let (mut bench, id) = beside(Vec::new(), true);
    bench.denies_tags = true;
    // The primary ENI takes three pods; the fourth needs another ENI.
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    bench.pass(5_000);
    assert!(matches!(bench.answer(4), Some(Answer::Allocated { .. })), "{:?}", bench.answer(4));
    let denied = |c: &Cause| c.to_string().contains("ec2:CreateTags is denied");
    assert!(bench.causes.iter().any(denied), "{:?}", bench.causes);
    assert_eq!(touched(&bench, &id), Vec::new());
}

/// Our ENI is taken out of our hands by a tag while we run; after a restart nothing of it is ours.
#[test]
fn eni_taken_out_of_our_hands_stays_out_after_a_restart() {
    let (mut bench, id) = beside(vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())], false);
    let tag = ("node.k8s.amazonaws.com/no_manage".into(), "true".into());
    bench.enis.get_mut(&id).unwrap().tags.as_mut().unwrap().push(tag);
    bench.describe();
    bench.run();
    let before = touched(&bench, &id);
    bench.restart(bench.log.clone());
    for n in 1..=6 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    bench.pass(60_000);
    assert_eq!(touched(&bench, &id), before);
}

/// An ENI that the ledger remembers is given back after a restart, once EC2 has said that it is ours.
#[test]
fn remembered_eni_is_given_back_after_a_look_at_its_tags() {
    let (mut bench, id) = beside(vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())], false);
    assert_eq!(bench.enis[&id].device, DeviceIndex(1));
    for n in 1..=5 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    bench.restart(bench.log.clone());
    bench.see_metadata();
    bench.run();
    for n in 1..=5 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.pass(900_000);
    assert!(bench.removed.contains(&id), "it went back");
}

/// An ENI's role as the pool shows it.
fn role(bench: &Bench, id: &EniId) -> Option<&'static str> {
    bench.pool.eni_rows().iter().find(|row| row.id == *id).map(|row| row.role)
}

/// An ENI whose tags were seen stays ours when somebody takes them away; one that only the ledger remembers was perhaps never
/// tagged, and is tagged again before it is changed.
#[test]
fn eni_without_its_tags_is_ours_only_if_they_were_seen() {
    let tags = vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())];
    let (mut bench, id) = beside(tags, true);
    assert_eq!(role(&bench, &id), Some("secondary"));
    bench.enis.get_mut(&id).unwrap().tags = Some(Vec::new());
    bench.describe();
    assert_eq!(role(&bench, &id), Some("secondary"), "they were seen in this life");
    bench.restart(bench.log.clone());
    bench.describe();
    assert_eq!(role(&bench, &id), Some("borrowed"));
}

/// An EFA-only ENI, as EC2 describes it.
fn efa_only(id: &str, device: u32) -> ObservedEni {
    let theirs = eni(id, device);
    ObservedEni {
        kind: Some("efa-only".into()),
        primary: "::".parse().unwrap(),
        tags: Some(Vec::new()),
        ..theirs
    }
}

fn attached_at(bench: &Bench) -> Vec<u32> {
    let place = |call: &Ec2Call| match call {
        Ec2Call::Attach { device, .. } => Some(device.0),
        _ => None,
    };
    bench.all_calls.iter().filter_map(place).collect()
}

/// EFA-only ENIs have no address and take places: none of ours is attached where they are, nothing of them is touched, and
/// that they look alike is no contradiction.
#[test]
fn efa_only_enis_take_their_places() {
    let mut settings = settings();
    settings.limits.enis = 4;
    for metadata_first in [true, false] {
        let mut bench = Bench::new(settings.clone());
        for theirs in [efa_only("eni-efa1", 1), ObservedEni { mac: Mac([2; 6]), ..efa_only("eni-efa2", 2) }] {
            bench.enis.insert(theirs.id.clone(), theirs);
        }
        if metadata_first {
            bench.see_metadata()
        } else {
            bench.describe()
        }
        bench.run();
        bench.pass(1_000);
        for n in 1..=5 {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
        }
        assert_eq!(attached_at(&bench), [3], "metadata first: {metadata_first}");
        assert!(matches!(bench.answer(5), Some(Answer::Allocated { .. })), "{:?}", bench.answer(5));
        bench.pass(600_000);
        for id in ["eni-efa1", "eni-efa2"] {
            assert_eq!(role(&bench, &EniId::new(id)), Some("foreign"));
            assert_eq!(touched(&bench, &EniId::new(id)), Vec::new());
        }
        assert_eq!(bench.causes, Vec::<Cause>::new());
    }
}

/// A place is taken by what nobody shows us: EC2 refuses it, and the next one is tried.
#[test]
fn refused_place_is_passed_over() {
    let mut settings = settings();
    settings.limits.enis = 4;
    let mut bench = Bench::new(settings);
    bench.taken.insert(DeviceIndex(1));
    bench.see_metadata();
    bench.run();
    for n in 1..=5 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    bench.pass(30_000);
    let tries: Vec<&Ec2Call> =
        bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Attach { .. })).collect();
    let twice = |call: &&&Ec2Call| tries.iter().filter(|other| other == call).count() > 1;
    assert_eq!(tries.iter().find(twice), None, "{tries:?}");
    assert!(attached_at(&bench).ends_with(&[2]) || attached_at(&bench).ends_with(&[2, 3]), "{tries:?}");
    assert!(matches!(bench.answer(5), Some(Answer::Allocated { .. })), "{:?}", bench.answer(5));
    assert!(bench.removed.is_empty(), "no new ENI was given up");
}

/// Metadata of a new ENI may lack its addresses for a while: EC2 tells whose it is, and where it sends from.
#[test]
fn eni_that_metadata_shows_without_address_is_used_once_ec2_told() {
    let mut bench = Bench::new(settings());
    let ours = ObservedEni { addresses: vec!["10.0.9.1".parse().unwrap()], ..eni("eni-ours", 1) };
    let early = ObservedEni {
        tags: None,
        kind: None,
        primary: "::".parse().unwrap(),
        addresses: Vec::new(),
        ..ours.clone()
    };
    let first = ObservedEni { tags: None, kind: None, ..eni("eni-0", 0) };
    bench.enis.insert(ours.id.clone(), ours.clone());
    let (source, as_of) = (SnapshotSource::Metadata, OpId(u64::MAX));
    bench.input(Input::Observed(Snapshot { source, as_of, enis: vec![first, early] }));
    bench.run();
    bench.pass(10_000);
    assert_eq!(role(&bench, &ours.id), Some("secondary"));
    let configured = bench.all_hosts.iter().find_map(|change| match change {
        HostChange::ConfigureEni { eni, primary, .. } if *eni == ours.id => Some(*primary),
        _ => None,
    });
    assert_eq!(configured, Some(ours.primary));
}
