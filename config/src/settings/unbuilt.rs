//! What the incumbent can do and podwire cannot yet.
//!
//! *Why* two answers: a feature that is only missed may be missed with a warning, but security, address family and
//! network card are promises. A daemon that quietly broke one would let pods run unprotected or on the wrong network;
//! so those are refused before anything on the node is changed (design D24).

use crate::finding::{MistakeKind, Severity};
use crate::knob::{Kind, Knob};
use crate::reader::Reader;
use crate::settings::eni::ENABLE_PREFIX_DELEGATION;

/// `ENABLE_IPv4`. *Why* no default: when it is not set it is what `ENABLE_IPv6` is not. The incumbent's own default
/// (false) makes it exit unless one of the two is set; all its manifests set this one.
pub const ENABLE_IPV4: Knob = Knob::lenient("ENABLE_IPv4", "", Kind::Flag, "pods get IPv4 addresses");
/// `ENABLE_IPv6`.
pub const ENABLE_IPV6: Knob = Knob::lenient("ENABLE_IPv6", "false", Kind::Flag, "pods get IPv6 addresses");
/// `ENABLE_POD_ENI`.
pub const ENABLE_POD_ENI: Knob =
    Knob::lenient("ENABLE_POD_ENI", "false", Kind::Flag, "security groups for pods on branch ENIs");
/// `POD_SECURITY_GROUP_ENFORCING_MODE`.
pub const POD_SECURITY_GROUP_ENFORCING_MODE: Knob = Knob::lenient(
    "POD_SECURITY_GROUP_ENFORCING_MODE",
    "strict",
    Kind::Text,
    "how traffic of pods on branch ENIs is steered; counts only with ENABLE_POD_ENI",
);
/// `AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`.
pub const CUSTOM_NETWORK_CFG: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
    "false",
    Kind::Flag,
    "pods' subnets and security groups from ENIConfig objects",
);
/// `ENABLE_MULTI_NIC`.
pub const ENABLE_MULTI_NIC: Knob =
    Knob::lenient("ENABLE_MULTI_NIC", "false", Kind::Flag, "network cards above 0 carry pods too");
/// `ENABLE_V6_EGRESS`.
pub const ENABLE_V6_EGRESS: Knob =
    Knob::lenient("ENABLE_V6_EGRESS", "false", Kind::Flag, "IPv4 pods reach IPv6 destinations");
/// `DISABLE_POD_V6`.
pub const DISABLE_POD_V6: Knob =
    Knob::lenient("DISABLE_POD_V6", "false", Kind::Flag, "IPv6 is switched off inside pods");
/// `NETWORK_POLICY_ENFORCING_MODE`.
pub const NETWORK_POLICY_ENFORCING_MODE: Knob = Knob::exiting(
    "NETWORK_POLICY_ENFORCING_MODE",
    "",
    Kind::Word { words: &["none", "standard", "strict"], any_case: true },
    "how the network policy agent treats pods it has no policy for yet",
);
/// `ANNOTATE_POD_IP`.
pub const ANNOTATE_POD_IP: Knob =
    Knob::lenient("ANNOTATE_POD_IP", "false", Kind::Flag, "pods are annotated with their address");
/// `ENABLE_BANDWIDTH_PLUGIN`.
pub const ENABLE_BANDWIDTH_PLUGIN: Knob =
    Knob::lenient("ENABLE_BANDWIDTH_PLUGIN", "false", Kind::Flag, "the bandwidth plugin is chained");
/// `AWS_MANAGE_ENIS_NON_SCHEDULABLE`.
pub const MANAGE_ENIS_NON_SCHEDULABLE: Knob = Knob::lenient(
    "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
    "false",
    Kind::Flag,
    "ENIs are managed while the node is cordoned too; podwire always does",
);
/// `AWS_VPC_K8S_CNI_CONNMARK`.
pub const CONNMARK: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_CONNMARK",
    "",
    Kind::Text,
    "the incumbent's packet mark; podwire uses the bits 0x7f, 0x80 and 0x1000 and leaves all others alone",
);
/// `AWS_CA_BUNDLE`. The AWS SDK for Go's, and so the incumbent's; ours in Rust does not read it.
pub const AWS_CA_BUNDLE: Knob = Knob::lenient(
    "AWS_CA_BUNDLE",
    "",
    Kind::Text,
    "file with the certificates to trust in place of the system's; SSL_CERT_FILE does that here",
);
/// `DISABLE_METRICS`.
pub const DISABLE_METRICS: Knob = Knob::lenient("DISABLE_METRICS", "false", Kind::Flag, "serve no metrics");
/// `DISABLE_INTROSPECTION`.
pub const DISABLE_INTROSPECTION: Knob =
    Knob::lenient("DISABLE_INTROSPECTION", "false", Kind::Flag, "serve no introspection");
