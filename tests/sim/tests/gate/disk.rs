//! R1 in every byte: the world with the real ledger under it. At each crash what was durable is written by the real
//! writer, what was not is written behind it and cut off somewhere, and what the real reader finds is what the daemon
//! starts with. (Every single byte and bit of a small file: the ledger's own tests.)

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use podwire_ledger::{Identity, Ledger, Opened};
use podwire_pool::{BootId, InstanceId, Record};
use podwire_sim::Seeded;
use podwire_sim::random::run_on;
use podwire_sim::world::{Disk, Written};

fn identity() -> Identity {
    Identity {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("boot-0"),
        cooldown: std::time::Duration::from_secs(30),
        lineage: "l-0".into(),
    }
}

/// The ledger's file without the zeros reserved behind it.
fn bytes(dir: &Path) -> Vec<u8> {
    let file = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).find(|p| p.ends_with("ledger"));
    let mut bytes = fs::read(file.unwrap()).unwrap();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

thread_local! {
    static CUTS: RefCell<(Seeded, u64)> = const { RefCell::new((Seeded::new(1), 0)) };
}

/// How many of the revisions on their way came through: the file is cut at a byte drawn at random.
fn survivors(disk: &Disk, keep: usize) -> usize {
    let mut waiting: Vec<Vec<Record>> = Vec::new();
    for (_, written) in &disk.unsynced {
        let Written::Append(records) = written else { return keep };
        waiting.push(records.clone());
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &identity()).unwrap();
    ledger.compact(&disk.durable).unwrap();
    let from = bytes(dir.path()).len();
    for records in &waiting {
        ledger.append(records).unwrap();
    }
    drop(ledger);
    let whole = bytes(dir.path());
    let span = u64::try_from(whole.len() - from).unwrap();
    let cut = CUTS.with_borrow_mut(|(seed, count)| {
        *count += 1;
        from + usize::try_from(seed.below(span + 1)).unwrap()
    });
    let mut torn = whole[..cut].to_vec();
    torn.resize(whole.len() + 512, 0);
    fs::write(dir.path().join("ledger"), torn).unwrap();
    let (_ledger, opened) = Ledger::open(dir.path(), &identity()).unwrap();
    let Opened::Recovered(found) = opened else { panic!("{opened:?}") };
    let mut expected = disk.durable.clone();
    let mut kept = 0;
    for records in &waiting {
        if found.records.len() < expected.len() + records.len() {
            break;
        }
        expected.extend(records.iter().cloned());
        kept += 1;
    }
    assert_eq!(found.records, expected, "whole revisions come back, in order, and nothing else");
    kept
}

#[test]
fn crash_in_any_byte_of_the_ledger_breaks_no_invariant() {
    for seed in 1..=80 {
        if let Err(failure) = run_on(seed, 700, survivors) {
            panic!("{failure}");
        }
    }
    let cuts = CUTS.with_borrow(|(_, count)| *count);
    assert!(cuts > 300, "only {cuts} cuts");
}
