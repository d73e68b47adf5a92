//! The history of addresses: bounded, carried over compactions and restarts, gone with the boot.

use super::*;
use crate::view::{End, ViewError, view, view_of};

fn released(number: u64) -> Record {
    let Some(Record::Allocated { sandbox, addresses, .. }) = sample(number).pop() else { unreachable!() };
    Record::Released { sandbox, addresses, started: Time::from_ms(number), at: Time::from_ms(number + 1) }
}

#[test]
fn events_survive_compactions_and_restarts_and_states_are_none() {
    let (dir, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    ledger.append(&[vec![released(1)], sample(2)].concat()).expect("appended");
    for round in 0..3 {
        ledger.compact(&sample(2)).expect("compacted");
        drop(ledger);
        let (again, recovered) = reopen(dir.path());
        assert_eq!(recovered, whole(&sample(2)), "history is not replayed, round {round}");
        ledger = again;
    }
    ledger.append(&[released(2), Record::OpsUsed { next: OpId(9) }]).expect("appended");
    let seen = view(dir.path()).expect("read while it is open");
    assert_eq!(seen.events, [sample(1), vec![released(1)], sample(2), vec![released(2)]].concat());
    assert_eq!(seen.records.len(), 3);
    assert_eq!((seen.cooldown, seen.end), (Some(Duration::from_secs(30)), End::Whole));
    assert_eq!((seen.instance.as_str(), seen.boot.as_str()), ("i-0123", "boot-a"));
}

#[test]
fn history_ends_with_the_boot() {
    let (dir, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    drop(ledger);
    let next_boot = Identity { boot: BootId::new("boot-b"), ..identity() };
    let (mut ledger, _) = Ledger::open(dir.path(), &next_boot).expect("opens");
    ledger.compact(&[]).expect("founded");
    assert_eq!(view(dir.path()).expect("read").events, []);
}

/// Bounded in number; the file stays within its reserve and no compaction is asked for right after one.
#[test]
fn only_the_newest_ten_thousand_events_stay() {
    let (dir, mut ledger) = fresh();
    for round in 0..4u64 {
        for start in 0..8u64 {
            let base = round * 8_000 + start * 1_000;
            let pods: Vec<Record> =
                (base..base + 1_000).flat_map(|n| [sample(n), vec![released(n)]].concat()).collect();
            ledger.append(&pods).expect("appended");
        }
        ledger.compact(&sample(1)).expect("compacted");
        assert!(!ledger.needs_compaction());
        assert!(current(&ledger).end + GROWTH < RESERVED, "{} bytes", current(&ledger).end);
    }
    let seen = view(dir.path()).expect("read");
    assert_eq!(seen.events.len(), HISTORY_MAX);
    assert_eq!(seen.events.last(), Some(&released(31_999)));
    assert_eq!(seen.records, sample(1));
}

/// Long names take no more room than is left in the reserve.
#[test]
fn history_is_bounded_in_bytes_too() {
    let (dir, mut ledger) = fresh();
    let long = |n: u64| Record::Released {
        sandbox: SandboxKey::new(format!("{n:01000}"), "eth0"),
        addresses: vec![],
        started: Time::from_ms(n),
        at: Time::from_ms(n),
    };
    for start in 0..3 {
        ledger.append(&(start * 2_000..(start + 1) * 2_000).map(long).collect::<Vec<_>>()).expect("appended");
    }
    ledger.compact(&[]).expect("compacted");
    assert!(current(&ledger).end < RESERVED - GROWTH);
    let events = view(dir.path()).expect("read").events;
    assert!(events.len() > 1_000 && events.last() == Some(&long(5_999)), "{}", events.len());
}

/// A checkpoint of the incumbent that is contained is named from the next compaction on, in this boot.
#[test]
fn contained_checkpoint_is_told_until_another_compaction() {
    let (dir, mut ledger) = fresh();
    ledger.contains(Some("12-34"));
    ledger.compact(&sample(1)).expect("compacted");
    drop(ledger);
    let (mut ledger, recovered) = reopen(dir.path());
    assert_eq!(recovered.adopted.as_deref(), Some("12-34"));
    ledger.compact(&sample(1)).expect("compacted");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1.adopted, None);
}

#[test]
fn what_cannot_be_shown_is_told() {
    let dir = directory();
    assert!(matches!(view(dir.path()), Err(ViewError::Missing { .. })));
    let path = dir.path().join("ledger.corrupt-1");
    fs::write(&path, "junk").expect("written");
    assert!(matches!(view(&path), Err(ViewError::Unreadable { .. })));
    assert!(view_of(&[]).is_err());
    let old = view_of(include_bytes!("format-1.ledger")).expect("format 1");
    assert_eq!((old.records, old.events), (all_kinds(), vec![]));
}

/// A reader may come in the middle of a write: it sees all whole commits.
#[test]
fn half_a_commit_is_not_shown() {
    let (dir, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    let one = end(&ledger);
    ledger.append(&sample(2)).expect("appended");
    let bytes = fs::read(dir.path().join(NAME)).expect("there");
    for cut in one..end(&ledger) {
        let seen = view_of(&bytes[..cut]).expect("a ledger");
        assert_eq!(seen.records, sample(1), "cut {cut}");
        let end = if cut == one { End::Whole } else { End::Unfinished };
        // Between the lines of a commit it looks like damage, to be on the safe side.
        assert!(seen.end == end || bytes[cut - 1] == b'\n', "cut {cut}: {:?}", seen.end);
    }
}
