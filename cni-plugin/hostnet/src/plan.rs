//! What the kernel should hold: pure data, computed from settings and ENIs, compared and applied elsewhere.

pub(crate) mod intervals;
pub(crate) mod pod;
pub(crate) mod routing;
pub(crate) mod ruleset;

use crate::numbers::EniSlot;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr};

/// How the source port is chosen under SNAT. *Source*: incumbent-behaviour §1.2, `AWS_VPC_K8S_CNI_RANDOMIZESNAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RandomSnat {
    /// A fully random port.
    #[default]
    Prng,
    /// A port by hash.
    HashRandom,
    /// The packet's own port where it is free.
    None,
}

/// How pods are found, and how what they send finds its ENI (design D15). Routes to pods are the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// One rule finds all pods; the nft table knows which ENI carries an address.
    #[default]
    Constant,
    /// The incumbent's: a rule or two for each address of a pod. It can serve such pods as they are, and the nft table leads
    /// nothing to an ENI that the rules do not: nothing in it grows old when the incumbent takes over.
    Compat,
}

/// What holds for the whole node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// MAC of the primary ENI.
    pub primary_mac: [u8; 6],
    /// Its primary address; the source under SNAT.
    pub primary_ip: Ipv4Addr,
    /// The VPC's networks: never under SNAT.
    pub vpc_cidrs: Vec<IpNetwork>,
    /// Something outside the node does the SNAT.
    pub external_snat: bool,
    /// Further networks never under SNAT.
    pub exclude_snat_cidrs: Vec<IpNetwork>,
    /// Source ports under SNAT.
    pub random_snat: RandomSnat,
    /// Replies of NodePort connections leave by the ENI they came in by.
    pub node_port_support: bool,
    /// Destinations that `main` leads to, whatever ENI a pod is on.
    pub external_service_cidrs: Vec<IpNetwork>,
    /// What host veth names start with.
    pub veth_prefix: String,
    /// MTU of the ENIs.
    pub eni_mtu: u32,
    /// How pods are found and find their way.
    pub layout: Layout,
}

impl NodeConfig {
    /// Whether connections are sent to the primary ENI by mark bit 0x80. *Source*: incumbent-behaviour §4.4, matrix.
    pub(crate) fn uses_primary_mark(&self) -> bool {
        self.node_port_support || !self.external_snat
    }
}

/// One ENI that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniConfig {
    /// Where it sits.
    pub slot: EniSlot,
    /// How its device is found.
    pub mac: [u8; 6],
    /// Its primary address.
    pub primary: IpAddr,
    /// Its subnet.
    pub subnet: IpNetwork,
    /// Its MTU.
    pub mtu: u32,
    /// Addresses and prefixes that EC2 has assigned to it for pods.
    pub sources: Vec<IpNetwork>,
}
