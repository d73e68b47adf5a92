//! Contradictions between settings: each is legal, together they do not do what they suggest.

use std::time::Duration;

use crate::finding::{Finding, Severity};
use crate::knob::Knob;
use crate::limits::Limits;
use crate::reader::Reader;
use crate::settings::{Settings, Warm, eni, network, warm};

/// Shorter cooling risks that a packet for the old pod reaches the new one. *Source*: our choice, design §7.
const SHORT_COOLING: Duration = Duration::from_secs(5);

/// Findings that need the settings alone.
pub(crate) fn contradictions(settings: &Settings, reader: &mut Reader<'_>) {
    warm_targets(settings, reader);
    mtu(settings, reader);
    snat(settings, reader);
    if settings.eni.cooldown < SHORT_COOLING {
        reader.find(
            Severity::Warn,
            &eni::IP_COOLDOWN_PERIOD,
            format!("addresses rest only {} s before their next pod", settings.eni.cooldown.as_secs()),
            "use 5 or more: kube-proxy and DNS need time to forget the old pod",
        );
    }
    if settings.network.veth_prefix != network::VETH_PREFIX.default {
        reader.find(
            Severity::Warn,
            &network::VETH_PREFIX,
            "the network policy agent looks for devices named eni… and vlan… only".to_owned(),
            "keep eni where it runs",
        );
    }
}

/// Findings that need the instance's limits too; for the daemon, once it knows its instance type.
#[must_use]
pub fn against_limits(settings: &Settings, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, knob: &Knob, what: String, fix: &str| {
        findings.push(Finding { severity, variable: knob.name, what, fix: fix.to_owned() });
    };
    let prefixes = effective_prefixes(settings, limits);
    if settings.eni.prefix_delegation && !prefixes {
        find(
            Severity::Warn,
            &eni::ENABLE_PREFIX_DELEGATION,
            "this instance takes no prefixes (it is neither Nitro nor bare metal): single addresses are used"
                .to_owned(),
            "use another instance type, or remove it",
        );
    }
    if let Some(max) = settings.eni.max_eni.filter(|&max| max > limits.enis_default_card) {
        let what = format!("{max} is more than the {} ENIs this instance takes", limits.enis_default_card);
        find(Severity::Info, &eni::MAX_ENI, what, "remove it");
    }
    let enis = limits.usable_enis(settings.eni.max_eni);
    let capacity = enis.saturating_mul(limits.addresses_per_eni(prefixes));
    if let Warm::Targets { ip, minimum, .. } = settings.warm {
        for (knob, wanted) in [(&warm::MINIMUM_IP_TARGET, minimum), (&warm::WARM_IP_TARGET, ip)] {
            if wanted > capacity {
                let what = format!("{wanted} is more than the {capacity} pod addresses this node can hold");
                find(Severity::Warn, knob, what, "lower it");
            }
        }
    }
    if let Some(pods) =
        settings.eni.max_pods.filter(|&pods| pods > limits.max_pods(prefixes, settings.eni.max_eni))
    {
        let what = format!(
            "{pods} pods are more than the {} AWS advises for this instance and mode",
            limits.max_pods(prefixes, settings.eni.max_eni)
        );
        find(Severity::Info, &eni::PODWIRE_MAX_PODS, what, "check kubelet's --max-pods");
    }
    findings
}

/// Whether prefixes are used on this instance: wished for, and taken by it. *Source*: the incumbent falls back to
/// single addresses quietly (incumbent-testcases C05).
#[must_use]
pub fn effective_prefixes(settings: &Settings, limits: &Limits) -> bool {
    settings.eni.prefix_delegation && limits.prefix_ok
}

fn warm_targets(settings: &Settings, reader: &mut Reader<'_>) {
    let Warm::Targets { ip, minimum, eni, prefix } = settings.warm else { return };
    let by_addresses = ip != 0 || minimum != 0;
    let prefixes = settings.eni.prefix_delegation;
    if by_addresses && reader.is_given(&warm::WARM_ENI_TARGET) && eni != 0 {
        ignored(reader, &warm::WARM_ENI_TARGET, "WARM_IP_TARGET or MINIMUM_IP_TARGET is set");
    } else if prefixes && reader.is_given(&warm::WARM_ENI_TARGET) && eni != 0 {
        ignored(reader, &warm::WARM_ENI_TARGET, "ENABLE_PREFIX_DELEGATION is on");
    }
    if prefix != 0 {
        if !prefixes {
            ignored(reader, &warm::WARM_PREFIX_TARGET, "ENABLE_PREFIX_DELEGATION is off");
        } else if by_addresses {
            ignored(reader, &warm::WARM_PREFIX_TARGET, "WARM_IP_TARGET or MINIMUM_IP_TARGET is set");
        }
    }
    if ip != 0 && minimum == 0 && !prefixes {
        reader.find(
            Severity::Info,
            &warm::WARM_IP_TARGET,
            "without MINIMUM_IP_TARGET nearly every pod start and stop is an EC2 call".to_owned(),
            "set MINIMUM_IP_TARGET to the usual number of pods, or remove both and let demand decide",
        );
    }
}

fn ignored(reader: &mut Reader<'_>, knob: &'static Knob, because: &str) {
    reader.find(Severity::Warn, knob, format!("it has no effect because {because}"), "remove one of them");
}

fn mtu(settings: &Settings, reader: &mut Reader<'_>) {
    let (pod, eni) = (settings.network.pod_mtu, settings.network.eni_mtu);
    if pod > eni {
        reader.find(
            Severity::Warn,
            &network::POD_MTU,
            format!("pods' MTU {pod} is larger than the ENIs' {eni}: packets are split or dropped"),
            "make it at most AWS_VPC_ENI_MTU",
        );
    }
}

fn snat(settings: &Settings, reader: &mut Reader<'_>) {
    if !settings.network.external_snat {
        return;
    }
    for knob in [&network::EXCLUDE_SNAT_CIDRS, &network::RANDOMIZE_SNAT] {
        let default = reader.raw(knob).is_some_and(|text| text == knob.default);
        if reader.is_given(knob) && !default {
            ignored(reader, knob, "AWS_VPC_K8S_CNI_EXTERNALSNAT is true");
        }
    }
}

#[cfg(test)]
mod tests;
