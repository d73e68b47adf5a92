//! What the cloud asks of the wires: plug, unplug and route. The fabric does it with kernel devices; [`NoWires`] does
//! nothing, for API-only use.

use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network};

/// An ENI as a port of the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The ENI, `eni-…`.
    pub eni: String,
    /// The instance it is plugged into, `i-…`.
    pub instance: String,
    /// MAC address of the device in the node.
    pub mac: [u8; 6],
    /// Network card.
    pub card: u32,
    /// Device index on that card; 0 on card 0 is the primary ENI.
    pub device: u32,
    /// Primary private address.
    pub primary: Ipv4Addr,
    /// The subnet's CIDR; the gateway is its base plus one.
    pub subnet: Ipv4Network,
    /// Security groups.
    pub groups: Vec<String>,
    /// Drop packets whose source is not assigned to this ENI.
    pub source_dest_check: bool,
}

/// One rule of a security group: who may send what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// `None`: every protocol; otherwise the IP protocol number.
    pub protocol: Option<u8>,
    /// First and last port (TCP, UDP); `None`: all.
    pub ports: Option<(u16, u16)>,
    /// Peers.
    pub peer: Peer,
}

/// The other side of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An address range.
    Cidr(IpNetwork),
    /// Every address of every ENI in this group.
    Group(String),
}

/// The kernel side of the VPC. Each call takes effect before it returns.
pub trait Wires: Send {
    /// Makes the device appear in the instance's namespace and routes its primary address to it.
    ///
    /// # Errors
    /// The instance has no namespace, or the kernel refuses.
    fn plug(&mut self, port: &Port) -> anyhow::Result<()>;
    /// Makes the device vanish, with all its routes.
    ///
    /// # Errors
    /// The kernel refuses.
    fn unplug(&mut self, eni: &str) -> anyhow::Result<()>;
    /// Delivers this address or prefix to the ENI and accepts it as a source from there.
    ///
    /// # Errors
    /// The kernel refuses.
    fn route(&mut self, eni: &str, net: IpNetwork) -> anyhow::Result<()>;
    /// Stops doing so.
    ///
    /// # Errors
    /// The kernel refuses.
    fn unroute(&mut self, eni: &str, net: IpNetwork) -> anyhow::Result<()>;
    /// The ENI is in these groups from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    fn set_groups(&mut self, eni: &str, groups: &[String]) -> anyhow::Result<()>;
    /// These are the group's ingress rules from now on (egress is open).
    ///
    /// # Errors
    /// The kernel refuses.
    fn set_group_rules(&mut self, group: &str, ingress: &[GroupRule]) -> anyhow::Result<()>;
}

/// No kernel at all: EC2's API and rules alone.
#[derive(Debug, Default)]
pub struct NoWires;

impl Wires for NoWires {
    fn plug(&mut self, _port: &Port) -> anyhow::Result<()> {
        Ok(())
    }

    fn unplug(&mut self, _eni: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn route(&mut self, _eni: &str, _net: IpNetwork) -> anyhow::Result<()> {
        Ok(())
    }

    fn unroute(&mut self, _eni: &str, _net: IpNetwork) -> anyhow::Result<()> {
        Ok(())
    }

    fn set_groups(&mut self, _eni: &str, _groups: &[String]) -> anyhow::Result<()> {
        Ok(())
    }

    fn set_group_rules(&mut self, _group: &str, _ingress: &[GroupRule]) -> anyhow::Result<()> {
        Ok(())
    }
}
