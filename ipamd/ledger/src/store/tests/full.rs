//! A full disk, with the ledger's own space reserved: what can be done without room is done.

use super::machine::{Full, Machine, Survived};
use super::*;
use crate::view::view_of;

fn open(machine: &Machine) -> (Ledger, Opened) {
    let opened = Ledger::open_in(Path::new("/ledger"), Box::new(machine.clone()), &identity(), None);
    opened.expect("whatever room there is, it opens")
}

fn founded(machine: &Machine) -> Ledger {
    let (mut ledger, _) = open(machine);
    assert!(!ledger.is_founded());
    ledger.compact(&sample(1)).expect("founded");
    assert!(ledger.is_founded());
    ledger
}

fn events(machine: &Machine) -> Vec<Record> {
    view_of(&machine.content(NAME).expect("there")).expect("a ledger").events
}

/// A snapshot that does not fit stops no append, neither in this life nor in the next one.
#[test]
fn refused_compaction_leaves_appending() {
    for full in [Full::Inodes, Full::Blocks(0)] {
        let machine = Machine::default();
        let mut ledger = founded(&machine);
        for life in 1..4 {
            machine.state().full = Some(full);
            assert!(ledger.compact(&sample(7)).expect_err("it does not fit").is_full());
            assert!(ledger.is_founded());
            // What lies in the reserve is there, however full the disk is.
            machine.state().full = None;
            ledger.append(&sample(10 + life)).expect("appended");
            drop(ledger);
            let (again, opened) = open(&machine);
            let expected: Vec<Record> = (11..=10 + life).flat_map(sample).collect();
            assert_eq!(opened, Opened::Recovered(whole(&[sample(1), expected].concat())), "{full:?}");
            ledger = again;
        }
    }
}

/// History keeps no ledger from being written: where it does not fit with it, it is written without.
#[test]
fn ledger_that_fits_only_without_its_history_is_written_without() {
    let machine = Machine::default();
    let mut ledger = founded(&machine);
    for number in 2..40 {
        ledger.append(&sample(number)).expect("appended");
    }
    ledger.compact(&sample(1)).expect("there is room");
    assert_eq!(events(&machine).len(), 38, "with its history");
    machine.state().full = Some(Full::Blocks(1_000));
    ledger.compact(&sample(3)).expect("it fits without history");
    assert_eq!(events(&machine), []);
    machine.state().full = None;
    ledger.append(&sample(4)).expect("appended");
    drop(ledger);
    assert_eq!(open(&machine).1, Opened::Recovered(whole(&[sample(3), sample(4)].concat())));
}

/// A snapshot may be in place and not certain to stay: then it is told so, and an append makes it certain.
#[test]
fn rewrite_that_is_not_synced_is_told_from_one_that_was_refused() {
    let mut unsynced = 0;
    for step in 0.. {
        let machine = Machine::default();
        let mut ledger = founded(&machine);
        let first = machine.state().steps;
        machine.state().refuses = Some((first + step, 0));
        let (refused, expected) = match ledger.compact(&sample(7)) {
            Ok(()) => (machine.state().steps == first + step, sample(7)),
            Err(LedgerError::Unsynced { .. }) => {
                unsynced += 1;
                ledger.append(&[]).expect("certain now");
                (false, sample(7))
            }
            Err(_) => (false, sample(1)),
        };
        drop(ledger);
        let crashed = machine.after_crash(Survived { names: 0, bytes: 0 });
        assert_eq!(open(&crashed).1, Opened::Recovered(whole(&expected)), "step {step}");
        if refused {
            break;
        }
    }
    assert_eq!(unsynced, 1);
}

/// Power failed in the middle of an append, and the disk takes no copy of what that left: it is cut off all the same.
#[test]
fn torn_tail_on_a_full_disk_is_given_up() {
    for full in [Full::Inodes, Full::Blocks(0)] {
        let machine = Machine::default();
        let mut ledger = founded(&machine);
        let steps = machine.state().steps;
        machine.state().dies_at = Some(steps + 1);
        ledger.append(&sample(2)).expect_err("it dies after the write");
        let machine = machine.after_crash(Survived { names: 0, bytes: 30 });
        machine.state().full = Some(full);
        let (mut ledger, opened) = open(&machine);
        let torn = Recovered { truncated_tail: true, ..whole(&sample(1)) };
        assert_eq!(opened, Opened::Recovered(torn), "{full:?}");
        machine.state().full = None;
        ledger.append(&sample(3)).expect("appended");
        drop(ledger);
        assert_eq!(open(&machine).1, Opened::Recovered(whole(&[sample(1), sample(3)].concat())));
    }
}

/// Damage is evidence. Where its bytes cannot be copied the file gets a second name; where it cannot even have that, it
/// stays in its place until it can.
#[test]
fn damage_on_a_full_disk_is_kept_before_anything_takes_its_place() {
    for full in [Full::Inodes, Full::Blocks(0)] {
        let machine = Machine::default();
        let mut ledger = founded(&machine);
        ledger.append(&[sample(2), sample(3)].concat()).expect("appended");
        let end = current(&ledger).end;
        drop(ledger);
        let file = machine.open(NAME).expect("there");
        file.write_at(b"x", end - 9).and_then(|()| file.sync()).expect("damaged");
        let damaged = machine.content(NAME);

        machine.state().full = Some(full);
        let (mut ledger, opened) = open(&machine);
        let Opened::Recovered(Recovered { damaged: true, aside: Some(aside), .. }) = opened else {
            panic!("{full:?}: {opened:?}")
        };
        let kept = if full == Full::Inodes { NAME } else { "ledger.corrupt-1" };
        assert_eq!(aside, Aside { path: Path::new("/ledger").join(kept), removed: vec![] });
        assert!(ledger.compact(&sample(1)).expect_err("no room").is_full());
        assert_eq!(machine.content(NAME), damaged, "{full:?}");

        machine.state().full = None;
        ledger.compact(&sample(1)).expect("founded");
        assert_eq!(machine.content("ledger.corrupt-1"), damaged, "{full:?}");
        drop(ledger);
        assert_eq!(open(&machine).1, Opened::Recovered(whole(&sample(1))));
    }
}
