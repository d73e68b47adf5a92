//! Files made by hand to harm: each opens, is recognised for what it is, loses nothing and is never believed too much.

use super::*;
use crate::view::view_of;

/// A frame whose checksum is right, whatever its lines say.
fn framed(chain: u32, lines: &str) -> (Vec<u8>, u32) {
    frame::frame(chain, lines.as_bytes())
}

/// A file of this node's with these lines in one good frame.
fn with_lines(lines: &str) -> Vec<u8> {
    let (mut bytes, chain) = frame::header(&header());
    bytes.extend(framed(chain, lines).0);
    bytes
}

fn header() -> Header {
    Header {
        instance: "i-0123".into(),
        boot: "boot-a".into(),
        snapshot_frames: Some(0),
        cooldown_ms: Some(30_000),
        adopted: None,
        lineage: None,
    }
}

/// A header with this body, its checksum right.
fn with_body(format: u32, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short");
    let mut hasher = crc32fast::Hasher::new();
    for part in [format.to_le_bytes().as_slice(), &length.to_le_bytes(), body.as_bytes()] {
        hasher.update(part);
    }
    let mut bytes = b"podwire\n".to_vec();
    for number in [format, length, hasher.finalize()] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(body.as_bytes());
    bytes
}

/// What a file is to be taken for.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Corrupt,
    Newer,
    Foreign,
    Damaged,
    Torn,
    Whole(usize),
}

fn taken(opened: &Opened) -> Taken {
    match opened {
        Opened::Fresh => panic!("a file is there"),
        Opened::Corrupt { .. } => Taken::Corrupt,
        Opened::Newer { .. } => Taken::Newer,
        Opened::Foreign { .. } => Taken::Foreign,
        Opened::Recovered(found) if found.damaged => Taken::Damaged,
        Opened::Recovered(found) if found.truncated_tail => Taken::Torn,
        Opened::Recovered(found) => Taken::Whole(found.records.len()),
    }
}

