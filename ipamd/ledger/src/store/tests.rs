//! Crashes, damage and full disks: the file is cut, flipped and refused at every point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use podwire_pool::{OpId, PodRef, SandboxKey, Time};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod crash;
mod damage;
mod evil;
mod founding;
mod full;
mod gone;
mod history;
mod machine;
mod samples;

use samples::{all_kinds, sample};

fn identity() -> Identity {
    Identity {
        instance: InstanceId::new("i-0123"),
        boot: BootId::new("boot-a"),
        cooldown: Duration::from_secs(30),
        lineage: "l-a".into(),
    }
}

/// A directory in memory where there is one: thousands of ledgers are made here, each synced.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

/// Where the next frame goes.
fn end(ledger: &Ledger) -> usize {
    usize::try_from(current(ledger).end).expect("small")
}

fn current(ledger: &Ledger) -> &Current {
    ledger.current.as_ref().expect("founded")
}

fn fresh() -> (TempDir, Ledger) {
    let dir = directory();
    let (mut ledger, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
    assert_eq!(opened, Opened::Fresh);
    ledger.compact(&[]).expect("founded");
    (dir, ledger)
}

fn reopen(dir: &Path) -> (Ledger, Recovered) {
    match Ledger::open(dir, &identity()).expect("opens") {
        (ledger, Opened::Recovered(recovered)) => (ledger, recovered),
        (_, other) => panic!("not recovered: {other:?}"),
    }
}

/// What a clean ledger with these records recovers to.
fn whole(records: &[Record]) -> Recovered {
    Recovered {
        records: records.to_vec(),
        same_boot: true,
        adopted: None,
        lineage: Some("l-a".into()),
        truncated_tail: false,
        damaged: false,
        aside: None,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn records_of_every_kind_come_back() {
    let (dir, mut ledger) = fresh();
    let records = all_kinds();
    ledger.append(&records[..3]).expect("appended");
    ledger.append(&[]).expect("nothing to do");
    ledger.append(&records[3..]).expect("appended");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&records));
    // Recovering twice equals once (R2).
    let (mut ledger, again) = reopen(dir.path());
    assert_eq!(again, whole(&records));
    ledger.append(&sample(1)).expect("appended after recovery");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1.records.len(), records.len() + 1);
}

#[test]
fn lines_can_be_read_by_a_person() {
    let line = String::from_utf8(codec::encode(&sample(1))).expect("text");
    assert_eq!(
        line,
        concat!(
            r#"{"allocated":{"sandbox":{"container":"c1","ifname":"eth0"},"#,
            r#""pod":{"namespace":"default","name":"web-1","uid":"u","network":"aws-cni"},"#,
            r#""addresses":["10.0.0.1"],"at":1}}"#,
            "\n"
        )
    );
}

/// The format is a promise to the next version: these bytes stay readable, or `frame::FORMAT` rises.
#[test]
fn bytes_written_by_format_1_are_read() {
    let dir = directory();
    fs::write(dir.path().join(NAME), include_bytes!("tests/format-1.ledger")).expect("written");
    assert_eq!(reopen(dir.path()).1, Recovered { lineage: None, ..whole(&all_kinds()) });
}

/// An ENI without our tags is remembered as such, so that no later life changes it before it has tagged it (design D6).
#[test]
fn borrowed_eni_is_remembered_as_borrowed() {
    let Some(Record::Eni(mut eni)) = all_kinds().into_iter().next() else { panic!("an ENI comes first") };
    eni.stage = podwire_pool::record::EniStage::Borrowed;
    let records = vec![Record::Eni(eni)];
    let lines = codec::encode(&records);
    assert!(String::from_utf8_lossy(&lines).contains(r#""stage":"borrowed""#));
    let (dir, mut ledger) = fresh();
    ledger.compact(&records).expect("founded");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&records));
}

#[test]
fn second_writer_is_kept_out_until_the_first_ends() {
    let (dir, ledger) = fresh();
    assert!(matches!(Ledger::open(dir.path(), &identity()), Err(LedgerError::Locked { .. })));
    drop(ledger);
    reopen(dir.path());
}

#[test]
fn space_is_reserved_and_files_are_private() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = directory();
    let inner = dir.path().join("a/b");
    let (mut ledger, _) = Ledger::open(&inner, &identity()).expect("opens");
    ledger.compact(&[]).expect("founded");
    let metadata = fs::metadata(inner.join(NAME)).expect("there");
    assert_eq!(metadata.len(), RESERVED);
    assert!(metadata.blocks() * 512 >= RESERVED, "blocks are really reserved");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(
        mode(inner.parent().expect("a parent")) & 0o500,
        0o500,
        "others' directories are the system's affair"
    );
}

