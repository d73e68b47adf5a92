//! What a restart may not forget, and what it may not repeat.

use std::time::Duration;

use podwire_pool::settings::Limits;
use podwire_pool::{Effect, Input, OpId, Pool, Time};

use crate::bench::{Bench, eni, settings};

fn first_op_of_a_life(at: u64) -> OpId {
    let now = Time::from_ms(at);
    let mut pool = Pool::recover(settings(), true, Vec::new(), now);
    let mut effects = Vec::new();
    pool.handle(now, Input::Timer, &mut effects);
    pool.handle(now.after(Duration::from_secs(6)), Input::Timer, &mut effects);
    let op = effects.iter().find_map(|e| if let Effect::Ec2 { op, .. } = e { Some(*op) } else { None });
    op.expect("without word from metadata EC2 is asked")
}

/// The ledger is lost twice in one boot: client tokens, which are made of operation ids, never come back, or EC2 would
/// answer with the ENI it made then.
#[test]
fn operation_ids_differ_after_every_loss_of_the_ledger() {
    assert_ne!(first_op_of_a_life(700_000).0 >> 20, first_op_of_a_life(900_000).0 >> 20);
}

/// Addresses adopted with an unknown past rest; a crash right after that does not make them free.
#[test]
fn adopted_addresses_rest_after_a_crash_too() {
    let mut bench = Bench::new(settings());
    let mut primary = eni("eni-0", 0);
    primary.addresses = vec!["10.0.1.1".parse().unwrap(), "10.0.1.2".parse().unwrap()];
    bench.enis.insert(primary.id.clone(), primary);
    bench.restart(Vec::new());
    bench.describe();
    bench.run();
    assert_eq!(bench.pool.stats().cooling, 2);
    bench.restart(bench.log.clone());
    assert_eq!(bench.pool.stats().cooling, 2);
}

/// An ENI met after the ledger was lost goes with the instance: EC2 is told, whoever made it.
#[test]
fn eni_met_later_is_told_to_go_with_the_instance() {
    let mut bench = Bench::new(settings());
    bench.enis.insert(eni("eni-1", 1).id, eni("eni-1", 1));
    bench.restart(Vec::new());
    bench.describe();
    bench.pass(30_000);
    let told = |c: &podwire_pool::Ec2Call| matches!(c, podwire_pool::Ec2Call::DeleteOnTermination { .. });
    assert_eq!(bench.all_calls.iter().filter(|c| told(c)).count(), 1);
}

/// Pods are kept off the primary ENI from now on: what it carried for them goes back.
#[test]
fn addresses_of_an_excluded_primary_go_back() {
    let mut settings = settings();
    settings.limits = Limits { enis: 2, ipv4_per_eni: 5 };
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.settings.primary_excluded = true;
    bench.restart(bench.log.clone());
    bench.see_metadata();
    bench.run();
    bench.del(10, "pod-1");
    bench.pass(120_000);
    let primary = bench.enis.values().next().unwrap();
    assert_eq!(primary.addresses.len(), 3, "the pods that live on it keep theirs");
}
