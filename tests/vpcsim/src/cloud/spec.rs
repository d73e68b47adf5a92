//! What a cloud is made of, as its user writes it: the VPC, its subnets and groups, and the instances to run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::delay::Delay;

/// Tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// A VPC in one account and one Region. Every field has a default; unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudSpec {
    /// Region, for example `us-west-2`. Requests signed for another are refused.
    pub region: String,
    /// Account number, twelve digits.
    pub account: String,
    /// Decides every random choice: ids, MAC addresses, addresses, delays.
    pub seed: u64,
    /// The VPC's id; `None`: a made one.
    pub vpc_id: Option<String>,
    /// The VPC's IPv4 CIDRs, the main one first.
    pub vpc_cidrs: Vec<Ipv4Network>,
    /// The VPC's IPv6 CIDRs.
    pub vpc_ipv6_cidrs: Vec<Ipv6Network>,
    /// The VPC's tags.
    pub vpc_tags: Tags,
    /// Its subnets.
    pub subnets: Vec<SubnetSpec>,
    /// Security groups beside the default one, which always exists: everything from itself, everything out.
    pub groups: Vec<GroupSpec>,
    /// How long changes of state take.
    pub timings: Timings,
    /// Quotas of the account.
    pub quotas: Quotas,
    /// Which of a subnet's free addresses EC2 picks.
    pub placement: Placement,
    /// Access keys of outside callers that are let in; empty: every one.
    pub access_keys: Vec<String>,
    /// Actions that the instances' role may call, with or without `ec2:`; trouble can only take from them.
    pub role_actions: Vec<String>,
}

/// What the AWS-managed policy AmazonEKS_CNI_Policy allows. Source: AWS Managed Policy Reference Guide,
/// "AmazonEKS_CNI_Policy", version 5 of 2024-03-04, checked 2026-11-27.
pub const EKS_CNI_POLICY: [&str; 13] = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:AttachNetworkInterface",
    "ec2:CreateNetworkInterface",
    "ec2:CreateTags",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DetachNetworkInterface",
    "ec2:ModifyNetworkInterfaceAttribute",
    "ec2:UnassignPrivateIpAddresses",
];

impl Default for CloudSpec {
    fn default() -> Self {
        Self {
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
            seed: 1,
            vpc_id: None,
            vpc_cidrs: vec![network4([10, 0, 0, 0], 16)],
            vpc_ipv6_cidrs: Vec::new(),
            vpc_tags: Tags::new(),
            subnets: Vec::new(),
            groups: Vec::new(),
            timings: Timings::default(),
            quotas: Quotas::default(),
            placement: Placement::default(),
            access_keys: Vec::new(),
            role_actions: EKS_CNI_POLICY.map(str::to_owned).to_vec(),
        }
    }
}

fn network4(address: [u8; 4], prefix: u8) -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::from(address), prefix).expect("constant prefix length is at most 32")
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubnetSpec {
    /// Id; `None`: a made one.
    pub id: Option<String>,
    /// IPv4 CIDR, /16 to /28, within the VPC's.
    pub cidr: Ipv4Network,
    /// IPv6 CIDR, /64.
    pub ipv6_cidr: Option<Ipv6Network>,
    /// Availability zone, for example `us-west-2a`.
    pub az: String,
    /// CIDR reservations.
    pub reservations: Vec<ReservationSpec>,
    /// Tags.
    pub tags: Tags,
}

impl Default for SubnetSpec {
    fn default() -> Self {
        Self {
            id: None,
            cidr: network4([10, 0, 0, 0], 24),
            ipv6_cidr: None,
            az: "us-west-2a".to_owned(),
            reservations: Vec::new(),
            tags: Tags::new(),
        }
    }
}

/// A part of a subnet that EC2 does not hand out freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationSpec {
    /// The range, IPv4 or IPv6.
    pub cidr: IpNetwork,
    /// What may be taken from it.
    pub kind: ReservationKind,
}

/// Kind of a CIDR reservation.
///
/// Source: Amazon VPC User Guide, "Subnet CIDR reservations".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationKind {
    /// EC2 takes prefixes from here, and from here first; never single addresses.
    Prefix,
    /// Only what a caller names explicitly.
    Explicit,
}

