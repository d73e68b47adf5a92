//! The command on real ledger files: as a daemon writes them, damaged, and hostile.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use podwire_ledger::{Identity, Ledger};
use podwire_pool::record::{EniRecord, EniStage};
use podwire_pool::{
    BootId, DeviceIndex, EniId, GroupId, GrowBy, InstanceId, Mac, NetworkCard, OpId, PodRef, Record,
    SandboxKey, SubnetId, Time,
};
use serde_json::Value;

/// Exit code, output and errors.
fn ran(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = std::iter::once("podwire").chain(args.iter().copied()).map(OsString::from);
    let code = podwire_cli::run(line, &mut out, &mut err);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

fn json(args: &[&str]) -> Value {
    let (code, out, err) = ran(args);
    assert!(code == 0 || code == 3, "{args:?}: {code} {err}");
    serde_json::from_str(&out).expect("JSON")
}

fn boot() -> BootId {
    let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    BootId::new(own.trim())
}

fn identity() -> Identity {
    let (instance, cooldown) = (InstanceId::new("i-0123"), Duration::from_millis(30_000));
    Identity { instance, boot: boot(), cooldown, lineage: "l-a".into() }
}

fn eni() -> Record {
    Record::Eni(EniRecord {
        id: EniId::new("eni-1"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        attachment: None,
        card: NetworkCard(0),
        device: DeviceIndex(0),
        subnet: SubnetId::new("subnet-1"),
        subnet_cidr: None,
        groups: vec![GroupId::new("sg-1")],
        primary: "10.0.0.5".parse().expect("an address"),
        stage: EniStage::Attached,
    })
}

fn allocated(container: &str, pod: &str, address: &str, at: u64) -> Record {
    Record::Allocated {
        sandbox: SandboxKey::new(container, "eth0"),
        pod: PodRef {
            namespace: "default".into(),
            name: pod.into(),
            uid: "u".into(),
            network: "aws-cni".into(),
        },
        addresses: vec![address.parse().expect("an address")],
        at: Time::from_ms(at),
    }
}

fn released(container: &str, address: &str, at: u64) -> Record {
    Record::Released {
        sandbox: SandboxKey::new(container, "eth0"),
        addresses: vec![address.parse().expect("an address")],
        started: Time::from_ms(at),
        at: Time::from_ms(at),
    }
}

fn assigned(net: &str, at: u64) -> Record {
    Record::Assigned { eni: EniId::new("eni-1"), net: net.parse().expect("a network"), at: Time::from_ms(at) }
}

/// An open ledger with a life in it.
fn lived(dir: &Path) -> Ledger {
    let (mut ledger, _) = Ledger::open(dir, &identity()).expect("opens");
    ledger.compact(&[eni()]).expect("founded");
    for commit in [
        vec![assigned("10.0.0.16/28", 100)],
        vec![allocated("c0ffee0001", "web-0", "10.0.0.17", 200)],
        vec![released("c0ffee0001", "10.0.0.17", 300)],
        vec![allocated("c0ffee0002", "web-0", "10.0.0.17", 40_000)],
        vec![allocated("c0ffee0003", "db", "10.0.0.18", 41_000)],
        vec![Record::Intent { op: OpId(7), create: Some(GrowBy::Prefixes(2)), eni: None }],
    ] {
        ledger.append(&commit).expect("appended");
    }
    ledger
}

fn events(dir: &str, of: &str) -> Vec<String> {
    let told = json(&["history", of, "--ledger-dir", dir, "--json"]);
    let list = told["events"].as_array().expect("a list");
    list.iter().map(|e| format!("{} {}", e["event"].as_str().unwrap_or(""), e["at_boottime_ms"])).collect()
}

/// The whole life of an address, while the ledger is open; also after a compaction, which leaves only the state.
#[test]
fn history_of_an_address_is_told_across_compactions() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("text");
    let mut ledger = lived(dir.path());
    let whole = ["assigned 100", "allocated 200", "released 300", "cooled 30300", "allocated 40000"];
    assert_eq!(events(path, "10.0.0.17"), whole);
    ledger
        .compact(&[
            eni(),
            assigned("10.0.0.16/28", 100),
            allocated("c0ffee0002", "web-0", "10.0.0.17", 40_000),
        ])
        .expect("compacted");
    assert_eq!(events(path, "10.0.0.17"), whole);
    assert_eq!(events(path, "10.0.0.20"), ["assigned 100"]);
    assert_eq!(events(path, "default/web-0"), whole[1..]);
    assert_eq!(events(path, "c0ffee0001"), whole[1..4]);
    ledger.append(&[Record::EniGone { eni: EniId::new("eni-1") }]).expect("appended");
    assert_eq!(events(path, "10.0.0.20"), ["assigned 100", "eni-gone null"]);
    let (code, _, err) = ran(&["history", "10.9.9.9", "--ledger-dir", path]);
    assert_eq!(code, 1);
    assert!(err.contains("nothing is known of 10.9.9.9") && err.contains("podwire pods"), "{err}");
}

#[test]
fn ledger_tells_enis_addresses_pods_and_doubts() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("text");
    let _open = lived(dir.path());
    let told = json(&["ledger", "--ledger-dir", path, "--json"]);
    assert_eq!(told["instance"], "i-0123");
    assert_eq!((&told["this_boot"], &told["end"]), (&Value::Bool(true), &"whole".into()));
    assert_eq!(told["enis"][0]["assigned"][0]["net"], "10.0.0.16/28");
    assert_eq!(told["pods"].as_array().map(Vec::len), Some(2));
    assert!(told["doubts"][0].as_str().is_some_and(|doubt| doubt.contains("create an ENI with 2 prefixes")));
    let (code, out, _) = ran(&["ledger", "--ledger-dir", path]);
    assert_eq!(code, 0);
    for part in ["16 assigned, 2 allocated", "eni-1", "default/db", "10.0.0.18", "operation 7"] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    let (_, pods, _) = ran(&["pods", "--ledger-dir", path]);
    assert!(pods.contains("10.0.0.17") && pods.contains("default/web-0"), "{pods}");
}

