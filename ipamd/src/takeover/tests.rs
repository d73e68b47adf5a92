use super::*;

const NOW: u64 = 1_000_000;
const BOOTED: i128 = 1_700_000_000_000_000_000;

fn clocks() -> Clocks {
    Clocks { now: Time::from_ms(NOW), booted_unix_ns: BOOTED }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn entry(container: &str, pod: &str, address: &str) -> Allocation {
    let (namespace, name) = pod.split_once('/').unwrap_or(("", ""));
    Allocation {
        network: NETWORK.into(),
        sandbox: SandboxKey::new(container, "eth0"),
        ipv4: address.parse().ok(),
        ipv6: None,
        allocated_unix_ns: i64::try_from(BOOTED).expect("fits") + 5_000_000_000,
        pod_namespace: namespace.into(),
        pod_name: name.into(),
        interfaces: 1,
    }
}

fn link(name: &str, addresses: &[&str]) -> UnmarkedLink {
    UnmarkedLink { name: name.into(), addresses: addresses.iter().map(|a| ip(a)).collect() }
}

fn of(pod: &str, addresses: &[&str]) -> UnmarkedLink {
    let (namespace, name) = pod.split_once('/').expect("a pod");
    link(&format!("eni{}", pod_suffix(namespace, name)), addresses)
}

/// Sandbox and first address of each allocation.
fn held(take: &TakeOver) -> Vec<(String, IpAddr)> {
    let of = |record: &Record| {
        let Record::Allocated { sandbox, addresses, .. } = record else { panic!("{record:?}") };
        (sandbox.container_id.to_string(), addresses[0])
    };
    take.records.iter().map(of).collect()
}

/// F08, with the incumbent's own names.
#[test]
fn entries_live_by_their_links_as_the_incumbent_decides() {
    let entries = [
        entry("a", "kube-system/coredns-57ff979f67-qqbdh", "192.168.9.106"),
        entry("b", "kube-system/coredns-57ff979f67-8ns9b", "192.168.1.1"),
        entry("c", "", "192.168.42.42"),
    ];
    for first in ["enib5faff8a083", "customb5faff8a083"] {
        let unmarked = [link("eth0", &[]), link(first, &[]), link("enicc21c2d7785", &[])];
        let kernel = Kernel { pods: &[], unmarked: &unmarked };
        let take = take_over(&entries, true, kernel, clocks());
        assert_eq!(held(&take), [("a".into(), ip("192.168.9.106")), ("c".into(), ip("192.168.42.42"))]);
        assert_eq!(take.dead, [ip("192.168.1.1")]);
    }
}

#[test]
fn live_pod_is_held_with_its_time_and_its_link_is_marked() {
    let unmarked = [of("default/web-0", &["10.0.0.9"])];
    let kernel = Kernel { pods: &[], unmarked: &unmarked };
    let take = take_over(&[entry("c1", "default/web-0", "10.0.0.9")], true, kernel, clocks());
    let Record::Allocated { sandbox, pod, addresses, at } = &take.records[0] else { panic!("{take:?}") };
    assert_eq!((&*sandbox.container_id, &*sandbox.ifname), ("c1", "eth0"));
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.network), ("default", "web-0", "aws-cni"));
    assert_eq!((addresses.as_slice(), at.as_ms()), (&[ip("10.0.0.9")][..], 5_000));
    let attachment = Attachment { container_id: "c1".into(), ifname: "eth0".into() };
    let mark = Mark { link: unmarked[0].name.clone(), attachment, addresses: vec![ip("10.0.0.9")] };
    assert_eq!((take.marks, take.dead, take.orphans), (vec![mark], vec![], 0));
}

/// A time ahead of the clock or before the boot must not make a later DEL look old.
#[test]
fn times_are_cut_to_this_boot() {
    for (ns, ms) in [(i64::MIN, 0), (0, 0), (i64::MAX, NOW)] {
        assert_eq!(clocks().since_boot(ns).as_ms(), ms);
    }
}

/// One pod name, two sandboxes: both addresses are held, the link goes to the one routed to it.
#[test]
fn two_sandboxes_of_one_name_are_both_held_and_the_routed_one_is_marked() {
    let unmarked = [of("default/web-0", &["10.0.0.8"])];
    let kernel = Kernel { pods: &[], unmarked: &unmarked };
    let old = entry("old", "default/web-0", "10.0.0.8");
    let young = entry("young", "default/web-0", "10.0.0.9");
    for entries in [[old.clone(), young.clone()], [young, old]] {
        let take = take_over(&entries, true, kernel, clocks());
        assert_eq!(take.records.len(), 2);
        assert_eq!(take.marks.len(), 1);
        assert_eq!(take.marks[0].attachment.container_id, "old");
    }
}

/// Our own alias is a better witness than an entry for the same address.
#[test]
fn address_on_a_link_of_ours_is_its_attachments() {
    let pods = [PodLink {
        name: "eni00000000000".into(),
        attachment: Attachment { container_id: "ours".into(), ifname: "eth0".into() },
        addresses: vec![ip("10.0.0.9")],
        up: true,
        doomed: false,
    }];
    let kernel = Kernel { pods: &pods, unmarked: &[] };
    let entries = [entry("theirs", "", "10.0.0.9"), entry("ours", "default/web-1", "10.0.0.9")];
    let take = take_over(&entries, true, kernel, clocks());
    assert_eq!(held(&take), [("ours".into(), ip("10.0.0.9"))]);
    let Record::Allocated { pod, .. } = &take.records[0] else { panic!("{take:?}") };
    assert_eq!(&*pod.name, "web-1", "what the entry says of the pod is kept");
}

