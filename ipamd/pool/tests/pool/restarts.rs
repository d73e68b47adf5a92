//! The ledger read back: what a life knows of the ones before it, and what it must not believe.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_pool::settings::Limits;
use podwire_pool::{
    Answer, Cause, DeviceIndex, Ec2Call, EniId, HostChange, Input, OpId, Pool, Record, RequestId, Settings,
};

use crate::bench::{Bench, eni, key, pod, settings};
use crate::scenes::{address, grow, grown};

/// A node of one ENI with three pods.
fn full() -> Bench {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 1, ipv4_per_eni: 4 }, ..settings() });
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench
}

/// A crash may have come between a release and its flush: what cools is flushed again, what has cooled is not.
#[test]
fn addresses_that_still_cool_are_flushed_again_after_a_crash() {
    for (ms, flushes) in [(0, 1), (29_999, 1), (30_000, 0), (40_000, 0)] {
        let mut bench = full();
        let address = address(&bench, 1);
        bench.del(11, "pod-1");
        bench.run();
        bench.all_hosts.clear();
        bench.now = bench.now.after(Duration::from_millis(ms));
        bench.restart(bench.log.clone());
        let flushed = bench.all_hosts.iter().filter(|c| **c == HostChange::Flush { address }).count();
        assert_eq!(flushed, flushes, "after {ms} ms");
    }
}

/// A Describe right after a restart may show the time before the last give-back: what went is not taken for new.
#[test]
fn what_was_given_back_before_a_restart_is_not_met_again_at_once() {
    for (ms, met) in [(1_000, false), (9_999, false), (10_000, true)] {
        let mut bench = grown();
        for n in 1..=4 {
            bench.del(10 + n, &format!("pod-{n}"));
        }
        bench.run();
        let gone = |bench: &Bench| {
            bench.log.iter().rev().find_map(|r| match r {
                Record::Unassigned { eni, net, at } => Some((eni.clone(), *net, *at)),
                _ => None,
            })
        };
        for _ in 0..300 {
            if gone(&bench).is_some() {
                break;
            }
            bench.pass(500);
        }
        let (carrier, net, at): (EniId, IpNetwork, _) = gone(&bench).expect("something idle goes back");
        bench.now = at.after(Duration::from_millis(ms));
        bench.ec2_holds = true;
        bench.restart(bench.log.clone());
        bench.enis.get_mut(&carrier).unwrap().addresses.push(net.ip());
        bench.describe();
        assert_eq!(bench.pool.rows().iter().any(|row| row.address == net.ip()), met, "after {ms} ms");
    }
}

/// A ledger of another boot: no pod lives any more, nothing that was deleted can come back, and every address rests.
#[test]
fn reboot_ends_every_life_and_lets_every_address_rest() {
    let mut bench = grown();
    bench.del(11, "pod-1");
    bench.del(12, "pod-unknown");
    bench.run();
    assert_eq!(bench.pool.stats().tombstones, 2);
    for records in [bench.log.clone(), bench.pool.snapshot()] {
        let pool = Pool::recover(bench.settings.clone(), false, records, bench.now);
        let stats = pool.stats();
        assert_eq!((stats.allocated, stats.tombstones, stats.free), (0, 0, 0), "{stats:?}");
        assert_eq!((stats.cooling, stats.enis), (stats.assigned, 2), "{stats:?}");
    }
}

/// A ledger that may lack something, or is of another boot: nothing that is free is handed out before a Describe. A life that
/// ends before it comes forgets no doubt, though its own ledger is whole and of this boot.
#[test]
fn doubts_of_a_start_outlive_a_crash() {
    for same_boot in [true, false] {
        let mut bench = full();
        for n in 1..=3 {
            bench.del(10 + n, &format!("pod-{n}"));
        }
        bench.pass(60_000);
        assert!(bench.pool.stats().free > 0);
        let mut pool = Pool::recover(bench.settings.clone(), same_boot, bench.log.clone(), bench.now);
        if same_boot {
            pool.mistrust_all(bench.now);
        }
        bench.ec2_holds = true;
        bench.restart(pool.snapshot());
        bench.see_metadata();
        // What cooled at the reboot has rested.
        bench.pass(60_000);
        bench.add(20, "pod-4");
        bench.run();
        assert_eq!(bench.answer(20), None, "same boot: {same_boot}");
        bench.ec2_holds = false;
        bench.pass(20_000);
        assert!(matches!(bench.answer(20), Some(Answer::Allocated { .. })), "same boot: {same_boot}");
    }
}

