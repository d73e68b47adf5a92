//! What founds a ledger, and what it is called.

use super::*;

#[test]
fn other_boot_is_told_and_compacted_first() {
    let (dir, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    drop(ledger);
    let next_boot = Identity { boot: BootId::new("boot-b"), ..identity() };
    let (mut ledger, opened) = Ledger::open(dir.path(), &next_boot).expect("opens");
    assert_eq!(opened, Opened::Recovered(Recovered { same_boot: false, ..whole(&sample(1)) }));
    assert!(ledger.needs_compaction());
    assert!(matches!(ledger.append(&sample(2)), Err(LedgerError::NotFounded)));
    ledger.compact(&sample(3)).expect("compacted");
    ledger.append(&sample(4)).expect("appended");
    drop(ledger);
    let (_ledger, opened) = Ledger::open(dir.path(), &next_boot).expect("opens");
    assert_eq!(opened, Opened::Recovered(whole(&[sample(3), sample(4)].concat())));
}

/// A ledger keeps its name as long as it is appended to; what is founded anew has another one.
#[test]
fn founded_ledger_has_a_name_of_its_own() {
    let later = |lineage: &str| Identity { lineage: lineage.into(), ..identity() };
    let (dir, ledger) = fresh();
    drop(ledger);
    let (mut ledger, _) = Ledger::open(dir.path(), &later("l-b")).expect("opens");
    assert_eq!(ledger.lineage(), "l-a");
    ledger.compact(&sample(1)).expect("compacted");
    assert_eq!(ledger.lineage(), "l-a");
    ledger.disown();
    assert_eq!(ledger.lineage(), "l-b");
    assert!(ledger.needs_compaction());
    assert!(matches!(ledger.append(&sample(2)), Err(LedgerError::NotFounded)));
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&sample(1)), "until another is founded it is found again");
    let (mut ledger, _) = Ledger::open(dir.path(), &later("l-c")).expect("opens");
    ledger.disown();
    ledger.compact(&sample(3)).expect("founded");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, Recovered { lineage: Some("l-c".into()), ..whole(&sample(3)) });
    let next_boot = Identity { boot: BootId::new("boot-b"), ..later("l-d") };
    let (ledger, _) = Ledger::open(dir.path(), &next_boot).expect("opens");
    assert_eq!(ledger.lineage(), "l-d");
}
