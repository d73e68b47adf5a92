//! R1 and R3: cut at every byte, every bit flipped, any bytes at all.

use super::*;

/// A ledger of three commits, the last of two records; its bytes without the reserve, and where each commit ends.
fn three_commits() -> (Vec<u8>, Vec<(usize, Vec<Record>)>) {
    let (dir, mut ledger) = fresh();
    let mut ends = vec![(end(&ledger), Vec::new())];
    let mut records = Vec::new();
    for commit in [sample(1), sample(2), [sample(3), sample(4)].concat()] {
        ledger.append(&commit).expect("appended");
        records.extend(commit);
        ends.push((end(&ledger), records.clone()));
    }
    let mut bytes = fs::read(dir.path().join(NAME)).expect("there");
    bytes.truncate(end(&ledger));
    (bytes, ends)
}

fn recover(dir: &Path, bytes: &[u8]) -> (Ledger, Opened) {
    fs::write(dir.join(NAME), bytes).expect("written");
    Ledger::open(dir, &identity()).expect("whatever lies there, it opens")
}

/// Opens it again after one more commit: damage must neither come back nor be taken for frames.
fn goes_on(dir: &Path, mut ledger: Ledger, mut records: Vec<Record>) {
    if ledger.needs_compaction() {
        ledger.compact(&records).expect("founded");
    }
    ledger.append(&sample(99)).expect("appended");
    drop(ledger);
    records.extend(sample(99));
    assert_eq!(reopen(dir).1, whole(&records));
}

fn set_aside(dir: &Path) -> Vec<PathBuf> {
    names(dir).iter().filter(|name| name.starts_with("ledger.corrupt-")).map(|name| dir.join(name)).collect()
}

/// Cut off at every byte, with the file ending there and with the reserve's zeros after it: all whole commits before
/// the cut come back, nothing else does, and the rest is kept.
#[test]
fn cut_at_every_byte_recovers_all_whole_commits() {
    let (bytes, ends) = three_commits();
    let header = ends[0].0;
    for cut in 0..=bytes.len() {
        for zeros in [0, 3, 10_000] {
            let dir = directory();
            let mut left = bytes[..cut].to_vec();
            left.resize(cut + zeros, 0);
            let (ledger, opened) = recover(dir.path(), &left);
            if cut < header {
                let Opened::Corrupt { aside, .. } = opened else { panic!("cut {cut}: {opened:?}") };
                assert_eq!(fs::read(aside.path).expect("kept"), left, "cut {cut}");
                goes_on(dir.path(), ledger, Vec::new());
                continue;
            }
            let (end, records) = ends.iter().rev().find(|(end, _)| *end <= cut).expect("the header fits");
            let Opened::Recovered(recovered) = opened else { panic!("cut {cut}: {opened:?}") };
            assert_eq!(&recovered.records, records, "cut {cut}");
            // A cut between a commit's lines looks like damage, to be on the safe side.
            let between_lines = cut > *end && bytes[cut - 1] == b'\n';
            assert_eq!(recovered.damaged, between_lines, "cut {cut}");
            assert_eq!(recovered.truncated_tail, cut > *end && !between_lines, "cut {cut}");
            let kept = recovered.aside.map(|aside| fs::read(aside.path).expect("kept"));
            assert_eq!(kept.as_deref(), (cut > *end).then(|| frame::trimmed(&bytes[*end..cut])), "cut {cut}");
            goes_on(dir.path(), ledger, recovered.records);
        }
    }
}

/// Every single bit flipped: the commits before it come back, it is never taken for a mere crash, and what follows is
/// kept aside byte for byte.
#[test]
fn every_flipped_bit_is_noticed() {
    let (bytes, ends) = three_commits();
    let header = ends[0].0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut file = flipped.clone();
        file.resize(bytes.len() + 512, 0);
        let dir = directory();
        let (_, opened) = recover(dir.path(), &file);
        if bit / 8 < header {
            assert!(matches!(opened, Opened::Corrupt { .. } | Opened::Newer { .. }), "bit {bit}: {opened:?}");
            let kept = set_aside(dir.path());
            assert!(kept.len() == 1 && fs::read(&kept[0]).expect("kept") == file, "bit {bit}");
            continue;
        }
        let (end, records) = ends.iter().rev().find(|(end, _)| *end <= bit / 8).expect("after the header");
        let Opened::Recovered(recovered) = opened else { panic!("bit {bit}: {opened:?}") };
        assert_eq!(&recovered.records, records, "bit {bit}");
        assert!(recovered.damaged && !recovered.truncated_tail, "bit {bit}");
        let aside = recovered.aside.expect("kept aside");
        assert_eq!(fs::read(aside.path).expect("kept"), flipped[*end..], "bit {bit}");
    }
}

/// Frames left behind by a longer, older file are never taken for successors: the checksums are a chain.
#[test]
fn stale_frames_of_an_older_file_are_not_believed() {
    let (bytes, ends) = three_commits();
    let dir = directory();
    // The second commit's bytes replaced by another commit of the same length; the third stays behind it.
    let (_, mut ledger) = fresh();
    ledger.append(&sample(1)).expect("appended");
    let (other, _) = frame::frame(current(&ledger).chain, &codec::encode(&sample(5)));
    let mut mixed = bytes.clone();
    assert_eq!(other.len(), ends[2].0 - ends[1].0);
    mixed[ends[1].0..ends[2].0].copy_from_slice(&other);
    let (_, opened) = recover(dir.path(), &mixed);
    let Opened::Recovered(recovered) = opened else { panic!("{opened:?}") };
    assert_eq!(recovered.records, [sample(1), sample(5)].concat());
    assert!(recovered.damaged);
}