/// `INTROSPECTION_BIND_ADDRESS`.
pub const INTROSPECTION_BIND_ADDRESS: Knob =
    Knob::lenient("INTROSPECTION_BIND_ADDRESS", "", Kind::Text, "where the daemon tells about itself");
/// `DISABLE_TCP_EARLY_DEMUX`. Its init container's, with the incumbent.
pub const DISABLE_TCP_EARLY_DEMUX: Knob = Knob::lenient(
    "DISABLE_TCP_EARLY_DEMUX",
    "false",
    Kind::Flag,
    "the kernel looks up no socket before routing, as kubelet's probes of pods on branch ENIs need",
);
/// `AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER`.
pub const CONFIGURE_RPFILTER: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER",
    "",
    Kind::Text,
    "once: loose reverse path filtering on eth0; without effect in the incumbent since v1.12.1",
);

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[
    &ENABLE_IPV4,
    &ENABLE_IPV6,
    &ENABLE_POD_ENI,
    &POD_SECURITY_GROUP_ENFORCING_MODE,
    &CUSTOM_NETWORK_CFG,
    &ENABLE_MULTI_NIC,
    &ENABLE_V6_EGRESS,
    &DISABLE_POD_V6,
    &NETWORK_POLICY_ENFORCING_MODE,
    &ANNOTATE_POD_IP,
    &ENABLE_BANDWIDTH_PLUGIN,
    &MANAGE_ENIS_NON_SCHEDULABLE,
    &CONNMARK,
    &AWS_CA_BUNDLE,
    &DISABLE_METRICS,
    &DISABLE_INTROSPECTION,
    &INTROSPECTION_BIND_ADDRESS,
    &DISABLE_TCP_EARLY_DEMUX,
    &CONFIGURE_RPFILTER,
];

/// Flags that are promises: knob, what is missing.
const REFUSED: [(&Knob, &str); 5] = [
    (&ENABLE_POD_ENI, "security groups for pods are not supported yet: pods would run without theirs"),
    (
        &CUSTOM_NETWORK_CFG,
        "custom networking is not supported yet: pods would get addresses of the node's subnet",
    ),
    (&ENABLE_MULTI_NIC, "network cards above 0 are not supported yet"),
    (&ENABLE_V6_EGRESS, "IPv6 egress is not supported yet"),
    (&DISABLE_POD_V6, "switching IPv6 off inside pods is not supported yet"),
];

/// Reads what is not built: refuses promises, warns about the rest.
pub(crate) fn read(reader: &mut Reader<'_>) {
    address_family(reader);
    for (knob, missing) in REFUSED {
        if reader.flag(knob) {
            let fix = format!("remove it, or keep aws-node on these nodes ({})", knob.doc);
            reader.refuse(MistakeKind::Refused, knob, missing.to_owned(), &fix);
        }
    }
    pod_security_groups(reader);
    network_policy(reader);
    only_missed(reader);
    unserved(reader);
    left_to_the_kernel(reader);
}

/// Exactly one family; IPv6 needs prefixes and no custom networking (incumbent-testcases C05).
fn address_family(reader: &mut Reader<'_>) {
    let v6 = reader.flag(&ENABLE_IPV6);
    let v4_said = reader.flag(&ENABLE_IPV4);
    let v4 = if reader.is_given(&ENABLE_IPV4) { v4_said } else { !v6 };
    let invalid = match (v4, v6) {
        (true, true) => Some("IPv4 and IPv6 are both on"),
        (false, false) => Some("IPv4 and IPv6 are both off"),
        (false, true) if !reader.flag(&ENABLE_PREFIX_DELEGATION) => {
            Some("IPv6 is on without ENABLE_PREFIX_DELEGATION")
        }
        (false, true) if reader.flag(&CUSTOM_NETWORK_CFG) => Some("IPv6 is on with custom networking"),
        (false, true) | (true, false) => None,
    };
    if let Some(what) = invalid {
        let fix = "set ENABLE_IPv4=true and ENABLE_IPv6=false";
        reader.refuse(MistakeKind::Invalid, &ENABLE_IPV6, what.to_owned(), fix);
    }
    if v6 {
        reader.refuse(
            MistakeKind::Refused,
            &ENABLE_IPV6,
            "IPv6 pods are not supported yet".to_owned(),
            "set it to false, or keep aws-node on these nodes",
        );
    }
}