/// The role may not say that an ENI goes with its instance, so that its create stays open in the ledger: the doubts of a new boot
/// are noted all the same, and forgotten once a Describe has come.
#[test]
fn doubts_of_an_eni_whose_create_is_open_are_noted_and_end() {
    let mut bench = Bench::new(settings());
    bench.broken = Some("DeleteOnTermination");
    grow(&mut bench);
    let doubted =
        |bench: &Bench| bench.pool.eni_rows().into_iter().filter(|row| row.doubted_since.is_some()).count();
    let rebooted = Pool::recover(bench.settings.clone(), false, bench.log.clone(), bench.now);
    bench.ec2_holds = true;
    bench.restart(rebooted.snapshot());
    assert_eq!(doubted(&bench), 2, "a life that ended before the Describe forgets none");
    bench.ec2_holds = false;
    for _ in 0..20 {
        if doubted(&bench) > 0 {
            bench.pass(1_000);
        }
    }
    assert_eq!(doubted(&bench), 0);
    bench.ec2_holds = true;
    bench.restart(bench.log.clone());
    assert_eq!(doubted(&bench), 0, "a Describe has ended them, on disk as well");
}

/// What was about to be unassigned may still be listed for a while: that doubt is not shortened by one about everything.
#[test]
fn doubt_about_an_open_call_is_not_shortened() {
    let mut bench = full();
    let open = Record::Intent { op: OpId(1 << 40), create: None, eni: Some(EniId::new("eni-0")) };
    bench.log.push(open);
    bench.pool = Pool::recover(bench.settings.clone(), true, bench.log.clone(), bench.now);
    bench.pool.mistrust_all(bench.now);
    bench.now = bench.now.after(Duration::from_secs(1));
    bench.describe();
    assert!(bench.pool.eni_rows()[0].doubted_since.is_some(), "EC2 may show the time before");
    bench.now = bench.now.after(Duration::from_secs(10));
    bench.describe();
    assert_eq!(bench.pool.eni_rows()[0].doubted_since, None);
}

/// A damaged ledger that gives one address to two sandboxes: the first one keeps it.
#[test]
fn address_that_a_damaged_ledger_gives_twice_stays_with_the_first() {
    let mut bench = grown();
    let twice = Record::Allocated {
        sandbox: key("pod-9"),
        pod: pod("pod-9"),
        addresses: vec![address(&bench, 1)],
        at: bench.now,
    };
    let again = Record::Allocated {
        sandbox: key("pod-1"),
        pod: pod("pod-1"),
        addresses: vec![address(&bench, 2)],
        at: bench.now,
    };
    let mut records = bench.log.clone();
    records.extend([twice, again]);
    let first = bench.pool.inspect(&key("pod-1"));
    bench.restart(records);
    assert_eq!(bench.pool.inspect(&key("pod-1")), first);
    assert_eq!(bench.pool.inspect(&key("pod-9")), None);
}

/// Who held an address that cools is remembered with the release.
#[test]
fn last_holder_of_a_cooling_address_is_remembered() {
    let mut bench = full();
    let address = address(&bench, 1);
    bench.del(11, "pod-1");
    bench.run();
    bench.restart(bench.log.clone());
    let row = |bench: &Bench| bench.pool.rows().into_iter().find(|row| row.address == address).unwrap();
    assert_eq!(row(&bench).sandbox, Some(key("pod-1")));
    bench.restart(bench.pool.snapshot());
    assert_eq!(row(&bench).sandbox, None, "a compacted ledger knows only that it cools");
}

