//! What the plugin's CHECK, GC and STATUS rest on. Ids are those of the CNI conformance list.

use std::time::Duration;

use podwire_pool::settings::{Limits, Mode};
use podwire_pool::{Answer, Cause, Input, OpId, RequestId, Settings, Snapshot, SnapshotSource};

use crate::bench::{Bench, key, settings};
use crate::scenes::address;

fn booted(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    bench.run();
    bench
}

fn see_described(bench: &mut Bench) {
    let enis = bench.enis.values().cloned().collect();
    let as_of = OpId(u64::MAX);
    bench.input(Input::Observed(Snapshot { source: SnapshotSource::Describe, as_of, enis }));
}

/// G-09, G-11, G-12: what a GC would release is told beforehand and changes nothing; what it then releases cools as after a
/// DEL and is not given to the next pod.
#[test]
fn collected_address_cools() {
    let mut bench = booted(settings());
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    let listed_at = bench.now.after(Duration::from_secs(1));
    bench.now = listed_at.after(Duration::from_secs(1));
    let would = bench.pool.collectable("aws-cni", &[key("pod-1")], listed_at);
    assert_eq!((would.dead, would.held), (vec![key("pod-2"), key("pod-3")], 3));
    assert_eq!(bench.pool.collectable("another-network", &[], listed_at).held, 0);
    assert_eq!(bench.pool.stats().allocated, 3);
    let valid = vec![key("pod-1")];
    bench.input(Input::Collect {
        request: RequestId(10),
        network: "aws-cni".into(),
        valid,
        started: listed_at,
    });
    bench.run();
    assert_eq!((bench.pool.stats().allocated, bench.pool.stats().cooling), (1, 2));
    bench.add(11, "pod-4");
    bench.run();
    assert!(![2, 3].map(|n| address(&bench, n)).contains(&address(&bench, 11)), "it still cools");
    assert_eq!(bench.pool.collectable("aws-cni", &[key("pod-1")], listed_at).dead, []);
}

/// K-07: a held address that EC2 no longer lists, or whose ENI it does not show here, is told; metadata alone is not enough
/// for that.
#[test]
fn held_address_that_ec2_does_not_list_is_doubtful() {
    let mut bench = booted(settings());
    bench.add(1, "pod-1");
    bench.run();
    bench.pass(600_000);
    assert_eq!(bench.pool.out_of_reach(&key("pod-1")), None);
    let held = address(&bench, 1);
    let carrier = bench.enis.values_mut().find(|eni| eni.addresses.contains(&held)).expect("its ENI");
    carrier.addresses.retain(|ip| *ip != held);
    let enis = bench.enis.values().cloned().collect();
    bench.ec2_holds = true;
    bench.input(Input::Observed(Snapshot { source: SnapshotSource::Metadata, as_of: OpId(u64::MAX), enis }));
    assert_eq!(bench.pool.out_of_reach(&key("pod-1")), None, "on metadata's word");
    see_described(&mut bench);
    let doubt = bench.pool.out_of_reach(&key("pod-1"));
    assert!(
        matches!(&doubt, Some(Cause::Quarantined { what }) if what.contains(&held.to_string())),
        "{doubt:?}"
    );
    assert!(bench.pool.inspect(&key("pod-1")).is_some(), "it is held all the same");
    assert_eq!(bench.pool.out_of_reach(&key("pod-2")), None);
}

/// T-03, T-09: a node whose addresses are all taken, and that can get no more, does not make STATUS fail: its pods would be
/// evicted. Before the first address it does fail.
#[test]
fn full_node_stays_ready() {
    let tiny =
        Settings { limits: Limits { enis: 1, ipv4_per_eni: 4 }, mode: Mode::SecondaryIp, ..settings() };
    let mut bench = Bench::new(tiny);
    assert!(!bench.pool.stats().ready, "before anything was seen");
    bench.see_metadata();
    bench.run();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
    bench.add(4, "pod-4");
    bench.pass(76_000);
    assert!(matches!(bench.answer(4), Some(Answer::Refused(_))), "{:?}", bench.answer(4));
    let stats = bench.pool.stats();
    assert_eq!((stats.free, stats.ready), (0, true));
}
