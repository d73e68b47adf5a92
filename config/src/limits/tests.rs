use super::*;

#[test]
fn every_row_parses_and_obeys_the_formula() {
    let mut count = 0;
    for row in rows() {
        let (name, rest) = row.split_once(',').expect("a row has columns");
        let limits = parse_row(rest).unwrap_or_else(|| panic!("row of {name} does not parse"));
        assert_eq!(Limits::of(name).as_ref(), Some(&limits), "{name} is found by its name");
        assert_eq!(limits.max_pods(false, None), limits.max_pods_secondary, "{name}");
        assert_eq!(limits.enis_total, limits.cards.iter().map(|(_, most)| most).sum::<u32>(), "{name}");
        let default = limits.cards.iter().find(|(index, _)| *index == limits.default_card);
        assert_eq!(default.map(|(_, most)| *most), Some(limits.enis_default_card), "{name}");
        assert_eq!(limits.prefix_ok, limits.bare_metal || limits.hypervisor == Hypervisor::Nitro, "{name}");
        count += 1;
    }
    assert!(count > 1_300, "only {count} rows: the table is truncated");
}

/// C02: pods by instance type; and what an unknown type falls back to.
#[test]
fn max_pods_of_known_types() {
    for (name, pods) in [("t3.small", 11), ("m5.large", 29), ("m4.4xlarge", 234), ("p3dn.24xlarge", 737)] {
        assert_eq!(Limits::of(name).map(|l| l.max_pods(false, None)), Some(pods), "{name}");
    }
    assert_eq!(Limits::of("no.such"), None);
    assert_eq!(Limits::of("m5"), None);
    assert_eq!(Limits::of(""), None);
    assert_eq!(FALLBACK_MAX_PODS, 110);
}

/// C03: slots of an ENI in both modes.
#[test]
fn addresses_of_an_eni_follow_the_mode() {
    let limits = Limits::of("m5.xlarge").expect("listed");
    assert_eq!(limits.ipv4_per_eni, 15);
    assert_eq!((limits.addresses_per_eni(false), limits.prefixes_per_eni(false)), (14, 0));
    assert_eq!((limits.addresses_per_eni(true), limits.prefixes_per_eni(true)), (224, 14));
}

/// C04: trunks; a type the trunk list does not hold counts as capable.
#[test]
fn trunk_capability_has_three_states() {
    assert_eq!(Limits::of("m8g.12xlarge").map(|l| l.may_trunk()), Some(true));
    assert_eq!(Limits::of("i3.2xlarge").map(|l| l.may_trunk()), Some(false));
    let unknown = Limits::of("u-18tb1.metal").expect("listed");
    assert_eq!((unknown.trunking, unknown.may_trunk()), (None, true));
}

/// peers §3.2 and §3.3: in prefix mode the larger of AL2's capped number and nodeadm's, as far as the addresses reach.
#[test]
fn prefix_mode_takes_the_larger_of_two_advices() {
    for (name, pods) in [
        ("t3.nano", 34),
        ("m5.xlarge", 110),
        ("m5.4xlarge", 234),
        ("m6i.32xlarge", 737),
        ("p5.48xlarge", 250),
        ("m7g.medium", 98),
    ] {
        assert_eq!(Limits::of(name).map(|l| l.max_pods(true, None)), Some(pods), "{name}");
    }
    assert_eq!(Limits::of("p5.48xlarge").map(|l| l.max_pods(false, None)), Some(100));
    let with_max_eni = |max| Limits::of("m5.4xlarge").map(|l| l.max_pods(true, Some(max)));
    assert_eq!(with_max_eni(1), Some(234), "nodeadm does not know MAX_ENI, and one ENI carries 464");
    assert_eq!(max_pods(8, 8, 30, true, None), 250, "vCPUs that nobody knows");
}

#[test]
fn max_eni_counts_only_within_the_limit() {
    let limits = Limits::of("m5.xlarge").expect("listed");
    for (max, usable) in [(None, 4), (Some(0), 4), (Some(1), 1), (Some(3), 3), (Some(4), 4), (Some(9), 4)] {
        assert_eq!(limits.usable_enis(max), usable, "{max:?}");
    }
}
