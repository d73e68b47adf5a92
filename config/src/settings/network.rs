//! The node's networking and the pods'.

use ipnetwork::Ipv4Network;

use crate::finding::MistakeKind;
use crate::knob::{Kind, Knob};
use crate::reader::Reader;

/// *Source* of the range: IPv4's least MTU (RFC 791 names 576) and EC2's jumbo frames; incumbent-testcases C06.
const MTU: Kind = Kind::Number { min: 576, max: 9_001, unit: "bytes" };

/// `AWS_VPC_ENI_MTU`.
pub const AWS_VPC_ENI_MTU: Knob = Knob::exiting("AWS_VPC_ENI_MTU", "9001", MTU, "MTU of the ENIs");
/// `POD_MTU`.
pub const POD_MTU: Knob = Knob::exiting("POD_MTU", "", MTU, "MTU of the pods; that of the ENIs when not set");
/// `AWS_VPC_K8S_CNI_VETHPREFIX`.
pub const VETH_PREFIX: Knob = Knob::exiting(
    "AWS_VPC_K8S_CNI_VETHPREFIX",
    "eni",
    Kind::Text,
    "start of the names of the pods' host devices, at most 4 characters, not eth, lo or vlan",
);
/// `AWS_VPC_K8S_CNI_EXTERNALSNAT`.
pub const EXTERNAL_SNAT: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_EXTERNALSNAT",
    "false",
    Kind::Flag,
    "something else translates pods' addresses on the way out of the VPC; the node does not",
);
/// `AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`.
pub const EXCLUDE_SNAT_CIDRS: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
    "",
    Kind::Cidrs,
    "destinations outside the VPC that see the pod's own address",
);
/// `AWS_VPC_K8S_CNI_RANDOMIZESNAT`.
pub const RANDOMIZE_SNAT: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
    "prng",
    Kind::Word { words: &["prng", "hashrandom", "none"], any_case: false },
    "how source ports are chosen",
);
/// `AWS_VPC_CNI_NODE_PORT_SUPPORT`.
pub const NODE_PORT_SUPPORT: Knob = Knob::lenient(
    "AWS_VPC_CNI_NODE_PORT_SUPPORT",
    "true",
    Kind::Flag,
    "answers to NodePort connections leave by the ENI they came in on",
);
/// `AWS_EXTERNAL_SERVICE_CIDRS`.
pub const EXTERNAL_SERVICE_CIDRS: Knob = Knob::lenient(
    "AWS_EXTERNAL_SERVICE_CIDRS",
    "",
    Kind::Cidrs,
    "destinations that are always routed by the main table, whatever ENI a pod is on",
);
/// `PODWIRE_LAYOUT`.
pub const PODWIRE_LAYOUT: Knob = Knob::strict(
    "PODWIRE_LAYOUT",
    "constant",
    Kind::Word { words: &["constant", "compat"], any_case: false },
    "constant: as many ip rules for 250 pods as for one; compat: the incumbent's rules for each pod",
);

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[
    &AWS_VPC_ENI_MTU,
    &POD_MTU,
    &VETH_PREFIX,
    &EXTERNAL_SNAT,
    &EXCLUDE_SNAT_CIDRS,
    &RANDOMIZE_SNAT,
    &NODE_PORT_SUPPORT,
    &EXTERNAL_SERVICE_CIDRS,
    &PODWIRE_LAYOUT,
];

/// Room for the prefix in a device name: 15 bytes (IFNAMSIZ, linux/if.h) less the 11 digits of the hash.
const VETH_PREFIX_MAX: usize = 4;

/// How source ports are chosen when the node translates addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RandomizeSnat {
    /// At random (`--random-fully`).
    Prng,
    /// By a seeded hash (`--random`).
    HashRandom,
    /// The kernel's order.
    None,
}

/// How pods' routes and rules are laid out on the host (design D15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// As many ip rules for 250 pods as for one.
    Constant,
    /// The incumbent's rules for each pod.
    Compat,
}

/// The node's networking and the pods'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// MTU of the ENIs. *Unit* bytes, 576..=9001.
    pub eni_mtu: u32,
    /// MTU of the pods. *Unit* bytes, 576..=9001.
    pub pod_mtu: u32,
    /// Start of the names of host devices, 1 to 4 bytes.
    pub veth_prefix: String,
    /// The node translates no addresses.
    pub external_snat: bool,
    /// Destinations that see the pod's own address; empty when `external_snat`.
    pub exclude_snat_cidrs: Vec<Ipv4Network>,
    /// How source ports are chosen.
    pub randomize_snat: RandomizeSnat,
    /// Answers to NodePort connections leave by the ENI they came in on.
    pub node_port_support: bool,
    /// Destinations routed by the main table.
    pub external_service_cidrs: Vec<Ipv4Network>,
    /// How routes and rules are laid out.
    pub layout: Layout,
}

impl Network {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let eni_mtu = reader.count(&AWS_VPC_ENI_MTU);
        let external_snat = reader.flag(&EXTERNAL_SNAT);
        let exclude = reader.cidrs(&EXCLUDE_SNAT_CIDRS);
        Self {
            eni_mtu,
            pod_mtu: Some(reader.count(&POD_MTU)).filter(|&mtu| mtu > 0).unwrap_or(eni_mtu),
            veth_prefix: veth_prefix(reader),
            external_snat,
            exclude_snat_cidrs: if external_snat { Vec::new() } else { exclude },
            randomize_snat: match reader.word(&RANDOMIZE_SNAT) {
                "hashrandom" => RandomizeSnat::HashRandom,
                "none" => RandomizeSnat::None,
                _ => RandomizeSnat::Prng,
            },
            node_port_support: reader.flag(&NODE_PORT_SUPPORT),
            external_service_cidrs: reader.cidrs(&EXTERNAL_SERVICE_CIDRS),
            layout: layout(reader),
        }
    }
}

fn veth_prefix(reader: &mut Reader<'_>) -> String {
    let prefix = reader.text(&VETH_PREFIX).unwrap_or_default();
    let problem = if prefix.len() > VETH_PREFIX_MAX {
        Some("is longer than 4 characters")
    } else if ["eth", "lo", "vlan"].contains(&prefix.as_str()) {
        Some("is taken by other devices")
    } else if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte)) {
        // Beyond the incumbent, which lets every ADD fail in the kernel instead (dev_valid_name, net/core/dev.c).
        Some("holds characters no device name may have")
    } else {
        None
    };
    if let Some(problem) = problem {
        reader.refuse(
            MistakeKind::Invalid,
            &VETH_PREFIX,
            format!("{prefix:?} {problem}"),
            "use up to 4 letters, for example eni",
        );
    }
    prefix
}

fn layout(reader: &mut Reader<'_>) -> Layout {
    match reader.word(&PODWIRE_LAYOUT) {
        "compat" => Layout::Compat,
        _ => Layout::Constant,
    }
}