/// The intent of a call about an ENI that is gone: nothing can come of it, and the ledger says so.
#[test]
fn intent_about_an_eni_that_is_gone_is_settled_at_the_start() {
    let mut bench = grown();
    let op = OpId(1 << 40);
    let mut records = bench.log.clone();
    records.push(Record::Intent { op, create: None, eni: Some(EniId::new("eni-gone")) });
    bench.restart(records);
    bench.run();
    assert!(bench.log.contains(&Record::Settled { op }));
}

/// An ENI that this ledger saw created and attached is detached before it is deleted, also by a later life.
#[test]
fn eni_of_an_earlier_life_is_detached_before_it_is_deleted() {
    let mut bench = grown();
    bench.restart(bench.log.clone());
    bench.see_metadata();
    for n in 2..=4 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    bench.pass(600_000);
    let way: Vec<&Ec2Call> = bench
        .all_calls
        .iter()
        .filter(|c| matches!(c, Ec2Call::Detach { .. } | Ec2Call::Delete { .. }))
        .collect();
    assert!(matches!(way.as_slice(), [Ec2Call::Detach { .. }, Ec2Call::Delete { .. }]), "{way:?}");
}

/// An ENI that was tagged away from us while the daemon was down is not detached on the ledger's word.
#[test]
fn remembered_eni_is_not_detached_before_its_tags_are_seen() {
    let mut bench = grown();
    bench.restart(bench.log.clone());
    bench.see_metadata();
    let away = vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())];
    bench.enis.get_mut(&EniId::new("eni-1")).unwrap().tags = Some(away);
    for n in 2..=4 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    bench.pass(600_000);
    let leaves = |c: &Ec2Call| matches!(c, Ec2Call::Detach { .. } | Ec2Call::Delete { .. });
    assert!(!bench.all_calls.iter().any(leaves), "{:?}", bench.all_calls);
}

/// A pod's address is known and what carries it is not: the host is not told of an ENI that may carry more than EC2 shows
/// yet, or the pod's route would go. Without such a pod it is told at once.
#[test]
fn host_is_not_told_of_an_eni_that_may_carry_a_pod_whose_address_is_not_found() {
    for homeless in [true, false] {
        let mut bench = Bench::new(settings());
        let address: IpAddr = "10.0.1.1".parse().unwrap();
        let held = Record::Allocated {
            sandbox: key("pod-1"),
            pod: pod("pod-1"),
            addresses: vec![address],
            at: bench.now,
        };
        bench.restart(if homeless { vec![held] } else { Vec::new() });
        bench.enis.insert(EniId::new("eni-1"), eni("eni-1", 1));
        bench.describe();
        let told = |bench: &Bench| {
            bench
                .all_hosts
                .iter()
                .any(|c| matches!(c, HostChange::ConfigureEni { device, .. } if *device == DeviceIndex(1)))
        };
        assert_eq!(told(&bench), !homeless);
        bench.enis.get_mut(&EniId::new("eni-1")).unwrap().addresses.push(address);
        bench.pass(30_000);
        assert!(told(&bench));
    }
}

/// Intents about the second ENI that a compacted ledger would hold.
fn doubts(bench: &Bench) -> usize {
    let about = |r: &Record| matches!(r, Record::Intent { create: None, eni: Some(id), .. } if *id == EniId::new("eni-1"));
    bench.pool.snapshot().iter().filter(|r| about(r)).count()
}

