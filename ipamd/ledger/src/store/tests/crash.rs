//! R1 and R2, exhaustively: power fails at every step a ledger makes, with every part of what was not synced on disk.

use super::machine::{Machine, Survived};
use super::*;

/// What the daemon's writer does to a ledger, and what of it was acknowledged.
#[derive(Debug, Clone, Default)]
struct Story {
    /// What must be there.
    acked: Vec<Record>,
    /// What may be there instead: what was being done when it ended.
    or: Option<Vec<Record>>,
    /// Nothing was founded yet.
    fresh_allowed: bool,
}

fn open(machine: &Machine) -> Result<(Ledger, Opened), LedgerError> {
    Ledger::open_in(Path::new("/ledger"), Box::new(machine.clone()), &identity(), None)
}

/// Founds, appends, compacts, appends; stops at the first step that fails when `gives_up`, else tries again as the
/// writer does.
fn live(machine: &Machine, gives_up: bool) -> Story {
    let mut story = Story { fresh_allowed: true, ..Story::default() };
    let mut opened = open(machine);
    if opened.is_err() && !gives_up {
        opened = open(machine);
    }
    let Ok((mut ledger, _)) = opened else { return story };
    let tries = if gives_up { 1 } else { 3 };
    let snapshot = [sample(1), sample(4)].concat();
    let script: [(bool, Vec<Record>); 6] = [
        (true, sample(1)),
        (false, sample(2)),
        (false, [sample(3), sample(5)].concat()),
        (true, snapshot),
        (false, sample(6)),
        (false, sample(7)),
    ];
    for (compacts, records) in script {
        let after = if compacts { records.clone() } else { [story.acked.clone(), records.clone()].concat() };
        story.or = Some(after.clone());
        let mut attempts =
            (0..tries).map(|_| if compacts { ledger.compact(&records) } else { ledger.append(&records) });
        if !attempts.any(|attempt| attempt.is_ok()) {
            return story;
        }
        story = Story { acked: after, or: None, fresh_allowed: false };
    }
    story
}

/// What a daemon finds after the crash, and again after it founded its ledger anew (R2).
fn judge(machine: &Machine, story: &Story, case: &str) {
    let (mut ledger, opened) = open(machine).unwrap_or_else(|error| panic!("{case}: {error}"));
    let records = match opened {
        Opened::Fresh if story.fresh_allowed => Vec::new(),
        Opened::Recovered(recovered) => {
            assert!(recovered.same_boot, "{case}");
            recovered.records
        }
        other @ (Opened::Fresh | Opened::Foreign { .. } | Opened::Newer { .. } | Opened::Corrupt { .. }) => {
            panic!("{case}: {other:?}")
        }
    };
    let right = records == story.acked || story.or.as_ref() == Some(&records) || records.is_empty();
    assert!(right, "{case}: {records:?} instead of {story:?}");
    assert!(!records.is_empty() || story.fresh_allowed, "{case}: everything is lost");
    ledger.compact(&records).unwrap_or_else(|error| panic!("{case}: {error}"));
    ledger.append(&sample(99)).unwrap_or_else(|error| panic!("{case}: {error}"));
    drop(ledger);
    let (_, again) = open(machine).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(again, Opened::Recovered(whole(&[records, sample(99)].concat())), "{case}");
}

fn steps_of_a_life() -> usize {
    let machine = Machine::default();
    let story = live(&machine, true);
    assert!(story.or.is_none(), "a machine that does not die does everything");
    judge(&machine, &story, "no crash");
    let machine = Machine::default();
    live(&machine, true);
    let steps = machine.state().steps;
    assert!(steps > 20, "{steps} steps");
    steps
}

/// Every crash there can be after the machine stopped: any number of unsynced names, any number of unsynced bytes.
fn every_crash(machine: &Machine, story: &Story, case: &str, stride: usize) -> u64 {
    let unsynced = machine.unsynced();
    let mut crashes = 0;
    for names in 0..=unsynced.names {
        for bytes in (0..=unsynced.bytes).step_by(stride).chain([unsynced.bytes]) {
            let survived = Survived { names, bytes };
            judge(&machine.after_crash(survived), story, &format!("{case}, {survived:?}"));
            crashes += 1;
        }
    }
    crashes
}

/// R1, R2: power fails before every step; every part of what was not synced may be on disk.
#[test]
fn crash_at_every_step_and_byte_keeps_what_was_acknowledged() {
    let mut crashes = 0;
    for dies_at in 0..=steps_of_a_life() {
        let machine = Machine::default();
        machine.state().dies_at = Some(dies_at);
        let story = live(&machine, true);
        crashes += every_crash(&machine, &story, &format!("died at step {dies_at}"), 1);
    }
    println!("{crashes} crashes");
    assert!(crashes > 5_000, "only {crashes}");
}

/// A step is refused (disk full after any number of bytes, EIO), the writer tries again, and power fails later: at the
/// end, and at each step after the refusal.
#[test]
fn refused_step_then_crash_keeps_what_was_acknowledged() {
    let mut crashes = 0;
    for refused in 0..steps_of_a_life() {
        for bytes in [0, 1, 8, 9, 100, 5_000] {
            let machine = Machine::default();
            machine.state().refuses = Some((refused, bytes));
            let story = live(&machine, false);
            assert!(story.or.is_none(), "one refusal is survived: {refused} {bytes}");
            let steps = machine.state().steps;
            let case = format!("refused at step {refused} after {bytes} bytes");
            crashes += every_crash(&machine, &story, &case, 13);
            for dies_at in refused + 1..steps {
                let machine = Machine::default();
                machine.state().refuses = Some((refused, bytes));
                machine.state().dies_at = Some(dies_at);
                let story = live(&machine, false);
                crashes += every_crash(&machine, &story, &format!("{case}, died at {dies_at}"), 97);
            }
        }
    }
    println!("{crashes} crashes");
    assert!(crashes > 10_000, "only {crashes}");
}

/// Power fails again while the daemon recovers: the second recovery finds the same (R2).
#[test]
fn crash_during_recovery_finds_the_same_again() {
    let first = Machine::default();
    first.state().dies_at = Some(steps_of_a_life() - 3);
    let story = live(&first, true);
    let unsynced = first.unsynced();
    for bytes in 0..=unsynced.bytes {
        let crashed = first.after_crash(Survived { names: unsynced.names, bytes });
        let mut steps = 0;
        loop {
            let machine = crashed.after_crash(Survived { names: 0, bytes: 0 });
            machine.state().dies_at = Some(steps);
            let recovered = open(&machine).and_then(|(mut ledger, opened)| {
                let Opened::Recovered(found) = opened else { panic!("{opened:?}") };
                ledger.compact(&found.records)
            });
            let all = machine.unsynced();
            for names in 0..=all.names {
                for bytes in [0, 1, all.bytes / 2, all.bytes] {
                    let machine = machine.after_crash(Survived { names, bytes });
                    judge(&machine, &story, &format!("second crash at step {steps} with {names} {bytes}"));
                }
            }
            if recovered.is_ok() {
                break;
            }
            steps += 1;
        }
    }
}
