//! Whose an ENI is, across restarts: the ledger does not say, so what it remembers is not taken at its word (design D6).

use podwire_pool::{DeviceIndex, Ec2Call, EniId, GrowBy, ObservedEni, Record};

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
    bench.all_calls.iter().filter(touches).cloned().collect()
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

/// An untagged ENI that we may use by `MANAGE_UNTAGGED_ENI` is never detached or deleted, also after a restart.
#[test]
fn borrowed_eni_is_never_given_away_after_a_restart() {
    let (mut bench, id) = beside(Vec::new(), true);
    for n in 1..=5 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    let used = |c: &Ec2Call| matches!(c, Ec2Call::Assign { eni, by: GrowBy::Addresses(_) } if *eni == id);
    assert!(bench.all_calls.iter().any(used), "pods live on it");
    bench.restart(bench.log.clone());
    bench.see_metadata();
    bench.run();
    for n in 1..=5 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.pass(3_600_000);
    let gone = |c: &Ec2Call| matches!(c, Ec2Call::Detach { .. } | Ec2Call::Delete { .. });
    assert!(!touched(&bench, &id).iter().any(gone), "{:?}", touched(&bench, &id));
    assert!(bench.enis[&id].attached);
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
