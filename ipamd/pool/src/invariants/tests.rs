//! Bookkeeping that is wrong is noticed, whatever is wrong: the simulator relies on that after every step.

#![allow(clippy::unwrap_used, reason = "a test that finds what it did not expect has to stop")]

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::cause::Cause;
use crate::effect::Effect;
use crate::eni::Slot;
use crate::ids::{
    BootId, DeviceIndex, EniId, InstanceId, Mac, NetworkCard, OpId, PodRef, RequestId, SandboxKey, SubnetId,
};
use crate::input::{Input, ObservedEni, Snapshot, SnapshotSource};
use crate::ops::About;
use crate::requests::{Asked, Tombstone};
use crate::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};
use crate::time::Time;

const NOW: Time = Time::from_ms(1_000_000);

fn key(name: &str) -> SandboxKey {
    SandboxKey::new(name, "eth0")
}

fn pod() -> PodRef {
    PodRef { namespace: "default".into(), name: "p".into(), uid: "".into(), network: "aws-cni".into() }
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// A pool with three addresses, the first of which `pod-1` holds.
fn pool() -> Pool {
    let mut pool = Pool::new(Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("b"),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 1, ipv4_per_eni: 4 },
        max_eni: None,
        max_pods: 58,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: Duration::from_secs(30),
        gather: Duration::ZERO,
        cluster: None,
        subnets: SubnetPolicy::default(),
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        seed: 1,
    });
    let primary = ObservedEni {
        id: EniId::new("eni-0"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        attachment: None,
        instance: None,
        card: NetworkCard(0),
        device: DeviceIndex(0),
        subnet: SubnetId::new("subnet-1"),
        subnet_cidr: None,
        groups: Vec::new(),
        primary: address(200),
        addresses: vec![address(1), address(2), address(3)],
        prefixes: Vec::new(),
        kind: None,
        tags: None,
        attached: true,
    };
    let seen = Snapshot { source: SnapshotSource::Metadata, as_of: OpId(u64::MAX), enis: vec![primary] };
    let mut effects = Vec::new();
    pool.handle(NOW, Input::Observed(seen), &mut effects);
    for effect in std::mem::take(&mut effects) {
        if let Effect::Host { op, .. } = effect {
            pool.handle(NOW, Input::Host { op, outcome: Ok(()) }, &mut effects);
        }
    }
    let deadline = NOW.after(Duration::from_secs(60));
    let (request, sandbox) = (RequestId(1), key("pod-1"));
    pool.handle(NOW, Input::Allocate { request, sandbox, pod: pod(), started: NOW, deadline }, &mut effects);
    let revision = pool.stats().revision;
    pool.handle(NOW, Input::Persisted { revision }, &mut effects);
    assert_eq!(pool.ledger.holder(address(1)), Some(&key("pod-1")));
    assert_eq!(pool.check(), Ok(()));
    pool
}

/// The invariant that is found broken after a change that nothing but a defect could make.
fn found(change: impl FnOnce(&mut Pool)) -> &'static str {
    let mut pool = pool();
    change(&mut pool);
    pool.check().map_or_else(|violation| violation.id, |()| "nothing")
}

fn primary(pool: &mut Pool) -> &mut crate::eni::Eni {
    pool.ledger.eni_mut(Slot(0)).unwrap()
}

fn waits(pool: &mut Pool, n: u64) {
    pool.requests.wait(key(&format!("waits-{n}")), pod(), NOW, RequestId(100 + n), false);
}

#[test]
fn wrong_counts_and_lists_of_an_eni_are_found() {
    assert_eq!(found(|pool| primary(pool).counts.free += 1), "S12");
    assert_eq!(found(|pool| primary(pool).ready.clear()), "S12");
    assert_eq!(found(|pool| primary(pool).blocks.clear()), "S12");
    assert_eq!(found(|pool| _ = primary(pool).blocks.insert("10.0.9.9/32".parse().unwrap())), "S12");
}

