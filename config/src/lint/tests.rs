use std::collections::BTreeMap;

use super::*;

fn settings(vars: &[(&str, &str)]) -> (Settings, Vec<&'static str>) {
    let parsed = Settings::parse(&vars.iter().copied().collect::<BTreeMap<_, _>>())
        .unwrap_or_else(|mistakes| panic!("{vars:?}: {mistakes}"));
    (parsed.settings, parsed.findings.iter().map(|finding| finding.variable).collect())
}

#[test]
fn warm_settings_without_effect_are_told() {
    for (vars, found) in [
        (&[("WARM_IP_TARGET", "5"), ("MINIMUM_IP_TARGET", "9")] as &[_], &[] as &[&str]),
        (
            &[("WARM_IP_TARGET", "5"), ("MINIMUM_IP_TARGET", "9"), ("WARM_ENI_TARGET", "1")],
            &["WARM_ENI_TARGET"],
        ),
        (&[("WARM_IP_TARGET", "5"), ("MINIMUM_IP_TARGET", "9"), ("WARM_ENI_TARGET", "0")], &[]),
        (&[("WARM_IP_TARGET", "5")], &["WARM_IP_TARGET"]),
        (&[("WARM_PREFIX_TARGET", "1")], &["WARM_PREFIX_TARGET"]),
        (&[("WARM_PREFIX_TARGET", "1"), ("ENABLE_PREFIX_DELEGATION", "true")], &[]),
        (
            &[("WARM_PREFIX_TARGET", "1"), ("WARM_ENI_TARGET", "1"), ("ENABLE_PREFIX_DELEGATION", "true")],
            &["WARM_ENI_TARGET"],
        ),
        (
            &[("WARM_PREFIX_TARGET", "1"), ("MINIMUM_IP_TARGET", "4"), ("ENABLE_PREFIX_DELEGATION", "true")],
            &["WARM_PREFIX_TARGET"],
        ),
    ] {
        assert_eq!(settings(vars).1, found, "{vars:?}");
    }
}

#[test]
fn network_contradictions_are_told() {
    for (vars, found) in [
        (&[("POD_MTU", "9001"), ("AWS_VPC_ENI_MTU", "1500")] as &[_], &["POD_MTU"] as &[&str]),
        (&[("POD_MTU", "1500")], &[]),
        (&[("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true"), ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng")], &[]),
        (
            &[("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true"), ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none")],
            &["AWS_VPC_K8S_CNI_RANDOMIZESNAT"],
        ),
        (&[("AWS_VPC_K8S_CNI_VETHPREFIX", "pod")], &["AWS_VPC_K8S_CNI_VETHPREFIX"]),
        (&[("IP_COOLDOWN_PERIOD", "4")], &["IP_COOLDOWN_PERIOD"]),
        (&[("IP_COOLDOWN_PERIOD", "5")], &[]),
    ] {
        assert_eq!(settings(vars).1, found, "{vars:?}");
    }
}

#[test]
fn instance_limits_are_held_against_the_settings() {
    let m5 = Limits::of("m5.large").expect("listed"); // 3 ENIs with 9 slots
    let m4 = Limits::of("m4.4xlarge").expect("listed"); // Xen: no prefixes
    for (limits, vars, found) in [
        (&m5, &[("MAX_ENI", "3"), ("MINIMUM_IP_TARGET", "27")] as &[_], &[] as &[&str]),
        (&m5, &[("MAX_ENI", "4")], &["MAX_ENI"]),
        (&m5, &[("MAX_ENI", "2"), ("MINIMUM_IP_TARGET", "19")], &["MINIMUM_IP_TARGET"]),
        (&m5, &[("WARM_IP_TARGET", "28")], &["WARM_IP_TARGET"]),
        (&m5, &[("ENABLE_PREFIX_DELEGATION", "true")], &[]),
        (&m4, &[("ENABLE_PREFIX_DELEGATION", "true")], &["ENABLE_PREFIX_DELEGATION"]),
        (&m5, &[("PODWIRE_MAX_PODS", "110")], &["PODWIRE_MAX_PODS"]),
        (&m5, &[("PODWIRE_MAX_PODS", "110"), ("ENABLE_PREFIX_DELEGATION", "true")], &[]),
    ] {
        let findings = against_limits(&settings(vars).0, limits);
        let names: Vec<&str> = findings.iter().map(|finding| finding.variable).collect();
        assert_eq!(names, found, "{vars:?}");
    }
    let wish = settings(&[("ENABLE_PREFIX_DELEGATION", "true")]).0;
    assert!(effective_prefixes(&wish, &m5) && !effective_prefixes(&wish, &m4));
}
