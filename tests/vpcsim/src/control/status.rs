//! A lab at a glance.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::cloud::{Eni, InstanceId, mac_text};
use crate::fabric::Drops;
use crate::lab::Lab;
use crate::node::Node;

/// A lab at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The process that owns it.
    pub pid: u32,
    /// Region.
    pub region: String,
    /// EC2's endpoint for programs on the machine.
    pub outside_endpoint: String,
    /// EC2's endpoint for programs in a node.
    pub node_endpoint: String,
    /// Where the internet host tells callers who they are.
    pub internet: String,
    /// The VPC's ranges.
    pub vpc_cidrs: Vec<Ipv4Network>,
    /// Nodes, by name.
    pub nodes: Vec<NodeStatus>,
    /// Packets refused by the fabric.
    pub drops: Drops,
    /// Faults of the simulator itself. Empty, unless it has a bug.
    pub wire_faults: Vec<String>,
}

/// A node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name and hostname.
    pub name: String,
    /// EC2 instance.
    pub instance: String,
    /// Type of it.
    pub instance_type: String,
    /// Availability zone.
    pub az: String,
    /// The process that keeps it: `/proc/<pid>/root`, `nsenter -t <pid> -a`.
    pub pid: u32,
    /// Its ENIs, the primary one first.
    pub enis: Vec<EniStatus>,
}

/// An ENI at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniStatus {
    /// Id.
    pub eni: String,
    /// MAC address.
    pub mac: String,
    /// Device index.
    pub device: u32,
    /// Network card.
    pub card: u32,
    /// State of the attachment.
    pub status: String,
    /// Primary address.
    pub primary: Ipv4Addr,
    /// Secondary addresses.
    pub secondaries: Vec<Ipv4Addr>,
    /// IPv4 prefixes.
    pub prefixes: Vec<Ipv4Network>,
    /// IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// IPv6 prefixes.
    pub ipv6_prefixes: Vec<Ipv6Network>,
}

/// Looks at everything.
///
/// # Errors
/// The kernel does not tell.
pub fn status(lab: &Lab) -> anyhow::Result<Status> {
    let (region, vpc_cidrs, wire_faults) = lab.with_cloud(|cloud| {
        (cloud.spec().region.clone(), cloud.vpc().cidrs.clone(), cloud.stats().wire_faults)
    });
    Ok(Status {
        name: lab.name().to_owned(),
        pid: std::process::id(),
        region,
        outside_endpoint: lab.outside_endpoint(),
        node_endpoint: lab.node_endpoint(),
        internet: lab.internet().address().to_string(),
        vpc_cidrs,
        nodes: lab.nodes().iter().map(|one| node(lab, one)).collect::<Result<_, _>>()?,
        drops: lab.fabric().drops()?,
        wire_faults,
    })
}

pub(super) fn node(lab: &Lab, node: &Node) -> anyhow::Result<NodeStatus> {
    let id = InstanceId::from(node.instance_id());
    lab.with_cloud(|cloud| {
        let instance = cloud.instance(&id).with_context(|| format!("{id} does not run"))?;
        Ok(NodeStatus {
            name: node.name().to_owned(),
            instance: id.to_string(),
            instance_type: instance.limits.name.to_owned(),
            az: instance.az.clone(),
            pid: node.pid(),
            enis: cloud.interfaces_of(&id).into_iter().filter_map(eni).collect(),
        })
    })
}

fn eni(eni: &Eni) -> Option<EniStatus> {
    let to = eni.attachment.as_ref()?;
    Some(EniStatus {
        eni: eni.id.to_string(),
        mac: mac_text(eni.mac),
        device: to.device,
        card: to.card,
        status: to.status.as_str().to_owned(),
        primary: eni.primary,
        secondaries: eni.secondaries.clone(),
        prefixes: eni.prefixes.clone(),
        ipv6: eni.ipv6.clone(),
        ipv6_prefixes: eni.ipv6_prefixes.clone(),
    })
}
