use podwire_hostnet::{Attachment, PodLink, UnmarkedLink, pod_suffix};
use podwire_ledger::ipam_json::Allocation;
use podwire_ledger::{Aside, Recovered};
use podwire_pool::record::{EniRecord, EniStage};
use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{
    BootId, DeviceIndex, EniId, InstanceId, Mac, NetworkCard, PodRef, Record, Revision, SandboxKey, SubnetId,
    Time,
};

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
    Recovered {
        records,
        same_boot: true,
        adopted: None,
        lineage: Some("l-1".into()),
        truncated_tail: false,
        damaged: false,
        aside: None,
    }
}

fn checkpoint(lineage: Option<&str>, entries: &[(&str, &str)]) -> Checkpoint {
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
        revision: lineage.map(|_| Revision(7)),
        lineage: lineage.map(Into::into),
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
fn begun(opened: Opened, beside: &Beside, unmarked: &[UnmarkedLink]) -> (Vec<String>, FirstLook) {
    with_links(opened, beside, Kernel { pods: &[], unmarked })
}

fn with_links(opened: Opened, beside: &Beside, kernel: Kernel<'_>) -> (Vec<String>, FirstLook) {
    let past = Past { opened, beside, kernel, clocks: clocks() };
    let begun = begin(settings(), past, true);
    let (_, holdings) = begun.pool.holdings();
    (holdings.into_iter().map(|h| h.sandbox.container_id.to_string()).collect(), begun.look)
}

fn corrupt() -> Opened {
    Opened::Corrupt { reason: "junk".into(), aside: Aside { path: "x".into(), removed: Vec::new() } }
}

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ours() -> Recovered {
    ledger(vec![held("ours", "10.0.0.1")])
}

/// A link of ours, with our alias.
fn own_link(container: &str, address: &str) -> PodLink {
    PodLink {
        name: format!("eni{container}"),
        attachment: Attachment { container_id: container.into(), ifname: "eth0".into() },
        addresses: vec![address.parse().expect("an address")],
        up: true,
        doomed: false,
    }
}

/// Design §4: who wrote last is believed.
#[test]
fn last_writer_is_believed() {
    use FirstLook::{Describe, Metadata};
    let live = links(&["theirs"]);
    let entries = [("theirs", "10.0.0.2")];
    let incumbents = Beside::Checkpoint(checkpoint(None, &entries));
    let mirror = Beside::Checkpoint(checkpoint(Some("l-1"), &entries));
    // The incumbent's file beats our ledger, whatever that is.
    for opened in [Opened::Recovered(ours()), Opened::Fresh, corrupt()] {
        assert_eq!(begun(opened, &incumbents, &live), (ids(&["theirs"]), Describe));
    }
    // Our mirror does not, as long as the ledger is whole.
    assert_eq!(begun(Opened::Recovered(ours()), &mirror, &live), (ids(&["ours"]), Metadata));
    // The mirror of another ledger does: that one is the younger.
    let anothers = Beside::Checkpoint(checkpoint(Some("l-2"), &entries));
    assert_eq!(begun(Opened::Recovered(ours()), &anothers, &live), (ids(&["theirs"]), Describe));
    // A file that the ledger contains already is old: we have worked since.
    for file in [&incumbents, &anothers] {
        let contains = Recovered { adopted: Some("m1".into()), ..ours() };
        assert_eq!(begun(Opened::Recovered(contains), file, &live), (ids(&["ours"]), Metadata));
        let other = Recovered { adopted: Some("m0".into()), ..ours() };
        assert_eq!(begun(Opened::Recovered(other), file, &live), (ids(&["theirs"]), Describe));
    }
    // With the ledger lost, the mirror is a witness; with it damaged, both count.
    for opened in [Opened::Fresh, corrupt()] {
        assert_eq!(begun(opened, &mirror, &live), (ids(&["theirs"]), Describe));
    }
    let damaged = Opened::Recovered(Recovered { damaged: true, ..ours() });
    assert_eq!(begun(damaged, &mirror, &live), (ids(&["ours", "theirs"]), Describe));
    // Nothing at all on a first boot: metadata may be believed.
    assert_eq!(begun(Opened::Fresh, &Beside::Nothing, &[]), (Vec::new(), Metadata));
}

/// A ledger with nothing beside it that can be read is not known to be the youngest: somebody may have worked since, and
/// what runs counts as well.
#[test]
fn ledger_without_its_mirror_is_not_believed_alone() {
    let link = |address: &str| UnmarkedLink {
        addresses: vec![address.parse().expect("an address")],
        ..links(&["theirs"]).remove(0)
    };
    let orphan = format!("unknown-{}", link("10.0.0.2").name);
    for beside in [Beside::Nothing, Beside::Unreadable] {
        let (held, look) = begun(Opened::Recovered(ours()), &beside, &[link("10.0.0.2")]);
        assert_eq!(
            (held, look),
            (vec!["ours".to_owned(), orphan.clone()], FirstLook::Describe),
            "{beside:?}"
        );
        // One address is never held twice.
        let (held, _) = begun(Opened::Recovered(ours()), &beside, &[link("10.0.0.1")]);
        assert_eq!(held, ids(&["ours"]), "{beside:?}");
    }
}

/// Neither is it believed until the Describe has come: whatever is free on an ENI may be another node's by now.
#[test]
fn enis_of_a_ledger_that_may_lack_something_are_doubtful() {
    let eni = Record::Eni(EniRecord {
        id: EniId::new("eni-0"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        attachment: None,
        card: NetworkCard(0),
        device: DeviceIndex(0),
        subnet: SubnetId::new("subnet-1"),
        subnet_cidr: None,
        groups: Vec::new(),
        primary: [10, 0, 0, 11].into(),
        stage: EniStage::Attached,
    });
    let mirror = Beside::Checkpoint(checkpoint(Some("l-1"), &[]));
    let doubtful = |damaged, beside: &Beside| {
        let opened = Opened::Recovered(Recovered { damaged, ..ledger(vec![eni.clone()]) });
        let past = Past { opened, beside, kernel: Kernel { pods: &[], unmarked: &[] }, clocks: clocks() };
        begin(settings(), past, true).pool.eni_rows().iter().all(|row| row.doubted_since.is_some())
    };
    assert!(
        doubtful(true, &mirror) && doubtful(false, &Beside::Nothing) && doubtful(false, &Beside::Unreadable)
    );
    assert!(!doubtful(false, &mirror), "a whole ledger and its own mirror");
}

/// Pods of this boot under a ledger of an earlier one: another ledger served in between.
#[test]
fn pods_that_run_beside_a_ledger_of_an_earlier_boot_are_held() {
    let pods = [own_link("running", "10.0.0.7")];
    let of_then = |damaged| Opened::Recovered(Recovered { same_boot: false, damaged, ..ours() });
    let mirror = Beside::Checkpoint(checkpoint(Some("l-1"), &[("gone", "10.0.0.3")]));
    for damaged in [false, true] {
        for beside in [&Beside::Nothing, &Beside::Unreadable, &mirror] {
            let begun = with_links(of_then(damaged), beside, Kernel { pods: &pods, unmarked: &[] });
            assert_eq!(begun, (ids(&["running"]), FirstLook::Describe));
        }
    }
    // After an ordinary reboot nothing runs, and nothing is asked.
    for beside in [&Beside::Nothing, &mirror] {
        assert_eq!(begun(of_then(false), beside, &[]), (Vec::new(), FirstLook::Metadata));
    }
}

/// Frames that said who got the address next are lost: the link that has it says so.
#[test]
fn running_pod_keeps_its_address_from_a_stale_holder() {
    let pods = [own_link("b", "10.0.0.5")];
    let kernel = Kernel { pods: &pods, unmarked: &[] };
    let released = Record::Released {
        sandbox: SandboxKey::new("b", "eth0"),
        addresses: vec!["10.0.0.4".parse().expect("an address")],
        started: Time::from_ms(2),
        at: Time::from_ms(2),
    };
    // `b` lived before, with another address; whatever else the ledger says of others stands.
    let records = vec![held("b", "10.0.0.4"), released, held("a", "10.0.0.5"), held("c", "10.0.0.6")];
    let damaged = Opened::Recovered(Recovered { damaged: true, ..ledger(records) });
    assert_eq!(with_links(damaged, &Beside::Nothing, kernel), (ids(&["b", "c"]), FirstLook::Describe));
    // A link that agrees changes nothing, and neither does one whose route is gone.
    for addresses in [vec!["10.0.0.1".parse().expect("an address")], Vec::new()] {
        let pods = [PodLink { addresses, ..own_link("ours", "10.0.0.1") }];
        let damaged = Opened::Recovered(Recovered { damaged: true, ..ours() });
        let (held, _) = with_links(damaged, &Beside::Nothing, Kernel { pods: &pods, unmarked: &[] });
        assert_eq!(held, ids(&["ours"]));
    }
}

/// A ledger that cannot be read is no absent one, and neither is a checkpoint of this boot: metadata is not enough then.
#[test]
fn past_that_is_lost_is_a_past() {
    let newer = Opened::Newer { format: 99, aside: Aside { path: "x".into(), removed: Vec::new() } };
    for opened in [corrupt(), newer] {
        assert_eq!(begun(opened, &Beside::Nothing, &[]), (Vec::new(), FirstLook::Describe));
    }
    let emptied = Beside::Checkpoint(checkpoint(Some("l-1"), &[]));
    for beside in [emptied, Beside::Unreadable] {
        assert_eq!(begun(Opened::Fresh, &beside, &[]), (Vec::new(), FirstLook::Describe), "{beside:?}");
    }
}

/// Scenario A9: a checkpoint that outlived a reboot names pods that are gone.
#[test]
fn checkpoint_of_an_earlier_boot_holds_nothing() {
    let old = Checkpoint { written_unix_ns: 1, ..checkpoint(None, &[("gone", "10.0.0.2")]) };
    let (held, look) = begun(Opened::Fresh, &Beside::Checkpoint(old), &[]);
    assert_eq!((held, look), (Vec::new(), FirstLook::Metadata));
}
