use super::*;
use crate::finding::Severity;
use crate::settings::tests::{Vars, complains_about, refusal, settings};

fn targets(vars: Vars<'_>) -> (u32, u32, u32, u32) {
    match settings(vars).warm {
        Warm::Targets { ip, minimum, eni, prefix } => (ip, minimum, eni, prefix),
        Warm::DemandDriven => panic!("{vars:?} is demand-driven"),
    }
}

/// A11: warm targets; a value that is no number or negative becomes the default, loudly.
#[test]
fn warm_targets_parse_as_the_incumbents() {
    for (value, ip) in [("5", 5), ("non-integer-string", 0)] {
        assert_eq!(targets(&[("WARM_IP_TARGET", value)]).0, ip, "{value}");
        assert_eq!(targets(&[("WARM_PREFIX_TARGET", value)]).3, ip, "{value}");
    }
    for (value, minimum) in [("10", 10), ("0", 0), ("-5", 0), ("invalid", 0)] {
        assert_eq!(targets(&[("MINIMUM_IP_TARGET", value)]).1, minimum, "{value}");
    }
    assert_eq!(targets(&[("WARM_IP_TARGET", "2")]), (2, 0, 1, 0), "the others get the incumbent's defaults");
    assert_eq!(targets(&[("WARM_ENI_TARGET", "-1")]).2, 1);
    assert_eq!(targets(&[("WARM_ENI_TARGET", "+3")]).2, 3, "Atoi takes a sign");
    assert_eq!(targets(&[("WARM_ENI_TARGET", "99999999999")]).2, u32::MAX);
    assert_eq!(complains_about(&[("WARM_ENI_TARGET", "-1")], "WARM_ENI_TARGET"), Some(Severity::Error));
    assert_eq!(complains_about(&[("WARM_ENI_TARGET", "2")], "WARM_ENI_TARGET"), None);
}

/// Design D7: any of the four set to anything switches to the incumbent's meaning; empty is not set.
#[test]
fn one_warm_variable_switches_demand_driven_off() {
    for name in ["WARM_ENI_TARGET", "WARM_IP_TARGET", "MINIMUM_IP_TARGET", "WARM_PREFIX_TARGET"] {
        for value in ["0", "1", "junk"] {
            assert!(matches!(settings(&[(name, value)]).warm, Warm::Targets { .. }), "{name}={value}");
        }
        assert_eq!(settings(&[(name, "")]).warm, Warm::DemandDriven, "{name} empty");
    }
}

/// §1.2 WARM_PREFIX_TARGET: the incumbent exits where all three are 0 or not set.
#[test]
fn prefix_mode_without_any_target_exits_as_the_incumbent() {
    const PD: (&str, &str) = ("ENABLE_PREFIX_DELEGATION", "true");
    let exits = Some((1, vec!["WARM_PREFIX_TARGET".to_owned()]));
    assert_eq!(refusal(&[PD, ("WARM_ENI_TARGET", "1")]), exits);
    assert_eq!(refusal(&[PD, ("WARM_PREFIX_TARGET", "0")]), exits);
    assert_eq!(refusal(&[PD, ("WARM_IP_TARGET", "-1")]), exits);
    for fine in [&[PD] as Vars<'_>, &[PD, ("WARM_PREFIX_TARGET", "1")], &[PD, ("WARM_IP_TARGET", "+5")]] {
        assert_eq!(refusal(fine), None, "{fine:?}");
    }
    assert_eq!(refusal(&[PD, ("WARM_IP_TARGET", "abc")]), None, "the incumbent compares texts and goes on");
    assert_eq!(refusal(&[("WARM_PREFIX_TARGET", "0")]), None, "without prefixes it does not matter");
}
