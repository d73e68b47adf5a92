//! What others may look at without asking EC2: the instance metadata service, and tests as oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::history::ActionCount;
use super::ids::{EniId, GroupId, InstanceId, SubnetId, VpcId};
use super::spec::Tags;
use super::time::Millis;

/// Everything that the metadata service tells one instance at one moment, lag and omissions already applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImdsView {
    /// The instance.
    pub instance: InstanceId,
    /// `m5.large`.
    pub instance_type: String,
    /// Account number.
    pub account: String,
    /// Region.
    pub region: String,
    /// Availability zone.
    pub az: String,
    /// Availability zone id.
    pub az_id: String,
    /// `pendingTime` of the identity document.
    pub launched: Millis,
    /// MAC address of the primary interface.
    pub mac: [u8; 6],
    /// Primary private address.
    pub local_ipv4: Ipv4Addr,
    /// Private DNS name.
    pub local_hostname: String,
    /// Tags of the instance.
    pub tags: Tags,
    /// Interfaces, the primary one first, then by card and device index.
    pub interfaces: Vec<ImdsInterface>,
}

/// One interface under `network/interfaces/macs/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImdsInterface {
    /// Directory name.
    pub mac: [u8; 6],
    /// `interface-id`.
    pub eni: EniId,
    /// `owner-id`.
    pub owner: String,
    /// `device-number`.
    pub device: u32,
    /// `network-card`.
    pub card: u32,
    /// `local-ipv4s`, the primary first.
    pub local_ipv4s: Vec<Ipv4Addr>,
    /// `ipv4-prefix`.
    pub ipv4_prefixes: Vec<Ipv4Network>,
    /// `ipv6s`.
    pub ipv6s: Vec<Ipv6Addr>,
    /// `ipv6-prefix`.
    pub ipv6_prefixes: Vec<Ipv6Network>,
    /// `subnet-id`.
    pub subnet: SubnetId,
    /// `subnet-ipv4-cidr-block`.
    pub subnet_cidr: Ipv4Network,
    /// `subnet-ipv6-cidr-blocks`.
    pub subnet_ipv6_cidrs: Vec<Ipv6Network>,
    /// `vpc-id`.
    pub vpc: VpcId,
    /// `vpc-ipv4-cidr-blocks`, the main one first.
    pub vpc_cidrs: Vec<Ipv4Network>,
    /// `vpc-ipv6-cidr-blocks`.
    pub vpc_ipv6_cidrs: Vec<Ipv6Network>,
    /// `security-group-ids`.
    pub group_ids: Vec<GroupId>,
    /// `security-groups`.
    pub group_names: Vec<String>,
    /// `local-hostname`.
    pub local_hostname: String,
    /// Keys that must answer 404 although there is a value.
    pub omitted: BTreeSet<String>,
}

/// Role credentials of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Access key id; EC2 tells callers apart by it.
    pub access_key: String,
    /// Secret key. Signatures are not verified.
    pub secret_key: String,
    /// Session token.
    pub token: String,
    /// When they were made.
    pub updated: Millis,
    /// When EC2 stops taking them.
    pub expires: Millis,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The address asked for.
    pub address: IpAddr,
    /// The interface that it is assigned to.
    pub eni: EniId,
    /// The instance that the interface is attached to.
    pub instance: Option<InstanceId>,
    /// Whether that is the instance's primary interface.
    pub primary_eni: bool,
    /// Whether the interface's device is in the instance now.
    pub plugged: bool,
}

/// An instance that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// Its id.
    pub instance: InstanceId,
    /// Its primary interface.
    pub eni: EniId,
    /// That interface's MAC address.
    pub mac: [u8; 6],
    /// Its primary private address.
    pub address: Ipv4Addr,
}

/// The cloud in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Calls by action.
    pub actions: BTreeMap<String, ActionCount>,
    /// Calls of actions that change something.
    pub mutating_calls: u64,
    /// Calls of actions that only read.
    pub reading_calls: u64,
    /// Interfaces there are.
    pub enis: usize,
    /// Interfaces attached or on their way in or out.
    pub attached_enis: usize,
    /// Instances that run.
    pub instances: usize,
    /// IPv4 addresses held, a prefix counting sixteen.
    pub ipv4_held: usize,
    /// IPv4 prefixes held.
    pub ipv4_prefixes: usize,
    /// Free addresses by subnet.
    pub free: BTreeMap<String, usize>,
    /// Free /28 blocks by subnet.
    pub free_blocks: BTreeMap<String, usize>,
    /// What the wires refused, newest last: faults of the simulator, never of its user.
    pub wire_faults: Vec<String>,
}
