//! A network interface as EC2 keeps it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId};
use super::spec::Tags;
use super::time::Millis;

/// What kind of interface it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceType {
    /// Ordinary.
    Interface,
    /// Elastic Fabric Adapter with an ordinary interface.
    Efa,
    /// Elastic Fabric Adapter without addresses.
    EfaOnly,
    /// Carries branches.
    Trunk,
    /// Carried by a trunk.
    Branch,
}

impl InterfaceType {
    /// As EC2 writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Efa => "efa",
            Self::EfaOnly => "efa-only",
            Self::Trunk => "trunk",
            Self::Branch => "branch",
        }
    }

    /// The creation parameter's value; `interface` is not among the documented ones but is accepted.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Interface, Self::Efa, Self::EfaOnly, Self::Trunk, Self::Branch]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Where an attachment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentStatus {
    /// Asked for; the instance has no device yet.
    Attaching,
    /// The device is there.
    Attached,
    /// On its way out; the device is still there.
    Detaching,
}

impl AttachmentStatus {
    /// As EC2 writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }
}

/// The attachment of an interface to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// The instance.
    pub instance: InstanceId,
    /// Network card.
    pub card: u32,
    /// Device index on the card.
    pub device: u32,
    /// Where it is in its life.
    pub status: AttachmentStatus,
    /// When it began.
    pub since: Millis,
    /// Whether the interface goes with the instance.
    pub delete_on_termination: bool,
}

/// Idle timeouts of connection tracking, as set by the user; absent: EC2's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tracking {
    /// Established TCP, seconds.
    pub tcp_established: Option<u32>,
    /// UDP streams, seconds.
    pub udp_stream: Option<u32>,
    /// Other UDP, seconds.
    pub udp: Option<u32>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// Its id.
    pub id: EniId,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its subnet.
    pub subnet: SubnetId,
    /// Kind.
    pub kind: InterfaceType,
    /// Description.
    pub description: String,
    /// Security groups, in the order given.
    pub groups: Vec<GroupId>,
    /// Drops packets whose source is not assigned to it.
    pub source_dest_check: bool,
    /// Still `pending`.
    pub pending: bool,
    /// Primary private address.
    pub primary: Ipv4Addr,
    /// Secondary private addresses, oldest first.
    pub secondaries: Vec<Ipv4Addr>,
    /// IPv4 prefixes, oldest first.
    pub prefixes: Vec<Ipv4Network>,
    /// IPv6 addresses, oldest first.
    pub ipv6: Vec<Ipv6Addr>,
    /// IPv6 prefixes, oldest first.
    pub ipv6_prefixes: Vec<Ipv6Network>,
    /// Whether the first IPv6 address is the primary one.
    pub primary_ipv6: bool,
    /// Connection tracking timeouts.
    pub tracking: Tracking,
    /// Who made it: the account or an instance's role.
    pub requester: String,
    /// Whether an AWS service made it and manages it, so that users cannot change it.
    pub managed: bool,
    /// When.
    pub created: Millis,
    /// Where it is attached.
    pub attachment: Option<Attachment>,
    /// Tags.
    pub tags: Tags,
}

impl Eni {
    /// `available`, `in-use` or `pending`, as `DescribeNetworkInterfaces` shows it.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match (&self.attachment, self.pending) {
            (Some(_), _) => "in-use",
            (None, true) => "pending",
            (None, false) => "available",
        }
    }

    /// Whether a device of it is in an instance now.
    #[must_use]
    pub fn plugged(&self) -> bool {
        self.attachment
            .as_ref()
            .is_some_and(|to| matches!(to.status, AttachmentStatus::Attached | AttachmentStatus::Detaching))
    }

    /// Whether this is an instance's primary interface.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.attachment.as_ref().is_some_and(|to| to.card == 0 && to.device == 0)
    }

    /// IPv4 addresses as EC2 and metadata list them, its own first; an EFA-only interface has none.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let all = std::iter::once(self.primary).chain(self.secondaries.iter().copied());
        all.filter(|_| self.kind != InterfaceType::EfaOnly)
    }

    /// IPv4 slots in use: the primary address, secondary addresses and prefixes take one each.
    #[must_use]
    pub fn ipv4_slots(&self) -> usize {
        1 + self.secondaries.len() + self.prefixes.len()
    }

    /// IPv6 slots in use.
    #[must_use]
    pub fn ipv6_slots(&self) -> usize {
        self.ipv6.len() + self.ipv6_prefixes.len()
    }

    /// Everything delivered to it besides its primary address.
    #[must_use]
    pub fn routes(&self) -> Vec<IpNetwork> {
        let hosts4 = self.secondaries.iter().map(|address| IpNetwork::from(std::net::IpAddr::V4(*address)));
        let hosts6 = self.ipv6.iter().map(|address| IpNetwork::from(std::net::IpAddr::V6(*address)));
        let nets4 = self.prefixes.iter().copied().map(IpNetwork::V4);
        let nets6 = self.ipv6_prefixes.iter().copied().map(IpNetwork::V6);
        hosts4.chain(nets4).chain(hosts6).chain(nets6).collect()
    }

    /// The attachment, if it is to this instance.
    #[must_use]
    pub fn attached_to(&self, instance: &InstanceId) -> Option<&Attachment> {
        self.attachment.as_ref().filter(|to| to.instance == *instance)
    }
}