#[test]
fn address_of_two_sandboxes_or_of_none_is_found() {
    let hold = |pool: &mut Pool, name: &str, ip: IpAddr| {
        let mut second = pool.ledger.sandbox(&key("pod-1")).unwrap().clone();
        second.addresses = vec![ip];
        pool.ledger.hold(&key(name), second);
    };
    assert_eq!(found(|pool| hold(pool, "pod-2", address(2))), "nothing");
    let claim = |pool: &mut Pool| pool.ledger.sandbox_mut(&key("pod-1")).unwrap().addresses.push(address(3));
    assert_eq!(found(claim), "S1", "nobody holds it");
    let twice = |pool: &mut Pool| pool.ledger.sandbox_mut(&key("pod-1")).unwrap().addresses.push(address(1));
    assert_eq!(found(twice), "S1");
    let forget = |pool: &mut Pool| pool.ledger.sandbox_mut(&key("pod-1")).unwrap().addresses.clear();
    assert_eq!(found(forget), "S12");
    let early = |pool: &mut Pool| {
        pool.ledger.sandbox_mut(&key("pod-1")).unwrap().phase = Phase::Releasing(crate::Revision(9))
    };
    assert_eq!(found(early), "S12", "its address is not on the way out");
}

#[test]
fn queues_beyond_their_limits_are_found() {
    let queue = |n: u64| {
        found(|pool| {
            pool.growth = Growth::Full;
            (0..n).for_each(|n| waits(pool, n));
        })
    };
    assert_eq!((queue(1_024), queue(1_025)), ("nothing", "S13"));
    let callers =
        |n: u64| found(|pool| (0..n).for_each(|n| pool.requests.enter(RequestId(100 + n), Asked::Gc)));
    assert_eq!((callers(4_096), callers(4_097)), ("nothing", "S13"));
    let tombstone = Tombstone { started: NOW, at: NOW, revision: crate::Revision(0), waiting: Vec::new() };
    let bury = |pool: &mut Pool| {
        for n in 0..5_000 {
            pool.requests.bury(key(&n.to_string()), tombstone.clone());
        }
    };
    assert_eq!(found(bury), "nothing", "the oldest make room");
}

#[test]
fn operations_that_nobody_knows_or_that_are_too_many_are_found() {
    assert_eq!(found(|pool| primary(pool).ec2_op = Some(OpId(9_999))), "S13");
    assert_eq!(found(|pool| primary(pool).host_op = Some(OpId(9_999))), "S13");
    assert_eq!(found(|pool| primary(pool).termination_op = Some(OpId(9_999))), "S13");
    let open = |n: u32, about: About| {
        found(move |pool| {
            for _ in 0..n {
                pool.ops.open(about.clone(), NOW, None);
            }
        })
    };
    // Three for the one ENI, five for the node.
    assert_eq!((open(8, About::DescribeSubnets), open(9, About::DescribeSubnets)), ("nothing", "S13"));
    let gone = About::RemoveEni { slot: Slot(77) };
    assert_eq!(open(9, gone), "nothing", "those of an ENI that is gone end by themselves");
}

#[test]
fn pod_that_waits_for_nothing_is_found() {
    let stuck = |growth: Growth| {
        found(|pool| {
            waits(pool, 1);
            pool.growth = growth;
        })
    };
    let cause = || Cause::Starting;
    let soon = NOW.after(Duration::from_secs(1));
    assert_eq!(stuck(Growth::Satisfied), "D10");
    assert_eq!(stuck(Growth::Waiting(NOW, cause())), "D10");
    assert_eq!(stuck(Growth::Gathering(NOW)), "D10");
    assert_eq!(stuck(Growth::Waiting(soon, cause())), "nothing");
    assert_eq!(stuck(Growth::Gathering(soon)), "nothing");
    assert_eq!(stuck(Growth::Full), "nothing");
    let silent = |growth: Growth| {
        found(|pool| {
            let mut empty = Pool::new(pool.settings.clone());
            empty.now = NOW;
            waits(&mut empty, 1);
            empty.growth = growth;
            *pool = empty;
        })
    };
    assert_eq!(silent(Growth::InFlight), "D10", "nothing is in flight, and nothing will wake the pool");
    assert_eq!(silent(Growth::Blind), "D10");
    assert_eq!(found(|pool| pool.growth = Growth::Satisfied), "nothing", "nobody waits");
}