/// What lies in the file reaches no terminal as it is.
#[test]
fn hostile_names_are_escaped_everywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("text");
    let (mut ledger, _) = Ledger::open(dir.path(), &identity()).expect("opens");
    let evil = "\u{1b}]0;owned\u{7}\u{202e}\u{9b}2J\r\n";
    ledger.compact(&[eni(), assigned("10.0.0.16/28", 1)]).expect("founded");
    ledger.append(&[allocated(evil, evil, "10.0.0.17", 2)]).expect("appended");
    for command in ["ledger", "pods"] {
        for json in [false, true] {
            let mut args = vec![command, "--ledger-dir", path];
            args.extend(json.then_some("--json"));
            let (code, out, _) = ran(&args);
            assert_eq!(code, 0);
            assert!(out.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '\n'), "{out:?}");
            assert!(out.contains("owned"), "{out}");
        }
    }
    let (_, out, _) = ran(&["history", "10.0.0.17", "--ledger-dir", path]);
    assert!(out.contains("owned") && out.is_ascii(), "{out}");
    let (code, _, err) = ran(&["history", evil, "--ledger-dir", "/nowhere"]);
    assert!(code == 1 && err.is_ascii() && !err.contains('\u{1b}'), "{err:?}");
    let told: Value = json(&["pods", "--ledger-dir", path, "--json"]);
    assert_eq!(told["pods"][0]["pod_name"], evil, "programs get the very name");
}

#[test]
fn missing_foreign_and_damaged_files_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("text");
    for command in ["ledger", "pods"] {
        let (code, out, err) = ran(&[command, "--ledger-dir", path]);
        assert!(code == 1 && out.is_empty() && err.contains("there is no ledger"), "{err}");
    }
    drop(lived(dir.path()));
    let file = dir.path().join("ledger");
    let mut bytes = std::fs::read(&file).expect("there");
    let middle = bytes.iter().rposition(|&b| b != 0).expect("something") - 20;
    bytes[middle] ^= 1;
    let aside = dir.path().join("ledger.corrupt-1");
    std::fs::write(&aside, &bytes).expect("written");
    let aside = aside.to_str().expect("text");
    let (code, out, _) = ran(&["ledger", "--file", aside]);
    assert!(code == 3 && out.contains("damaged") && out.contains("default/db"), "{code} {out}");
    std::fs::write(aside, "junk").expect("written");
    let (code, _, err) = ran(&["ledger", "--file", aside]);
    assert!(code == 1 && err.contains("cannot be read as a ledger"), "{err}");
    let other = Identity { boot: BootId::new("another"), ..identity() };
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (mut ledger, _) = Ledger::open(elsewhere.path(), &other).expect("opens");
    ledger.compact(&[eni(), allocated("c1", "web", "10.0.0.17", 5)]).expect("founded");
    let (code, out, _) = ran(&["ledger", "--ledger-dir", elsewhere.path().to_str().expect("text")]);
    assert!(code == 0 && out.contains("another boot") && out.contains("boot+0.005s"), "{out}");
}

#[test]
fn without_a_daemon_it_is_told_what_to_do() {
    for command in ["status", "explain"] {
        let (code, out, err) = ran(&[command, "--socket", "/nowhere/ipamd.sock"]);
        assert!(code == 1 && out.is_empty(), "{code}");
        assert!(
            err.contains("no daemon answers on /nowhere/ipamd.sock") && err.contains("podwire ledger"),
            "{err}"
        );
    }
    assert_eq!(ran(&["statsu"]).0, 2);
    let (code, out, _) = ran(&["--help"]);
    assert!(code == 0 && out.contains("Exit codes"), "{out}");
}

/// A reader that has seen enough (`podwire ledger | head -1`) is no error.
#[test]
fn closed_pipe_is_no_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut ledger, _) = Ledger::open(dir.path(), &identity()).expect("opens");
    let many: Vec<Record> = (0..3_000)
        .map(|n| allocated(&format!("c{n}"), "web", &format!("10.1.{}.{}", n / 250, n % 250), 1))
        .collect();
    ledger.compact(&many).expect("founded");
    let line = ["podwire", "pods", "--ledger-dir", dir.path().to_str().expect("text")].map(OsString::from);
    let mut err = Vec::new();
    assert_eq!(podwire_cli::run(line, &mut Closed, &mut err), 0);
    assert!(err.is_empty());
}

/// An output whose reader is gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