#[test]
fn foreign_newer_and_unreadable_files_are_kept_whole() {
    let (dir, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    drop(ledger);
    let path = dir.path().join(NAME);
    let ours = fs::read(&path).expect("there");

    let stranger = Identity { instance: InstanceId::new("i-9999"), ..identity() };
    let (ledger, opened) = Ledger::open(dir.path(), &stranger).expect("opens");
    let Opened::Foreign { instance, aside } = opened else { panic!("{opened:?}") };
    assert_eq!(instance, InstanceId::new("i-0123"));
    assert_eq!(aside, Aside { path: dir.path().join("ledger.corrupt-1"), removed: vec![] });
    assert!(fs::read(&aside.path).expect("there") == ours);
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&sample(1)), "its owner still finds it");

    let mut newer = ours.clone();
    newer[8] = 4;
    let replace = |bytes: &[u8]| {
        fs::remove_file(&path).expect("removed");
        fs::write(&path, bytes).expect("written");
    };
    replace(&newer);
    let (ledger, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
    let Opened::Newer { format: 4, aside } = opened else { panic!("{opened:?}") };
    assert!(fs::read(&aside.path).expect("there") == newer);
    drop(ledger);

    for junk in [b"".as_slice(), b"junk", &ours[..19], &[0; 64]] {
        replace(junk);
        let (mut ledger, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
        let Opened::Corrupt { aside, .. } = opened else { panic!("{opened:?}") };
        ledger.compact(&sample(7)).expect("founded");
        drop(ledger);
        assert_eq!(fs::read(&aside.path).expect("kept"), junk);
        assert_eq!(reopen(dir.path()).1, whole(&sample(7)));
    }
}

/// A crash before the new ledger is founded finds the same again; an empty ledger never passes for the truth (S1).
#[test]
fn unfounded_ledger_takes_nothing_and_is_found_again() {
    let identity_of = |boot: &str| Identity { boot: BootId::new(boot), ..identity() };
    let (origin, mut ledger) = fresh();
    ledger.append(&[sample(1), sample(2)].concat()).expect("appended");
    drop(ledger);
    let good = fs::read(origin.path().join(NAME)).expect("there");
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    for (content, boot) in [
        (None, "boot-a"),
        (Some(&b"junk"[..]), "boot-a"),
        (Some(&damaged), "boot-a"),
        (Some(&good), "boot-b"),
    ] {
        let dir = directory();
        if let Some(bytes) = content {
            fs::write(dir.path().join(NAME), bytes).expect("written");
        }
        let (mut ledger, first) = Ledger::open(dir.path(), &identity_of(boot)).expect("opens");
        assert!(ledger.needs_compaction());
        assert!(matches!(ledger.append(&sample(3)), Err(LedgerError::NotFounded)), "{first:?}");
        drop(ledger);
        let before = names(dir.path());
        for _ in 0..3 {
            let (_, again) = Ledger::open(dir.path(), &identity_of(boot)).expect("opens");
            assert_eq!(again, first);
        }
        assert_eq!(names(dir.path()), before, "the same is kept only once");
        let (mut ledger, _) = Ledger::open(dir.path(), &identity_of(boot)).expect("opens");
        ledger.compact(&sample(9)).expect("founded");
        ledger.append(&sample(10)).expect("appended");
        drop(ledger);
        let (_, opened) = Ledger::open(dir.path(), &identity_of(boot)).expect("opens");
        assert_eq!(opened, Opened::Recovered(whole(&[sample(9), sample(10)].concat())));
    }
}

#[test]
fn only_the_oldest_of_many_kept_goes_and_it_is_told() {
    let dir = directory();
    for round in 1..=10u32 {
        let (mut ledger, _) = Ledger::open(dir.path(), &identity()).expect("opens");
        ledger.compact(&[]).expect("founded");
        drop(ledger);
        fs::write(dir.path().join(NAME), format!("junk {round}")).expect("written");
        let (_, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
        let Opened::Corrupt { aside, .. } = opened else { panic!("{opened:?}") };
        assert_eq!(aside.path, dir.path().join(format!("ledger.corrupt-{round}")));
        let removed: Vec<PathBuf> = (round > 8)
            .then(|| dir.path().join(format!("ledger.corrupt-{}", round - 8)))
            .into_iter()
            .collect();
        assert_eq!(aside.removed, removed, "round {round}");
    }
    let kept = names(dir.path()).iter().filter(|name| name.starts_with("ledger.corrupt-")).count();
    assert_eq!(kept, 8);
}

#[test]
fn compaction_replaces_everything_and_shrinks() {
    let (dir, mut ledger) = fresh();
    let big: Vec<Record> = (0..2_000).flat_map(sample).collect();
    let mut rounds = 0;
    while !ledger.needs_compaction() {
        ledger.append(&big).expect("appended");
        rounds += 1;
    }
    assert!(rounds > 3, "wants compaction only when it is worth it");
    let snapshot: Vec<Record> = (0..1_000).flat_map(sample).collect();
    ledger.compact(&snapshot).expect("compacted");
    assert!(!ledger.needs_compaction());
    ledger.append(&sample(5_000)).expect("appended");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&[snapshot, sample(5_000)].concat()));
    assert_eq!(names(dir.path()), ["ledger", "ledger.lock"]);
}