/// A frame that checks out but holds what this version does not know is damage, never skipped.
#[test]
fn unknown_lines_end_the_reading() {
    for line in [r#"{"teleported":{"eni":"eni-1"}}"#, r#"{"settled":{"op":1,"extra":2}}"#, "[]", "{"] {
        let dir = directory();
        let (mut ledger, _) = Ledger::open(dir.path(), &identity()).expect("opens");
        ledger.compact(&[]).expect("founded");
        let (unknown, chain) = frame::frame(current(&ledger).chain, format!("{line}\n").as_bytes());
        let (known, _) = frame::frame(chain, &codec::encode(&sample(1)));
        let mut bytes = fs::read(dir.path().join(NAME)).expect("there");
        bytes.truncate(end(&ledger));
        drop(ledger);
        bytes.extend([unknown, known].concat());
        let (ledger, opened) = recover(dir.path(), &bytes);
        let Opened::Recovered(recovered) = opened else { panic!("{opened:?}") };
        assert!(recovered.damaged && recovered.records.is_empty() && recovered.aside.is_some(), "{line}");
        goes_on(dir.path(), ledger, Vec::new());
    }
}

#[test]
fn a_directory_or_a_giant_in_the_ledgers_place_is_set_aside() {
    let dir = directory();
    fs::create_dir(dir.path().join(NAME)).expect("made");
    let (mut ledger, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
    assert!(matches!(opened, Opened::Corrupt { .. }), "{opened:?}");
    ledger.compact(&sample(1)).expect("founded");
    drop(ledger);
    File::options()
        .write(true)
        .open(dir.path().join(NAME))
        .expect("opens")
        .set_len(READABLE + 1)
        .expect("sparse");
    let (ledger, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
    assert!(matches!(opened, Opened::Corrupt { .. }), "{opened:?}");
    goes_on(dir.path(), ledger, Vec::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any bytes at all open, and the ledger works afterwards.
    #[test]
    fn any_bytes_open(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = directory();
        let (ledger, opened) = recover(dir.path(), &bytes);
        let corrupt = matches!(opened, Opened::Corrupt { .. });
        prop_assert!(corrupt);
        goes_on(dir.path(), ledger, Vec::new());
    }

    /// A ledger with any bytes written over any part of it: a prefix of its commits comes back, never anything else.
    #[test]
    fn any_overwritten_part_leaves_a_prefix(
        at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 1..64),
        keep in any::<bool>(),
    ) {
        let (mut bytes, ends) = three_commits();
        let start = ends[0].0 + at.index(bytes.len() - ends[0].0);
        bytes.resize(bytes.len().max(start + junk.len()), 0);
        bytes[start..start + junk.len()].copy_from_slice(&junk);
        if !keep {
            bytes.truncate(start + junk.len());
        }
        let dir = directory();
        let (ledger, opened) = recover(dir.path(), &bytes);
        let Opened::Recovered(recovered) = opened else { panic!("{opened:?}") };
        prop_assert!(ends.iter().any(|(_, records)| *records == recovered.records));
        goes_on(dir.path(), ledger, recovered.records);
    }

    /// A whole ledger with any of its lines replaced, repeated, dropped or changed, and every checksum made right again:
    /// whatever a program of ours could have written by mistake. A daemon recovers from it to a sound pool.
    #[test]
    fn any_lines_under_good_checksums_recover_to_a_sound_pool(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0u8..6, any::<prop::sample::Index>(), any::<u8>()), 1..40),
        per_frame in 1usize..5,
    ) {
        let text = codec::encode(&[all_kinds(), sample(1), sample(2), all_kinds()].concat());
        let known: Vec<&[u8]> = text.split_inclusive(|&b| b == b'\n').collect();
        let lines: Vec<Vec<u8>> = picks.iter().map(|(line, how, at, byte)| {
            let mut line = known[line.index(known.len())].to_vec();
            let at = at.index(line.len());
            match how {
                0 => line[at] = *byte,
                1 => drop(line.remove(at)),
                2 => line.insert(at, *byte),
                _ => {}
            }
            line
        }).collect();
        let dir = directory();
        let (mut ledger, _) = Ledger::open(dir.path(), &identity()).expect("opens");
        ledger.compact(&[]).expect("founded");
        let mut bytes = fs::read(dir.path().join(NAME)).expect("there");
        bytes.truncate(end(&ledger));
        let mut chain = current(&ledger).chain;
        drop(ledger);
        for lines in lines.chunks(per_frame) {
            let (frame, next) = frame::frame(chain, &lines.concat());
            bytes.extend(frame);
            chain = next;
        }
        let (ledger, opened) = recover(dir.path(), &bytes);
        let Opened::Recovered(recovered) = opened else { panic!("{opened:?}") };
        evil::sound(&recovered.records);
        let seen = crate::view_of(&bytes).expect("a ledger");
        prop_assert_eq!(&seen.records, &recovered.records);
        goes_on(dir.path(), ledger, recovered.records);
    }
}
