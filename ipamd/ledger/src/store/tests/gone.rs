//! Files that others took away.

use super::*;

/// Somebody removes the file, or the whole directory, or writes another one there: appending goes on, and the ledger asks to
/// be written anew.
#[test]
fn file_that_others_took_away_is_written_anew() {
    for damage in ["file", "directory", "replaced"] {
        let (dir, mut ledger) = fresh();
        ledger.append(&sample(1)).expect("appended");
        assert!(!ledger.needs_compaction() && !ledger.is_gone());
        match damage {
            "file" => fs::remove_file(dir.path().join(NAME)).expect("removed"),
            "directory" => fs::remove_dir_all(dir.path()).expect("removed"),
            _ => {
                fs::write(dir.path().join("other"), b"x").expect("written");
                fs::rename(dir.path().join("other"), dir.path().join(NAME)).expect("renamed");
            }
        }
        ledger.append(&sample(2)).expect("appended");
        assert!(ledger.needs_compaction() && ledger.is_gone(), "{damage}");
        let all = [sample(1), sample(2)].concat();
        ledger.compact(&all).expect("written anew");
        assert!(!ledger.needs_compaction() && !ledger.is_gone(), "{damage}");
        drop(ledger);
        assert_eq!(reopen(dir.path()).1, whole(&all), "{damage}");
    }
}
