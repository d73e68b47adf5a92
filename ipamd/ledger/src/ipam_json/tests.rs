use serde_json::{Value, json};

use super::*;

/// F09's file, as the incumbent writes it.
const INCUMBENT: &str = r#"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"net0","containerID":"sandbox-1","ifName":"eth0","ipv4":"1.1.1.1","allocationTimestamp":1700000000000000000,"metadata":{"k8sPodNamespace":"default","k8sPodName":"sample-pod-1","interfacesCount":1}}]}"#;

fn in_dir(content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ipam.json");
    fs::write(&path, content).expect("written");
    (dir, path)
}

fn parse(content: &str) -> Result<Option<Checkpoint>, IpamJsonError> {
    let (_dir, path) = in_dir(content);
    read(&path)
}

fn entry(container: &str, ipv4: &str, timestamp: i64) -> Value {
    json!({"networkName": "aws-cni", "containerID": container, "ifName": "eth0", "ipv4": ipv4,
           "allocationTimestamp": timestamp, "metadata": {}})
}

fn of(revision: u64) -> Mirrored<'static> {
    Mirrored { lineage: "l-1", revision: Revision(revision) }
}

fn file(entries: &[Value]) -> String {
    json!({"version": VERSION, "allocations": entries}).to_string()
}

/// F09: the same keys come back, plus our revision.
#[test]
fn incumbents_file_comes_back_with_the_same_keys() {
    let (dir, path) = in_dir(INCUMBENT);
    let checkpoint = read(&path).expect("readable").expect("there");
    assert_eq!(checkpoint.revision, None, "the incumbent wrote last");
    assert_eq!(checkpoint.allocations.len(), 1);
    write(&path, &checkpoint.allocations, of(42)).expect("written");
    let mut expected: Value = serde_json::from_str(INCUMBENT).expect("JSON");
    expected["podwireRevision"] = json!(42);
    expected["podwireLedger"] = json!("l-1");
    let written = fs::read_to_string(&path).expect("there");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), expected);
    let again = read(&path).expect("readable").expect("there");
    assert_ne!(again.mark, checkpoint.mark, "another file");
    let Checkpoint { ref mark, written_unix_ns, .. } = again;
    let (revision, lineage) = (Some(Revision(42)), Some("l-1".into()));
    let expected = Checkpoint { revision, lineage, mark: mark.clone(), written_unix_ns, ..checkpoint };
    assert_eq!(again, expected);
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "no temporary file is left");
}

#[test]
fn missing_file_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(read(&dir.path().join("ipam.json")).expect("no error").is_none());
}

#[test]
fn what_is_not_understood_is_an_error_and_left_alone() {
    for bad in ["", "{", "[]", "null", r#"{"allocations":[]}"#, &INCUMBENT.replace("1.1.1.1", "1.1.1")] {
        let (_dir, path) = in_dir(bad);
        assert!(matches!(read(&path), Err(IpamJsonError::Unreadable { .. })), "{bad}");
        assert_eq!(fs::read_to_string(&path).expect("there"), bad);
    }
    let newer = INCUMBENT.replace("ipam/1", "ipam/2");
    assert!(
        matches!(parse(&newer), Err(IpamJsonError::Version { version, .. }) if version == "vpc-cni-ipam/2")
    );
}

#[test]
fn sparse_entries_are_taken() {
    for none in [r#"{"version":"vpc-cni-ipam/1","allocations":null}"#, r#"{"version":"vpc-cni-ipam/1"}"#] {
        assert_eq!(parse(none).expect("readable").expect("there").allocations, [], "{none}");
    }
    let sparse = r#"{"version":"vpc-cni-ipam/1","extra":1,"allocations":[
        {"networkName":"_migrated-from-cri","containerID":"c","ifName":"unknown","ipv6":"2001:db8::1","ipv4":"","new":{}}]}"#;
    let allocation = parse(sparse).expect("readable").expect("there").allocations.remove(0);
    assert_eq!(
        allocation.addresses().collect::<Vec<_>>(),
        ["2001:db8::1".parse::<IpAddr>().expect("address")]
    );
    assert_eq!((allocation.interfaces, &*allocation.pod_name), (0, ""));
}

/// F09 `better:` where the incumbent dies of a repeated address, the youngest allocation keeps it.
#[test]
fn repeated_address_goes_to_the_youngest() {
    let text = file(&[
        entry("old", "10.0.0.1", 1),
        entry("young", "10.0.0.1", 3),
        entry("middle", "10.0.0.1", 2),
        entry("other", "10.0.0.2", 0),
        entry("twin-a", "10.0.0.3", 7),
        entry("twin-b", "10.0.0.3", 7),
    ]);
    let checkpoint = parse(&text).expect("readable").expect("there");
    let names = |list: &[Allocation]| -> Vec<String> {
        list.iter().map(|allocation| allocation.sandbox.container_id.to_string()).collect()
    };
    assert_eq!(names(&checkpoint.allocations), ["young", "other", "twin-b"]);
    assert_eq!(names(&checkpoint.superseded), ["old", "middle", "twin-a"]);
}

/// A write that cannot happen leaves the old file whole.
#[test]
fn failed_write_keeps_the_old_file() {
    let (dir, path) = in_dir(INCUMBENT);
    let in_the_way = dir.path().join("ipam.json.tmp-podwire");
    fs::create_dir(&in_the_way).expect("made");
    assert!(matches!(write(&path, &[], of(1)), Err(IpamJsonError::Io { .. })));
    assert_eq!(fs::read_to_string(&path).expect("there"), INCUMBENT);
    fs::remove_dir(&in_the_way).expect("removed");
    write(&path, &[], of(1)).expect("the next one works");
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let (_dir, path) = in_dir("");
        fs::write(&path, bytes).expect("written");
        read(&path).ok();
    }

    #[test]
    fn any_allocations_come_back(
        addresses in proptest::collection::btree_set(1u32..0xffff_ffff, 0..20),
        name in "[a-z0-9-]{0,9}",
        timestamp in proptest::num::i64::ANY,
        revision in proptest::num::u64::ANY,
    ) {
        let allocations: Vec<Allocation> = addresses.iter().map(|&address| Allocation {
            network: "aws-cni".into(),
            sandbox: SandboxKey::new(format!("c{address}"), "eth0"),
            ipv4: (address % 3 != 0).then_some(address.into()),
            ipv6: (address % 3 != 1).then(|| u128::from(address).into()),
            allocated_unix_ns: timestamp,
            pod_namespace: name.as_str().into(),
            pod_name: name.as_str().into(),
            interfaces: address % 3,
        }).collect();
        let (_dir, path) = in_dir("");
        write(&path, &allocations, of(revision)).expect("written");
        let checkpoint = read(&path).expect("readable").expect("there");
        proptest::prop_assert_eq!(checkpoint.allocations, allocations);
        proptest::prop_assert_eq!(checkpoint.revision, Some(Revision(revision)));
        proptest::prop_assert_eq!(checkpoint.superseded, []);
    }
}