fn pod_security_groups(reader: &mut Reader<'_>) {
    if !reader.flag(&ENABLE_POD_ENI) {
        return;
    }
    let mode = reader.text(&POD_SECURITY_GROUP_ENFORCING_MODE).unwrap_or_default();
    if !["strict", "standard"].contains(&mode.as_str()) {
        let what = format!("{mode:?} is none of strict, standard");
        reader.refuse(MistakeKind::Invalid, &POD_SECURITY_GROUP_ENFORCING_MODE, what, "correct or remove it");
    }
}

fn network_policy(reader: &mut Reader<'_>) {
    match reader.word(&NETWORK_POLICY_ENFORCING_MODE) {
        "strict" => reader.refuse(
            MistakeKind::Refused,
            &NETWORK_POLICY_ENFORCING_MODE,
            "strict network policy is not supported yet: pods would run without it".to_owned(),
            "remove it, or keep aws-node on these nodes",
        ),
        "standard" => reader.find(
            Severity::Warn,
            &NETWORK_POLICY_ENFORCING_MODE,
            "network policies are not enforced yet; traffic is allowed as if there were none".to_owned(),
            "rely on security groups, or keep aws-node where policies matter",
        ),
        _ => {}
    }
}

fn only_missed(reader: &mut Reader<'_>) {
    for (knob, missing) in [
        (&ANNOTATE_POD_IP, "pods are not annotated with their address yet"),
        (&ENABLE_BANDWIDTH_PLUGIN, "the bandwidth plugin is not chained yet: pods' bandwidth is not limited"),
    ] {
        if reader.flag(knob) {
            reader.find(Severity::Warn, knob, missing.to_owned(), "remove it, or do without");
        }
    }
    if reader.text(&AWS_CA_BUNDLE).is_some() {
        let what = "it is not read: endpoints must have a certificate of the system's authorities".to_owned();
        reader.find(Severity::Warn, &AWS_CA_BUNDLE, what, "set SSL_CERT_FILE to the same file");
    }
    reader.flag(&MANAGE_ENIS_NON_SCHEDULABLE);
}

/// What the incumbent tells about itself on two ports. Who set nothing gets no word; its manifest sets both flags.
fn unserved(reader: &mut Reader<'_>) {
    for (knob, missing) in [
        (&DISABLE_METRICS, "metrics are not served yet"),
        (&DISABLE_INTROSPECTION, "introspection is not served yet"),
    ] {
        if !reader.flag(knob) && reader.is_given(knob) {
            reader.find(Severity::Warn, knob, missing.to_owned(), "do without, or ask `podwire status`");
        }
    }
    if reader.text(&INTROSPECTION_BIND_ADDRESS).is_some() {
        let what = "it has no effect: introspection is not served yet".to_owned();
        reader.find(Severity::Warn, &INTROSPECTION_BIND_ADDRESS, what, "remove it");
    }
}

fn left_to_the_kernel(reader: &mut Reader<'_>) {
    if reader.text(&CONNMARK).is_some_and(|mark| !is_incumbents_mark(&mark)) {
        let what = "it has no effect: podwire uses the mark bits 0x7f, 0x80 and 0x1000".to_owned();
        reader.find(Severity::Warn, &CONNMARK, what, "remove it, and let nothing else use those bits");
    }
    if reader.flag(&DISABLE_TCP_EARLY_DEMUX) {
        let what = "net.ipv4.tcp_early_demux stays as it is; only pods on branch ENIs need it off".to_owned();
        reader.find(Severity::Info, &DISABLE_TCP_EARLY_DEMUX, what, "remove it");
    }
    if reader.text(&CONFIGURE_RPFILTER).is_some() {
        let what = "it has no effect: reverse path filtering is loose on every ENI".to_owned();
        reader.find(Severity::Info, &CONFIGURE_RPFILTER, what, "remove it");
    }
}

/// The incumbent's default, in hexadecimal or decimal. *Source*: incumbent-behaviour §1.2, `AWS_VPC_K8S_CNI_CONNMARK`.
fn is_incumbents_mark(text: &str) -> bool {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let mark = digits.map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16));
    mark == Ok(0x80)
}

#[cfg(test)]
mod tests;