/// Which free address or prefix is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Anywhere, as EC2 does; this is what fragments subnets.
    #[default]
    Scattered,
    /// The lowest free, for outputs that people read.
    Lowest,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSpec {
    /// Id; `None`: a made one.
    pub id: Option<String>,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// What may come in. Everything may go out.
    pub ingress: Vec<IngressSpec>,
    /// Tags.
    pub tags: Tags,
}

/// One ingress rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressSpec {
    /// IP protocol number; absent: every protocol.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// First and last port; absent: all.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
    /// From whom.
    pub from: IngressPeer,
}

/// The other side of an ingress rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngressPeer {
    /// An address range.
    Cidr(IpNetwork),
    /// Members of a group: its id or its name.
    Group(String),
}

/// How long changes of state take after the call that begins them has answered.
///
/// Defaults are near what is seen in EC2 (attach 2–10 s); [`Timings::instant`] is for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// A new interface: `pending` → `available`.
    pub available: Delay,
    /// `attaching` → `attached`; the device appears at the end of it.
    pub attach: Delay,
    /// `detaching` → gone; the device vanishes at the end of it.
    pub detach: Delay,
    /// A newly assigned address is delivered.
    pub route: Delay,
    /// `shutting-down` → `terminated`.
    pub terminate: Delay,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            available: Delay::LogNormal { p50_ms: 300, p99_ms: 1500 },
            attach: Delay::LogNormal { p50_ms: 3000, p99_ms: 10_000 },
            detach: Delay::LogNormal { p50_ms: 2000, p99_ms: 6000 },
            route: Delay::NONE,
            terminate: Delay::LogNormal { p50_ms: 5000, p99_ms: 20_000 },
        }
    }
}

impl Timings {
    /// Everything at the next tick.
    #[must_use]
    pub const fn instant() -> Self {
        let none = Delay::NONE;
        Self { available: none, attach: none, detach: none, route: none, terminate: none }
    }
}

/// Quotas of an account in a Region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Network interfaces per Region.
    pub network_interfaces: usize,
    /// Network address usage units per VPC: each address, each interface beyond its instance's first and each prefix
    /// counts one.
    pub network_address_usage: usize,
    /// Tags per resource.
    pub tags_per_resource: usize,
    /// Security groups per network interface.
    pub groups_per_interface: usize,
}

impl Default for Quotas {
    /// Source: Amazon VPC User Guide, "Amazon VPC quotas" (L-DF5E4CA3 5,000; L-BB24F6E5 64,000; L-2AFB9258 5) and
    /// EC2 User Guide, "Tag restrictions" (50).
    fn default() -> Self {
        Self {
            network_interfaces: 5000,
            network_address_usage: 64_000,
            tags_per_resource: 50,
            groups_per_interface: 5,
        }
    }
}

/// An instance to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceSpec {
    /// Id; `None`: a made one.
    pub id: Option<String>,
    /// Type, for example `m5.large`: decides the limits.
    pub instance_type: String,
    /// Subnet of the primary interface: its id.
    pub subnet: String,
    /// Primary private address; `None`: EC2 picks.
    pub address: Option<Ipv4Addr>,
    /// Secondary addresses that the launch template asks for.
    pub secondary_addresses: u32,
    /// IPv4 prefixes that the launch template asks for.
    pub prefixes: u32,
    /// IPv6 addresses that the launch template asks for.
    pub ipv6_addresses: u32,
    /// IPv6 prefixes that the launch template asks for.
    pub ipv6_prefixes: u32,
    /// Explicit IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Security groups, ids or names; empty: the default group.
    pub groups: Vec<String>,
    /// Tags of the instance.
    pub tags: Tags,
    /// Whether the primary interface goes with the instance.
    pub delete_on_termination: bool,
}

impl Default for InstanceSpec {
    fn default() -> Self {
        Self {
            id: None,
            instance_type: "m5.large".to_owned(),
            subnet: String::new(),
            address: None,
            secondary_addresses: 0,
            prefixes: 0,
            ipv6_addresses: 0,
            ipv6_prefixes: 0,
            ipv6: Vec::new(),
            groups: Vec::new(),
            tags: Tags::new(),
            delete_on_termination: true,
        }
    }
}