/// Taken for younger than it is, a link's sandbox would outlive its own DEL.
#[test]
fn link_of_ours_is_as_old_as_its_entry_or_as_can_be() {
    let pods = ["known", "unknown"].map(|id| PodLink {
        name: format!("eni{id}"),
        attachment: Attachment { container_id: id.into(), ifname: "eth0".into() },
        addresses: vec![ip(if id == "known" { "10.0.0.1" } else { "10.0.0.2" })],
        up: true,
        doomed: false,
    });
    let entries = [entry("known", "default/web-1", "10.0.0.1")];
    let take = take_over(&entries, true, Kernel { pods: &pods, unmarked: &[] }, clocks());
    let ages = take.records.iter().map(|record| {
        let Record::Allocated { at, .. } = record else { panic!("{record:?}") };
        at.as_ms()
    });
    assert_eq!(ages.collect::<Vec<_>>(), [5_000, 0]);
}

/// A route to a pod's link that no entry explains: held, so that it is not given to anybody else. Other veths are
/// somebody else's business.
#[test]
fn unexplained_routes_hold_their_address() {
    let unmarked =
        [of("default/lost", &["10.0.0.7"]), link("cali12345678901", &[]), link("veth0", &["10.9.9.9"])];
    let take = take_over(&[], false, Kernel { pods: &[], unmarked: &unmarked }, clocks());
    let name = format!("{ORPHAN}{}", unmarked[0].name);
    assert_eq!((held(&take), take.orphans), (vec![(name, ip("10.0.0.7"))], 1));
}

/// Scenario A9: file kept, sandboxes gone. Entries without a pod count only when of this boot, or routed.
#[test]
fn entries_of_an_earlier_boot_are_void_unless_the_kernel_says_otherwise() {
    let entries =
        [entry("a", "", "10.0.0.1"), entry("b", "", "10.0.0.2"), entry("c", "default/web", "10.0.0.3")];
    let unmarked = [of("x/y", &["10.0.0.2"])];
    let take = take_over(&entries, false, Kernel { pods: &[], unmarked: &unmarked }, clocks());
    assert_eq!(held(&take), [("b".into(), ip("10.0.0.2"))]);
    assert_eq!(take.dead, [ip("10.0.0.1"), ip("10.0.0.3")]);
}

/// The incumbent's backfilled entries are found again by the runtime's DEL.
#[test]
fn backfilled_entry_gets_the_interface_its_del_will_name() {
    let mut migrated = entry("c9", "", "10.0.0.4");
    migrated.network = "_migrated-from-cri".into();
    migrated.sandbox = SandboxKey::new("c9", "unknown");
    let take = take_over(&[migrated], true, Kernel { pods: &[], unmarked: &[] }, clocks());
    let Record::Allocated { sandbox, pod, .. } = &take.records[0] else { panic!("{take:?}") };
    assert_eq!((&*sandbox.ifname, &*pod.network), ("eth0", "aws-cni"));
}

#[test]
fn names_of_pod_links() {
    for name in ["enib5faff8a083", "abcdb5faff8a083", "eb5faff8a083"] {
        assert!(is_pod_link(name), "{name}");
    }
    for name in ["b5faff8a083", "abcdeb5faff8a083", "eni", "enib5faff8a08g", "docker0", "", "ünib5faff8a083x"]
    {
        assert!(!is_pod_link(name), "{name}");
    }
}

proptest::proptest! {
    /// Whatever the witnesses say: no address is held twice, none that lives is dead, no link gets two marks.
    #[test]
    fn nothing_is_held_twice(
        entries in proptest::collection::vec((0u8..6, 0u8..5, 0u8..8), 0..12),
        links in proptest::collection::vec((0u8..5, proptest::collection::vec(0u8..8, 0..3), 0u8..3), 0..8),
        of_this_boot: bool,
    ) {
        let address = |n: u8| format!("10.0.0.{n}");
        let pod = |n: u8| if n == 0 { String::new() } else { format!("default/p{n}") };
        let entries: Vec<Allocation> =
            entries.iter().map(|&(c, p, a)| entry(&format!("c{c}"), &pod(p), &address(a))).collect();
        let (mut pods, mut unmarked) = (Vec::new(), Vec::new());
        for (p, addresses, kind) in links {
            let addresses: Vec<IpAddr> = addresses.iter().map(|&a| ip(&address(a))).collect();
            let name = of(&format!("default/p{p}"), &[]).name;
            if kind == 0 {
                let attachment = Attachment { container_id: format!("c{p}"), ifname: "eth0".into() };
                pods.push(PodLink { name, attachment, addresses, up: true, doomed: false });
            } else {
                unmarked.push(UnmarkedLink { name, addresses });
            }
        }
        let kernel = Kernel { pods: &pods, unmarked: &unmarked };
        let take = take_over(&entries, of_this_boot, kernel, clocks());
        let settings = crate::start::tests::settings();
        let pool = podwire_pool::Pool::recover(settings, true, take.records.clone(), Time::from_ms(NOW));
        let (_, holdings) = pool.holdings();
        let held: BTreeSet<IpAddr> = holdings.iter().flat_map(|h| h.addresses.clone()).collect();
        for link in &unmarked {
            for address in &link.addresses {
                proptest::prop_assert!(held.contains(address), "{} is routed and not held", address);
            }
        }
        for pod in &pods {
            for address in &pod.addresses {
                proptest::prop_assert!(held.contains(address), "{} is ours and not held", address);
            }
        }
        proptest::prop_assert!(take.dead.iter().all(|ip| !held.contains(ip)));
        let marked: BTreeSet<&String> = take.marks.iter().map(|m| &m.link).collect();
        proptest::prop_assert_eq!(marked.len(), take.marks.len());
    }
}