/// Name, bytes, what it is.
type Evil = (&'static str, Vec<u8>, Taken);

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Files whose beginning is evil.
fn heads() -> Vec<Evil> {
    let (head, _) = frame::header(&header());
    let own = |more: &str| format!(r#"{{"instance":"i-0123","boot":"boot-a"{more}}}"#);
    vec![
        ("nothing", vec![], Taken::Corrupt),
        ("zeros", vec![0; 70_000], Taken::Corrupt),
        ("text", b"[{\"allocated\":{}}]".to_vec(), Taken::Corrupt),
        ("magic alone", b"podwire\n".to_vec(), Taken::Corrupt),
        ("magic in capitals", [b"PODWIRE\n", &head[8..]].concat(), Taken::Corrupt),
        ("format 0, no body", with_body(0, ""), Taken::Corrupt),
        ("format 4", with_body(4, &own("")), Taken::Newer),
        ("the last format there can be", with_body(u32::MAX, ""), Taken::Newer),
        (
            "a header longer than memory",
            [b"podwire\n".to_vec(), numbers(&[1, u32::MAX, 0])].concat(),
            Taken::Corrupt,
        ),
        ("a header that is no JSON", with_body(2, "instance i-0123"), Taken::Corrupt),
        ("a header without a boot", with_body(2, r#"{"instance":"i-0123"}"#), Taken::Corrupt),
        ("a header of numbers", with_body(2, r#"{"instance":1,"boot":2}"#), Taken::Corrupt),
        ("a header with a negative count", with_body(2, &own(r#","snapshot_frames":-1"#)), Taken::Corrupt),
        (
            "a header that claims every frame",
            with_body(2, &own(r#","snapshot_frames":18446744073709551615"#)),
            Taken::Whole(0),
        ),
        ("a header with more keys", with_body(2, &own(r#","later":[1,{}]"#)), Taken::Whole(0)),
        ("an empty instance", with_body(2, r#"{"instance":"","boot":""}"#), Taken::Foreign),
        (
            "an instance named like ours",
            with_body(2, r#"{"instance":"i-0123\u0000","boot":"boot-a"}"#),
            Taken::Foreign,
        ),
    ]
}

/// Files whose frames are evil.
fn bodies() -> Vec<Evil> {
    let (head, chain) = frame::header(&header());
    let after = |rest: &[u8]| [head.as_slice(), rest].concat();
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let (good, next) = framed(chain, "{\"settled\":{\"op\":1}}\n");
    let huge_op = "{\"settled\":{\"op\":18446744073709551615}}\n";
    let over = "{\"settled\":{\"op\":18446744073709551616}}\n";
    vec![
        ("a frame of length 0", after(&numbers(&[0, 0, 1])), Taken::Damaged),
        (
            "a frame of length 0 and more",
            after(&[numbers(&[0, 1]), b"x\ny".to_vec()].concat()),
            Taken::Damaged,
        ),
        (
            "a frame longer than any",
            after(&[numbers(&[u32::MAX, 1]), b"{".to_vec()].concat()),
            Taken::Damaged,
        ),
        (
            "a frame that promises more",
            after(&[numbers(&[500, 1]), b"{\"settled\"".to_vec()].concat()),
            Taken::Torn,
        ),
        ("a line without its end", with_lines("{\"settled\":{\"op\":1}}"), Taken::Damaged),
        ("an empty line", with_lines("\n"), Taken::Damaged),
        ("a line of depth 100,000", with_lines(&deep), Taken::Damaged),
        (
            "a past of depth 100,000",
            with_lines(&format!("{{\"past\":{}}}\n", deep.trim_end())),
            Taken::Whole(0),
        ),
        (
            "a past within the past",
            with_lines("{\"past\":{\"past\":{\"settled\":{\"op\":1}}}}\n"),
            Taken::Whole(0),
        ),
        ("bytes that are no text", after(&framed(chain, "\u{fffd}").0), Taken::Damaged),
        ("a number at its limit", with_lines(huge_op), Taken::Whole(1)),
        ("a number past its limit", with_lines(over), Taken::Damaged),
        (
            "an address that is none",
            with_lines(
                "{\"released\":{\"sandbox\":{\"container\":\"c\",\"ifname\":\"e\"},\"addresses\":[\"10.0.0.256\"],\"started\":0,\"at\":0}}\n",
            ),
            Taken::Damaged,
        ),
        ("a frame twice", after(&[good.clone(), good.clone()].concat()), Taken::Damaged),
        (
            "two frames changed places",
            {
                let (second, _) = framed(next, huge_op);
                after(&[second, good.clone()].concat())
            },
            Taken::Damaged,
        ),
        ("a good frame, then a header", after(&[good.clone(), head.clone()].concat()), Taken::Damaged),
        (
            "a good frame, then zeros, then something",
            after(&[good, vec![0; 5_000], b"x".to_vec()].concat()),
            Taken::Damaged,
        ),
    ]
}

#[test]
fn every_evil_file_is_taken_for_what_it_is() {
    for (name, bytes, expected) in heads().into_iter().chain(bodies()) {
        let dir = directory();
        fs::write(dir.path().join(NAME), &bytes).expect("written");
        let (ledger, opened) = Ledger::open(dir.path(), &identity()).expect("opens");
        assert_eq!(taken(&opened), expected, "{name}: {opened:?}");
        drop(ledger);
        let (mut ledger, again) = Ledger::open(dir.path(), &identity()).expect("opens");
        // What a crash left unfinished is cut off; everything else is found again until a new ledger is founded.
        let later = if expected == Taken::Torn { Taken::Whole(0) } else { taken(&opened) };
        assert_eq!(taken(&again), later, "{name}, again");
        assert!(
            fs::read(dir.path().join(NAME)).expect("there").starts_with(&bytes[..bytes.len().min(8)]),
            "{name}"
        );
        ledger.compact(&sample(1)).expect("founded");
        ledger.append(&sample(2)).expect("appended");
        drop(ledger);
        assert_eq!(reopen(dir.path()).1, whole(&[sample(1), sample(2)].concat()), "{name}");
        // What was not understood is still there, byte for byte.
        if !matches!(expected, Taken::Whole(_)) {
            let kept = fs::read(dir.path().join("ledger.corrupt-1")).expect("kept");
            assert!(bytes.is_empty() || frame::trimmed(&bytes).ends_with(frame::trimmed(&kept)), "{name}");
        }
        // People can look at it too, or are told why not.
        assert!(view_of(&bytes).is_ok() || matches!(expected, Taken::Corrupt | Taken::Newer), "{name}");
    }
}

/// Lines that are well formed and mad: a daemon recovers from them to a state that is sound.
#[test]
fn mad_records_recover_to_a_sound_pool() {
    let eni = r#"{"eni":{"id":"eni-1","mac":"02:00:00:00:00:01","attachment":null,"card":4294967295,"device":4294967295,"subnet":"","subnet_cidr":"0.0.0.0/0","groups":[],"primary":"255.255.255.255","stage":"attached"}}"#;
    let assigned =
        |net: &str| format!(r#"{{"assigned":{{"eni":"eni-1","net":"{net}","at":18446744073709551615}}}}"#);
    let held = |container: &str, address: &str| {
        format!(
            r#"{{"allocated":{{"sandbox":{{"container":"{container}","ifname":""}},"pod":{{"namespace":"","name":"","uid":"","network":""}},"addresses":["{address}","{address}"],"at":18446744073709551615}}}}"#
        )
    };
    for lines in [
        vec![eni.to_owned(), assigned("0.0.0.0/0"), assigned("10.0.0.0/8"), assigned("::/0")],
        vec![
            eni.into(),
            assigned("10.0.0.16/28"),
            held("a", "10.0.0.17"),
            held("b", "10.0.0.17"),
            held("a", "10.0.0.18"),
        ],
        vec![
            held("", "10.0.0.17"),
            eni.into(),
            assigned("10.0.0.17/32"),
            eni.into(),
            r#"{"eni_gone":{"eni":"eni-1"}}"#.into(),
        ],
        vec![
            r#"{"ops_used":{"next":18446744073709551615}}"#.into(),
            r#"{"intent":{"op":18446744073709551615,"create":{"prefixes":4294967295},"eni":null}}"#.into(),
        ],
    ] {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let seen = view_of(&with_lines(&text)).expect("a ledger");
        assert_eq!(seen.records.len(), lines.len(), "{text}");
        sound(&seen.records);
    }
}

/// Recovers as a daemon does, at two times, and once more from its own snapshot.
pub(super) fn sound(records: &[Record]) {
    use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};
    let settings = Settings {
        instance: InstanceId::new("i-0123"),
        boot: BootId::new("boot-a"),
        mode: Mode::Prefix,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 3, ipv4_per_eni: 10 },
        max_eni: None,
        max_pods: 110,
        primary_excluded: false,
        manage_untagged: true,
        cooldown: Duration::from_secs(30),
        cluster: None,
        subnets: SubnetPolicy::default(),
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::ZERO,
        seed: 1,
    };
    for (same_boot, now) in [(true, 0), (true, u64::MAX), (false, 1_000_000)] {
        let now = Time::from_ms(now);
        let mut pool = podwire_pool::Pool::recover(settings.clone(), same_boot, records.to_vec(), now);
        pool.check().expect("sound after recovery");
        let mut effects = Vec::new();
        pool.handle(now, podwire_pool::Input::Timer, &mut effects);
        pool.check().expect("sound after the first step");
        let again = podwire_pool::Pool::recover(settings.clone(), true, pool.snapshot(), now);
        assert_eq!(again.holdings().1, pool.holdings().1, "recovering from a snapshot loses nothing");
    }
}