/// What EC2 contradicts is on disk while it does, once, and not for longer: a crash must not end a doubt, nor a doubt stay
/// for ever.
#[test]
fn doubt_is_on_disk_as_long_as_it_lasts() {
    let mut bench = grown();
    let unlist = |bench: &mut Bench| bench.enis.get_mut(&EniId::new("eni-1")).unwrap().addresses.clear();
    let remove = |bench: &mut Bench| _ = bench.enis.remove(&EniId::new("eni-1"));
    let changes: [fn(&mut Bench); 2] = [unlist, remove];
    for change in changes {
        bench.pass(60_000);
        let enis = bench.enis.clone();
        change(&mut bench);
        for _ in 0..3 {
            bench.describe();
            bench.run();
            assert_eq!(doubts(&bench), 1);
        }
        // It shows again, beside what has been assigned since.
        for (id, before) in enis {
            let there = bench.enis.entry(id).or_insert_with(|| before.clone());
            there.addresses.extend(before.addresses);
            there.addresses.sort();
            there.addresses.dedup();
        }
        // An answer to an earlier question may show the time before.
        bench.pass(11_000);
        bench.describe();
        bench.run();
        assert_eq!(doubts(&bench), 0);
    }
}

/// A compacted ledger knows which operation ids were used: none comes back.
#[test]
fn compacted_ledger_knows_the_ids_that_were_used() {
    let bench = grown();
    let used =
        bench.log.iter().filter_map(|r| if let Record::Intent { op, .. } = r { Some(*op) } else { None });
    let last = used.max().expect("an ENI was created");
    let next = bench.pool.snapshot().iter().find_map(|r| match r {
        Record::OpsUsed { next } => Some(*next),
        _ => None,
    });
    assert!(next > Some(last), "{next:?} after {last:?}");
}

/// D4: a DEL ran while the daemon was stuck and left its word; the ADD that came after it found the old allocation. That
/// ADD is answered once the ledger knows of it, so that after a crash the DEL's word ends nothing.
#[test]
fn del_before_a_repeated_add_ends_nothing_after_a_crash() {
    let mut bench = full();
    let address = address(&bench, 1);
    let second = |bench: &mut Bench| bench.now = bench.now.after(Duration::from_secs(1));
    second(&mut bench);
    let dead = bench.now;
    second(&mut bench);
    bench.disk_holds = true;
    bench.add(11, "pod-1");
    bench.add(12, "pod-1");
    bench.run();
    assert_eq!((bench.answer(11), bench.answer(12)), (None, None), "not before it is on disk");
    bench.disk_holds = false;
    bench.run();
    for request in [11, 12] {
        assert!(
            matches!(bench.answer(request), Some(Answer::Allocated { addresses, is_new: false, .. }) if addresses == [address])
        );
    }
    bench.add_until(13, "pod-1", dead, bench.now.after(Duration::from_secs(75)));
    assert!(bench.answer(13).is_some(), "one that is no later waits for nothing");
    for (request, records) in [(21, bench.log.clone()), (22, bench.pool.snapshot())] {
        bench.restart(records);
        let release = Input::Release { request: RequestId(request), sandbox: key("pod-1"), started: dead };
        bench.input(release);
        bench.run();
        assert_eq!(bench.answer(request), Some(Answer::Released(Vec::new())));
        assert!(bench.pool.inspect(&key("pod-1")).is_some(), "it lives");
    }
}

/// The disk refuses the later start of a repeated ADD: that is refused, and the allocation stays as it was.
#[test]
fn repeated_add_is_refused_while_the_disk_refuses() {
    let mut bench = full();
    bench.now = bench.now.after(Duration::from_secs(1));
    bench.disk_holds = true;
    bench.add(11, "pod-1");
    let revision = bench.pool.stats().revision;
    bench.input(Input::PersistFailed { revision, reason: "full".into() });
    bench.add(12, "pod-1");
    for request in [11, 12] {
        let answer = bench.answer(request);
        assert!(matches!(answer, Some(Answer::Refused(Cause::LedgerUnwritable { .. }))), "{answer:?}");
    }
    assert!(bench.pool.inspect(&key("pod-1")).is_some());
    bench.disk_holds = false;
    bench.run();
    bench.now = bench.now.after(Duration::from_secs(1));
    bench.add(13, "pod-1");
    bench.run();
    assert!(matches!(bench.answer(13), Some(Answer::Allocated { is_new: false, .. })));
}
