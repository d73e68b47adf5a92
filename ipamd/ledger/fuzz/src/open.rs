//! Any byte sequence as a ledger file, guided by coverage: opening it never panics, never loses what was there, and the
//! ledger works afterwards. Run by `scripts/fuzz`.
//!
//! Checksums would keep a fuzzer out of everything behind them. So an input is the file itself, or changes to the bytes of
//! a whole ledger, or changes to its lines under checksums that are right.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use podwire_ledger::{Identity, Ledger, Opened, view_of};
use podwire_pool::{BootId, InstanceId, Pool, Record, SandboxKey, Settings, Time};

/// The file's name in its directory.
const NAME: &str = "ledger";

/// A whole ledger, as a daemon wrote it: the file that the ledger's own tests keep as a promise to later versions.
const WHOLE: &[u8] = include_bytes!("../../src/store/tests/format-1.ledger");

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity {
    instance: InstanceId::new("i-0123"),
    boot: BootId::new("boot-a"),
    cooldown: Duration::from_secs(30),
    lineage: "l-a".into(),
});

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return judge(&[]) };
    match how % 3 {
        0 => judge(rest),
        1 => judge(&changed(WHOLE.to_vec(), rest)),
        _ => judge(&framed(&changed(lines(WHOLE), rest))),
    }
});

/// Bytes written over others: place (two bytes), how many (one byte; none cuts there), then those.
fn changed(mut bytes: Vec<u8>, mut changes: &[u8]) -> Vec<u8> {
    while let [high, low, length, rest @ ..] = changes {
        let place = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len();
        let (junk, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        if junk.is_empty() {
            bytes.truncate(place.max(1));
        } else {
            bytes.resize(bytes.len().max(place + junk.len()), 0);
            bytes[place..place + junk.len()].copy_from_slice(junk);
        }
        changes = rest;
    }
    bytes
}

fn number(bytes: &[u8], at: usize) -> usize {
    let four = bytes[at..at + 4].try_into().expect("four bytes");
    usize::try_from(u32::from_le_bytes(four)).expect("fits")
}

/// Where the frames of a whole ledger begin: magic, format, length and checksum take twenty bytes.
fn header_end(whole: &[u8]) -> usize {
    20 + number(whole, 12)
}

/// The lines of all frames of a whole ledger.
fn lines(whole: &[u8]) -> Vec<u8> {
    let (mut at, mut lines) = (header_end(whole), Vec::new());
    while at + 8 < whole.len() && number(whole, at) > 0 {
        let end = at + 8 + number(whole, at);
        lines.extend(&whole[at + 8..end]);
        at = end;
    }
    lines
}

/// Lines in frames of two, under good checksums.
fn framed(lines: &[u8]) -> Vec<u8> {
    let end = header_end(WHOLE);
    let mut bytes = WHOLE[..end].to_vec();
    let mut chain = WHOLE[16..20].to_vec();
    let each: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    for pair in each.chunks(2) {
        let text = pair.concat();
        let length = u32::try_from(text.len()).expect("short").to_le_bytes();
        let mut crc = crc32fast::Hasher::new();
        for part in [&chain, &length[..], &text] {
            crc.update(part);
        }
        chain = crc.finalize().to_le_bytes().to_vec();
        bytes.extend(length);
        bytes.extend(&chain);
        bytes.extend(text);
    }
    bytes
}

fn judge(bytes: &[u8]) {
    // In memory: thousands of files are made and synced in a second.
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = made.expect("a directory");
    let file = dir.path().join(NAME);
    fs::write(&file, bytes).expect("written");
    let seen = view_of(bytes);

    let (mut ledger, opened) = Ledger::open(dir.path(), &IDENTITY).expect("what lies on disk is no error");
    let (records, same_boot) = match opened {
        Opened::Fresh => panic!("there was a file"),
        Opened::Foreign { aside, .. } | Opened::Newer { aside, .. } | Opened::Corrupt { aside, .. } => {
            assert_eq!(
                fs::read(&aside.path).expect("kept"),
                bytes,
                "what is not understood is kept as it is"
            );
            (Vec::new(), false)
        }
        Opened::Recovered(recovered) => {
            let view = seen.expect("what a daemon recovers, a reader can read");
            assert_eq!(view.records, recovered.records, "a reader sees what a daemon replays");
            (recovered.records, recovered.same_boot)
        }
    };
    assert_eq!(
        &fs::read(&file).expect("there")[..bytes.len().min(8)],
        &bytes[..bytes.len().min(8)],
        "never zeroed"
    );

    // Whatever the records are, a daemon makes a sound pool of them, and the ledger takes its snapshot.
    let pool = Pool::recover(settings(), same_boot, records, Time::from_ms(100_000));
    pool.check().expect("a sound pool");
    let snapshot = pool.snapshot();
    ledger.compact(&snapshot).expect("founded");
    let more = Record::Tombstone {
        sandbox: SandboxKey::new("c", "eth0"),
        started: Time::from_ms(1),
        at: Time::from_ms(2),
    };
    ledger.append(std::slice::from_ref(&more)).expect("appended");
    drop(ledger);
    match Ledger::open(dir.path(), &IDENTITY).expect("opens") {
        (_, Opened::Recovered(again)) => {
            assert!(again.same_boot && !again.damaged && !again.truncated_tail, "{again:?}");
            assert_eq!(again.records, [snapshot, vec![more]].concat());
        }
        (_, other) => panic!("not recovered: {other:?}"),
    }
}

fn settings() -> Settings {
    use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
    Settings {
        instance: IDENTITY.instance.clone(),
        boot: IDENTITY.boot.clone(),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 3, ipv4_per_eni: 4 },
        max_eni: None,
        max_pods: 110,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: IDENTITY.cooldown,
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::ZERO,
        seed: 7,
    }
}
