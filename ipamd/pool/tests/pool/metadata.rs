//! What metadata says after the first boot: a difference is a reason to ask EC2, rarely, and never a fact (design D1).

use std::collections::BTreeMap;

use podwire_pool::{EniId, GrowthNow, HostChange, Input, ObservedEni, OpId, Snapshot, SnapshotSource};

use crate::bench::{Bench, eni, settings};
use crate::scenes::{describes, grown, second};

/// How often EC2 is asked because of metadata that differs so from what EC2 would say.
fn asked_by(bench: &mut Bench, as_of: OpId, change: impl FnOnce(&mut BTreeMap<EniId, ObservedEni>)) -> usize {
    let mut seen = bench.enis.clone();
    change(&mut seen);
    let enis =
        seen.into_values().map(|e| ObservedEni { tags: None, kind: None, attachment: None, ..e }).collect();
    let before = describes(bench);
    bench.input(Input::Observed(Snapshot { source: SnapshotSource::Metadata, as_of, enis }));
    bench.run();
    describes(bench) - before
}

const NOW: OpId = OpId(u64::MAX);

fn one_more(seen: &mut BTreeMap<EniId, ObservedEni>) {
    seen.get_mut(&EniId::new("eni-0")).unwrap().addresses.push("10.0.7.7".parse().unwrap());
}

#[test]
fn metadata_that_stays_different_costs_one_describe_in_five_minutes() {
    let mut bench = grown();
    bench.pass(60_000);
    assert_eq!(asked_by(&mut bench, NOW, |_| {}), 0);
    assert_eq!(asked_by(&mut bench, NOW, one_more), 1);
    assert_eq!(asked_by(&mut bench, NOW, one_more), 0);
    bench.pass(299_999);
    assert_eq!(asked_by(&mut bench, NOW, one_more), 0);
    bench.pass(1);
    assert_eq!(asked_by(&mut bench, NOW, one_more), 1);
}

/// Metadata lags by minutes: what it does not show yet is a difference only when it is five minutes old.
#[test]
fn what_metadata_does_not_show_is_a_difference_once_it_is_old() {
    let no_eni = |seen: &mut BTreeMap<EniId, ObservedEni>| _ = seen.remove(&second());
    let no_address =
        |seen: &mut BTreeMap<EniId, ObservedEni>| seen.get_mut(&second()).unwrap().addresses.clear();
    let mut bench = grown();
    assert_eq!((asked_by(&mut bench, NOW, no_eni), asked_by(&mut bench, NOW, no_address)), (0, 0));
    bench.pass(310_000);
    assert_eq!(asked_by(&mut bench, NOW, no_eni), 1);
    bench.pass(300_000);
    assert_eq!(asked_by(&mut bench, NOW, no_address), 1);
}

/// Metadata read before a call ended cannot show what the call did; a foreign ENI is not looked into at all.
#[test]
fn metadata_older_than_a_call_and_foreign_enis_are_no_reason_to_ask() {
    let mut bench = grown();
    let theirs = vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())];
    let other = ObservedEni { tags: Some(theirs), ..eni("eni-theirs", 7) };
    bench.enis.insert(other.id.clone(), other);
    bench.describe();
    bench.pass(310_000);
    let clear = |seen: &mut BTreeMap<EniId, ObservedEni>| seen.values_mut().for_each(|e| e.addresses.clear());
    assert_eq!(asked_by(&mut bench, OpId(1), clear), 0);
    let more = |seen: &mut BTreeMap<EniId, ObservedEni>| {
        let theirs = seen.get_mut(&EniId::new("eni-theirs")).unwrap();
        theirs.addresses.push("10.0.8.8".parse().unwrap());
    };
    assert_eq!(asked_by(&mut bench, NOW, more), 0);
}

/// After a restart metadata that agrees with the ledger is enough to begin; where it differs, EC2 has the first word.
#[test]
fn restarted_pool_begins_with_metadata_only_where_it_agrees() {
    for agrees in [true, false] {
        let mut bench = grown();
        bench.restart(bench.log.clone());
        bench.broken = Some("Describe");
        asked_by(&mut bench, NOW, |seen| {
            if !agrees {
                one_more(seen)
            }
        });
        assert_eq!(bench.pool.growth_now() == GrowthNow::Blind, !agrees, "agrees: {agrees}");
    }
}

/// A subnet's CIDR that becomes known later reaches the host, once, and the ledger.
#[test]
fn cidr_learned_from_metadata_reaches_the_host_once() {
    let mut bench = Bench::new(settings());
    let cidr = bench.enis[&EniId::new("eni-0")].subnet_cidr;
    bench.enis.get_mut(&EniId::new("eni-0")).unwrap().subnet_cidr = None;
    bench.see_metadata();
    bench.run();
    bench.enis.get_mut(&EniId::new("eni-0")).unwrap().subnet_cidr = cidr;
    let configured = |bench: &Bench| {
        let with = |c: &&HostChange| matches!(c, HostChange::ConfigureEni { subnet_cidr, .. } if *subnet_cidr == cidr);
        bench.all_hosts.iter().filter(with).count()
    };
    assert_eq!(configured(&bench), 0);
    for _ in 0..2 {
        bench.see_metadata();
        bench.run();
        assert_eq!(configured(&bench), 1);
    }
    bench.restart(bench.log.clone());
    bench.run();
    assert_eq!(configured(&bench), 2, "the ledger knows it");
}
