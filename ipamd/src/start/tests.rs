use podwire_hostnet::{UnmarkedLink, pod_suffix};
use podwire_ledger::ipam_json::Allocation;
use podwire_ledger::{Aside, Recovered};
use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{BootId, InstanceId, PodRef, Record, Revision, SandboxKey, Time};

use super::*;

#[test]
fn identity_document_time_parsed() {
    assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(parse_utc("2026-11-20T11:13:43Z"), Some(1_795_173_223));
    assert_eq!(parse_utc("2024-02-29T23:59:59.123Z"), Some(1_709_251_199));
    for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-20 11:13:43", "2026-11-20T11:13Z"] {
        assert_eq!(parse_utc(bad), None, "{bad:?}");
    }
}

#[test]
fn late_reboot_is_not_first_boot() {
    assert!(is_first_boot(1_000_060, Some(1_000_000)));
    assert!(!is_first_boot(1_100_000, Some(1_000_000)));
    assert!(!is_first_boot(1_000_000, None), "without a launch time nothing is assumed");
}

/// Settings for a pool of these tests.
pub(crate) fn settings() -> Settings {
    Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("boot"),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 3, ipv4_per_eni: 6 },
        max_eni: None,
        max_pods: 17,
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
    }
}

fn clocks() -> Clocks {
    Clocks { now: Time::from_ms(500_000), booted_unix_ns: 1_700_000_000_000_000_000 }
}

fn held(sandbox: &str, address: &str) -> Record {
    Record::Allocated {
        sandbox: SandboxKey::new(sandbox, "eth0"),
        pod: PodRef::default(),
        addresses: vec![address.parse().expect("an address")],
        at: Time::from_ms(1),
    }
}

fn ledger(records: Vec<Record>) -> Recovered {
    Recovered { records, same_boot: true, adopted: None, truncated_tail: false, damaged: false, aside: None }
}

fn checkpoint(revision: Option<u64>, entries: &[(&str, &str)]) -> Checkpoint {
    let entry = |(pod, address): &(&str, &str)| Allocation {
        network: "aws-cni".into(),
        sandbox: SandboxKey::new(*pod, "eth0"),
        ipv4: address.parse().ok(),
        ipv6: None,
        allocated_unix_ns: 1_700_000_100_000_000_000,
        pod_namespace: "default".into(),
        pod_name: (*pod).into(),
        interfaces: 1,
    };
    Checkpoint {
        allocations: entries.iter().map(entry).collect(),
        revision: revision.map(Revision),
        mark: "m1".into(),
        written_unix_ns: 1_700_000_200_000_000_000,
        superseded: Vec::new(),
    }
}

fn links(pods: &[&str]) -> Vec<UnmarkedLink> {
    let name = |pod| format!("eni{}", pod_suffix("default", pod));
    pods.iter().map(|pod| UnmarkedLink { name: name(pod), addresses: Vec::new() }).collect()
}

/// Container ids of what the pool holds, in order, and what it looks at first.
fn begun(opened: Opened, file: Option<&Checkpoint>, unmarked: &[UnmarkedLink]) -> (Vec<String>, FirstLook) {
    let kernel = Kernel { pods: &[], unmarked };
    let past = Past { opened, checkpoint: file, kernel, clocks: clocks() };
    let begun = begin(settings(), past, true);
    let (_, holdings) = begun.pool.holdings();
    (holdings.into_iter().map(|h| h.sandbox.container_id.to_string()).collect(), begun.look)
}

fn corrupt() -> Opened {
    Opened::Corrupt { reason: "junk".into(), aside: Aside { path: "x".into(), removed: Vec::new() } }
}

/// Design §4: who wrote last is believed.
#[test]
fn last_writer_is_believed() {
    let ours = || ledger(vec![held("ours", "10.0.0.1")]);
    let recovered = |found| Opened::Recovered(found);
    let live = links(&["theirs"]);
    let incumbents = checkpoint(None, &[("theirs", "10.0.0.2")]);
    let mirror = checkpoint(Some(7), &[("theirs", "10.0.0.2")]);
    let id = |name: &str| vec![name.to_owned()];
    use FirstLook::{Describe, Metadata};
    // The incumbent's file beats our ledger, whatever that is.
    for opened in [recovered(ours()), Opened::Fresh, corrupt()] {
        assert_eq!(begun(opened, Some(&incumbents), &live), (id("theirs"), Describe));
    }
    // Our mirror does not, as long as the ledger is whole.
    assert_eq!(begun(recovered(ours()), Some(&mirror), &live), (id("ours"), Metadata));
    // A file that the ledger contains already is old: we have worked since.
    let contains = Recovered { adopted: Some("m1".into()), ..ours() };
    assert_eq!(begun(recovered(contains), Some(&incumbents), &live), (id("ours"), Metadata));
    let other = Recovered { adopted: Some("m0".into()), ..ours() };
    assert_eq!(begun(recovered(other), Some(&incumbents), &live), (id("theirs"), Describe));
    // With the ledger lost, the mirror is a witness; with it damaged, both count.
    for opened in [Opened::Fresh, corrupt()] {
        assert_eq!(begun(opened, Some(&mirror), &live), (id("theirs"), Describe));
    }
    let damaged = Recovered { damaged: true, ..ours() };
    let both = vec!["ours".to_owned(), "theirs".to_owned()];
    assert_eq!(begun(recovered(damaged), Some(&mirror), &live), (both, Describe));
    // Nothing at all on a first boot: metadata may be believed.
    assert_eq!(begun(Opened::Fresh, None, &[]), (Vec::new(), Metadata));
}

/// A ledger that cannot be read is no absent one, and neither is a checkpoint of this boot: metadata is not enough then.
#[test]
fn past_that_is_lost_is_a_past() {
    let newer = Opened::Newer { format: 99, aside: Aside { path: "x".into(), removed: Vec::new() } };
    for opened in [corrupt(), newer] {
        assert_eq!(begun(opened, None, &[]), (Vec::new(), FirstLook::Describe));
    }
    let emptied = checkpoint(Some(7), &[]);
    assert_eq!(begun(Opened::Fresh, Some(&emptied), &[]), (Vec::new(), FirstLook::Describe));
}

/// Scenario A9: a checkpoint that outlived a reboot names pods that are gone.
#[test]
fn checkpoint_of_an_earlier_boot_holds_nothing() {
    let old = Checkpoint { written_unix_ns: 1, ..checkpoint(None, &[("gone", "10.0.0.2")]) };
    let (held, look) = begun(Opened::Fresh, Some(&old), &[]);
    assert_eq!((held, look), (Vec::new(), FirstLook::Metadata));
}
