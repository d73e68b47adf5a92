//! What a lab is made of, as its user writes it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::cloud::{CloudSpec, InstanceSpec, Placement, SubnetSpec, Timings};
use crate::trouble::TroubleSettings;

/// A lab: a VPC, its trouble, its nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabSpec {
    /// Names the lab on this machine; one process may own a name at a time.
    pub name: String,
    /// The VPC.
    pub cloud: CloudSpec,
    /// Trouble from the start.
    pub trouble: TroubleSettings,
    /// `HttpPutResponseHopLimit` of every instance. 1: pods get no token.
    pub imds_hop_limit: u32,
    /// Where EC2's API listens on the machine, for clients outside the nodes. Port 0: a free one.
    pub loopback: SocketAddr,
    /// Nodes to boot at the start.
    pub nodes: Vec<NodeSpec>,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self {
            name: "vpcsim".to_owned(),
            cloud: two_subnets(),
            trouble: TroubleSettings::default(),
            imds_hop_limit: 1,
            loopback: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into(),
            nodes: Vec::new(),
        }
    }
}

impl LabSpec {
    /// A VPC 10.0.0.0/16 with a subnet in each of two zones, with EC2's usual timings, and no nodes.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The same, and everything that EC2 takes time for happens at once: for tests.
    #[must_use]
    pub fn instant(name: &str) -> Self {
        let mut spec = Self::named(name);
        spec.cloud.timings = Timings::instant();
        spec.cloud.placement = Placement::Lowest;
        spec
    }

    /// Adds a node to boot at the start.
    #[must_use]
    pub fn with_node(mut self, node: NodeSpec) -> Self {
        self.nodes.push(node);
        self
    }
}

fn two_subnets() -> CloudSpec {
    let subnet = |third: u8, zone: &str| SubnetSpec {
        cidr: ipnetwork::Ipv4Network::new(Ipv4Addr::new(10, 0, third, 0), 24).expect("24 is at most 32"),
        az: zone.to_owned(),
        ..SubnetSpec::default()
    };
    CloudSpec { subnets: vec![subnet(0, "us-west-2a"), subnet(1, "us-west-2b")], ..CloudSpec::default() }
}

/// A node: an instance that runs, and its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSpec {
    /// Name and hostname, unique in the lab.
    pub name: String,
    /// The instance. Its `subnet` may be an id or a CIDR; empty: the subnets take turns.
    pub instance: InstanceSpec,
}

impl NodeSpec {
    /// An `m5.large` in the subnet whose turn it is.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), instance: InstanceSpec::default() }
    }

    /// Of this type.
    #[must_use]
    pub fn of_type(mut self, instance_type: &str) -> Self {
        self.instance.instance_type = instance_type.to_owned();
        self
    }

    /// In this subnet: an id or a CIDR.
    #[must_use]
    pub fn in_subnet(mut self, subnet: &str) -> Self {
        self.instance.subnet = subnet.to_owned();
        self
    }

    /// With so many /28 prefixes on the primary ENI, as a launch template may ask for.
    #[must_use]
    pub fn with_launch_prefixes(mut self, count: u32) -> Self {
        self.instance.prefixes = count;
        self
    }
}