/// A crash while the snapshot is written leaves the old ledger; whatever the temporary file holds is never read.
#[test]
fn crash_during_compaction_keeps_the_old_ledger() {
    let (dir, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    drop(ledger);
    let (other, mut snapshot) = fresh();
    snapshot.append(&sample(2)).expect("appended");
    let bytes = fs::read(other.path().join(NAME)).expect("there");
    for length in (0..end(&snapshot)).step_by(7).chain([bytes.len()]) {
        fs::write(dir.path().join(TEMPORARY), &bytes[..length]).expect("written");
        assert_eq!(reopen(dir.path()).1, whole(&sample(1)), "crash after {length} bytes");
        assert_eq!(names(dir.path()), ["ledger", "ledger.lock"]);
    }
}

/// A disk that fails on demand; writes may get through in part, as they do when space ends.
#[derive(Debug)]
struct Faulty {
    file: File,
    fail_write: Arc<AtomicBool>,
    fail_sync: Arc<AtomicBool>,
    fail_truncate: Arc<AtomicBool>,
    partial: Arc<AtomicU32>,
}

impl Disk for Faulty {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.fail_write.load(Ordering::Relaxed) {
            let part = bytes.len().min(self.partial.load(Ordering::Relaxed) as usize);
            Disk::write_at(&self.file, &bytes[..part], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Disk::write_at(&self.file, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.fail_sync.load(Ordering::Relaxed) { Err(io::Error::other("sync")) } else { self.file.sync() }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        if self.fail_truncate.load(Ordering::Relaxed) {
            return Err(io::Error::other("truncate"));
        }
        self.file.truncate(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.file.reserve(length)
    }

    fn is_gone(&self) -> bool {
        self.file.is_gone()
    }
}

/// A failed append leaves nothing, at whatever byte the disk was full; the next one works; nothing durable is lost.
#[test]
fn full_disk_leaves_the_file_consistent() {
    for partial in 0..200u32 {
        for (sync_fails, truncate_fails) in [(false, false), (false, true), (true, false)] {
            let (dir, mut ledger) = fresh();
            ledger.append(&sample(1)).expect("appended");
            let flags: [Arc<AtomicBool>; 3] = Default::default();
            let [fail_write, fail_sync, fail_truncate] = flags.clone();
            fail_write.store(!sync_fails, Ordering::Relaxed);
            fail_sync.store(sync_fails, Ordering::Relaxed);
            fail_truncate.store(truncate_fails, Ordering::Relaxed);
            let path = dir.path().join(NAME);
            let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
            let partial = Arc::new(AtomicU32::new(partial));
            ledger.current.as_mut().expect("founded").file =
                Box::new(Faulty { file, fail_write, fail_sync, fail_truncate, partial });

            let error = ledger.append(&sample(2)).expect_err("the disk refuses");
            assert_eq!(error.is_full(), !sync_fails);
            ledger.append(&sample(3)).expect_err("it still refuses");
            flags.iter().for_each(|flag| flag.store(false, Ordering::Relaxed));
            ledger.append(&sample(4)).expect("works again");
            drop(ledger);
            assert_eq!(reopen(dir.path()).1, whole(&[sample(1), sample(4)].concat()));
        }
    }
}

#[test]
fn too_much_at_once_is_refused_without_harm() {
    let (dir, mut ledger) = fresh();
    let long = "x".repeat(frame::MAX_LINES);
    let record = Record::Tombstone {
        sandbox: SandboxKey::new(long, "eth0"),
        started: Time::from_ms(0),
        at: Time::from_ms(0),
    };
    assert!(matches!(ledger.append(std::slice::from_ref(&record)), Err(LedgerError::TooLarge { .. })));
    assert!(matches!(ledger.compact(&[record]), Err(LedgerError::TooLarge { .. })));
    ledger.append(&sample(1)).expect("appended");
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&sample(1)));
}

#[test]
fn frame_beyond_the_reserve_extends_the_file() {
    let (dir, mut ledger) = fresh();
    let many: Vec<Record> = (0..9_000).flat_map(sample).collect();
    let mut expected = Vec::new();
    while current(&ledger).end <= RESERVED {
        ledger.append(&many).expect("appended");
        expected.extend_from_slice(&many);
    }
    drop(ledger);
    assert_eq!(reopen(dir.path()).1, whole(&expected));
}

proptest! {
    /// Any sequence of appends, compactions and restarts equals the list it stands for.
    #[test]
    fn any_history_comes_back(steps in prop::collection::vec((0u32..10, 0u64..1_000, 1u64..5), 1..40)) {
        let (dir, mut ledger) = fresh();
        let mut expected: Vec<Record> = Vec::new();
        for (kind, first, count) in steps {
            let records: Vec<Record> = (first..first + count).flat_map(sample).collect();
            match kind {
                0 => {
                    ledger.compact(&records).expect("compacted");
                    expected = records;
                }
                1 => {
                    drop(ledger);
                    let (next, recovered) = reopen(dir.path());
                    prop_assert_eq!(recovered, whole(&expected));
                    ledger = next;
                }
                _ => {
                    ledger.append(&records).expect("appended");
                    expected.extend(records);
                }
            }
        }
        drop(ledger);
        prop_assert_eq!(reopen(dir.path()).1, whole(&expected));
    }
}
