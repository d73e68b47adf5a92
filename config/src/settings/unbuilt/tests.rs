use crate::finding::{MistakeKind, Severity};
use crate::settings::tests::{complains_about, parse, refusal};

/// C05 (Nitro): validity by address family; what is valid there and not built here is refused with 2.
#[test]
fn address_family_is_judged_as_the_incumbent_does() {
    let judge = |v4: &str, v6: &str, pd: &str, pod_eni: &str, custom: &str| {
        let mistakes = parse(&[
            ("ENABLE_IPv4", v4),
            ("ENABLE_IPv6", v6),
            ("ENABLE_PREFIX_DELEGATION", pd),
            ("ENABLE_POD_ENI", pod_eni),
            ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", custom),
        ])
        .err();
        let kinds: Vec<MistakeKind> =
            mistakes.map(|m| m.mistakes.iter().map(|m| m.kind).collect()).unwrap_or_default();
        (!kinds.contains(&MistakeKind::Invalid), kinds.contains(&MistakeKind::Refused))
    };
    for (v4, v6, pd, pod_eni, custom, valid, refused) in [
        ("true", "false", "false", "false", "false", true, false),
        ("true", "false", "true", "false", "false", true, false),
        ("false", "true", "true", "false", "false", true, true),
        ("false", "true", "false", "false", "false", false, true),
        ("true", "true", "false", "false", "false", false, true),
        ("false", "true", "true", "true", "false", true, true),
        ("true", "false", "true", "true", "false", true, true),
        ("false", "true", "true", "false", "true", false, true),
        ("false", "false", "false", "false", "false", false, false),
        ("", "false", "false", "false", "false", true, false),
    ] {
        let row = (v4, v6, pd, pod_eni, custom);
        assert_eq!(judge(v4, v6, pd, pod_eni, custom), (valid, refused), "{row:?}");
    }
}

/// Design D24: promises are refused before anything is changed; `standard` only warns; invalid words exit with 1.
#[test]
fn promises_are_refused_and_the_rest_only_warned_about() {
    for name in [
        "ENABLE_POD_ENI",
        "ENABLE_IPv6",
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
        "ENABLE_MULTI_NIC",
        "ENABLE_V6_EGRESS",
        "DISABLE_POD_V6",
    ] {
        let mistakes = parse(&[(name, "true")]).expect_err(name);
        assert_eq!(mistakes.exit_code(), 2, "{name}");
        assert!(
            mistakes.mistakes.iter().any(|m| m.kind == MistakeKind::Refused && m.variable == name),
            "{name}"
        );
        assert_eq!(refusal(&[(name, "false")]), None, "{name}");
    }
    const POLICY: &str = "NETWORK_POLICY_ENFORCING_MODE";
    assert_eq!(refusal(&[(POLICY, "Strict")]).map(|r| r.0), Some(2));
    assert_eq!(refusal(&[(POLICY, "lenient")]).map(|r| r.0), Some(1));
    assert_eq!(complains_about(&[(POLICY, "standard")], POLICY), Some(Severity::Warn));
    assert_eq!(complains_about(&[(POLICY, "none")], POLICY), None);
    assert_eq!(complains_about(&[("ANNOTATE_POD_IP", "true")], "ANNOTATE_POD_IP"), Some(Severity::Warn));
    let mode = ("POD_SECURITY_GROUP_ENFORCING_MODE", "lenient");
    assert_eq!(refusal(&[mode]), None, "it counts only with ENABLE_POD_ENI");
}

/// What is set and does nothing is told; what is as it was asked for is not.
#[test]
fn settings_without_effect_are_told() {
    for (name, value, told) in [
        ("DISABLE_METRICS", "false", Some(Severity::Warn)),
        ("DISABLE_METRICS", "true", None),
        ("DISABLE_INTROSPECTION", "false", Some(Severity::Warn)),
        ("DISABLE_INTROSPECTION", "true", None),
        ("INTROSPECTION_BIND_ADDRESS", "127.0.0.1:61679", Some(Severity::Warn)),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x80", None),
        ("AWS_VPC_K8S_CNI_CONNMARK", "128", None),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100", Some(Severity::Warn)),
        ("AWS_VPC_K8S_CNI_CONNMARK", "many", Some(Severity::Warn)),
        ("AWS_CA_BUNDLE", "/etc/corp.pem", Some(Severity::Warn)),
        ("DISABLE_TCP_EARLY_DEMUX", "true", Some(Severity::Info)),
        ("DISABLE_TCP_EARLY_DEMUX", "false", None),
        ("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER", "false", Some(Severity::Info)),
    ] {
        assert_eq!(complains_about(&[(name, value)], name), told, "{name}={value}");
    }
}
