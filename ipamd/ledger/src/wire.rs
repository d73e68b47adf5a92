//! Records as they are written: a mirror of the pool's vocabulary, so that the pool needs no serde and a change there
//! is a compile error here, not a file nobody can read. *Invariant*: any change of a shape raises `frame::FORMAT`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_pool::record::{EniRecord, EniStage};
use podwire_pool::{
    AttachmentId, DeviceIndex, EniId, GroupId, GrowBy, NetworkCard, OpId, PodRef, Record, SandboxKey,
    SubnetId, Time,
};
use serde::{Deserialize, Serialize};

type Text = Box<str>;

/// One record as a line of JSON. Times are milliseconds since boot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Line {
    Eni(Eni),
    EniGone { eni: Text },
    Assigned { eni: Text, net: IpNetwork, at: u64 },
    Unassigned { eni: Text, net: IpNetwork, at: u64 },
    Allocated { sandbox: Sandbox, pod: Pod, addresses: Vec<IpAddr>, at: u64 },
    Released { sandbox: Sandbox, addresses: Vec<IpAddr>, started: u64, at: u64 },
    Tombstone { sandbox: Sandbox, started: u64, at: u64 },
    Intent { op: u64, create: Option<Grow>, eni: Option<Text> },
    Settled { op: u64 },
    OpsUsed { next: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Eni {
    id: Text,
    mac: Text,
    attachment: Option<Text>,
    card: u32,
    device: u32,
    subnet: Text,
    subnet_cidr: Option<IpNetwork>,
    groups: Vec<Text>,
    primary: IpAddr,
    stage: Stage,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Created,
    Attached,
    Borrowed,
    Leaving,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sandbox {
    container: Text,
    ifname: Text,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pod {
    namespace: Text,
    name: Text,
    uid: Text,
    network: Text,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Grow {
    Addresses(u32),
    Prefixes(u32),
}

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        match record {
            Record::Eni(eni) => Self::Eni(eni.into()),
            Record::EniGone { eni } => Self::EniGone { eni: eni.as_str().into() },
            Record::Assigned { eni, net, at } => {
                Self::Assigned { eni: eni.as_str().into(), net: *net, at: at.as_ms() }
            }
            Record::Unassigned { eni, net, at } => {
                Self::Unassigned { eni: eni.as_str().into(), net: *net, at: at.as_ms() }
            }
            Record::Allocated { sandbox, pod, addresses, at } => Self::Allocated {
                sandbox: sandbox.into(),
                pod: pod.into(),
                addresses: addresses.clone(),
                at: at.as_ms(),
            },
            Record::Released { sandbox, addresses, started, at } => Self::Released {
                sandbox: sandbox.into(),
                addresses: addresses.clone(),
                started: started.as_ms(),
                at: at.as_ms(),
            },
            Record::Tombstone { sandbox, started, at } => {
                Self::Tombstone { sandbox: sandbox.into(), started: started.as_ms(), at: at.as_ms() }
            }
            Record::Intent { op, create, eni } => Self::Intent {
                op: op.0,
                create: create.map(Grow::from),
                eni: eni.as_ref().map(|eni| eni.as_str().into()),
            },
            Record::Settled { op } => Self::Settled { op: op.0 },
            Record::OpsUsed { next } => Self::OpsUsed { next: next.0 },
        }
    }
}

impl TryFrom<Line> for Record {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        Ok(match line {
            Line::Eni(eni) => Self::Eni(eni.try_into()?),
            Line::EniGone { eni } => Self::EniGone { eni: EniId::new(eni) },
            Line::Assigned { eni, net, at } => {
                Self::Assigned { eni: EniId::new(eni), net, at: Time::from_ms(at) }
            }
            Line::Unassigned { eni, net, at } => {
                Self::Unassigned { eni: EniId::new(eni), net, at: Time::from_ms(at) }
            }
            Line::Allocated { sandbox, pod, addresses, at } => {
                Self::Allocated { sandbox: sandbox.into(), pod: pod.into(), addresses, at: Time::from_ms(at) }
            }
            Line::Released { sandbox, addresses, started, at } => Self::Released {
                sandbox: sandbox.into(),
                addresses,
                started: Time::from_ms(started),
                at: Time::from_ms(at),
            },
            Line::Tombstone { sandbox, started, at } => Self::Tombstone {
                sandbox: sandbox.into(),
                started: Time::from_ms(started),
                at: Time::from_ms(at),
            },
            Line::Intent { op, create, eni } => {
                Self::Intent { op: OpId(op), create: create.map(GrowBy::from), eni: eni.map(EniId::new) }
            }
            Line::Settled { op } => Self::Settled { op: OpId(op) },
            Line::OpsUsed { next } => Self::OpsUsed { next: OpId(next) },
        })
    }
}

impl From<&EniRecord> for Eni {
    fn from(eni: &EniRecord) -> Self {
        let EniRecord { id, mac, attachment, card, device, subnet, subnet_cidr, groups, primary, stage } =
            eni;
        Self {
            id: id.as_str().into(),
            mac: mac.to_string().into(),
            attachment: attachment.as_ref().map(|id| id.as_str().into()),
            card: card.0,
            device: device.0,
            subnet: subnet.as_str().into(),
            subnet_cidr: *subnet_cidr,
            groups: groups.iter().map(|group| group.as_str().into()).collect(),
            primary: *primary,
            stage: match stage {
                EniStage::Created => Stage::Created,
                EniStage::Attached => Stage::Attached,
                EniStage::Borrowed => Stage::Borrowed,
                EniStage::Leaving => Stage::Leaving,
            },
        }
    }
}

impl TryFrom<Eni> for EniRecord {
    type Error = &'static str;

    fn try_from(eni: Eni) -> Result<Self, Self::Error> {
        Ok(Self {
            id: EniId::new(eni.id),
            mac: eni.mac.parse().map_err(|_| "an ENI's MAC is none")?,
            attachment: eni.attachment.map(AttachmentId::new),
            card: NetworkCard(eni.card),
            device: DeviceIndex(eni.device),
            subnet: SubnetId::new(eni.subnet),
            subnet_cidr: eni.subnet_cidr,
            groups: eni.groups.into_iter().map(GroupId::new).collect(),
            primary: eni.primary,
            stage: match eni.stage {
                Stage::Created => EniStage::Created,
                Stage::Attached => EniStage::Attached,
                Stage::Borrowed => EniStage::Borrowed,
                Stage::Leaving => EniStage::Leaving,
            },
        })
    }
}

impl From<&SandboxKey> for Sandbox {
    fn from(key: &SandboxKey) -> Self {
        let SandboxKey { container_id, ifname } = key;
        Self { container: container_id.clone(), ifname: ifname.clone() }
    }
}

impl From<Sandbox> for SandboxKey {
    fn from(sandbox: Sandbox) -> Self {
        Self { container_id: sandbox.container, ifname: sandbox.ifname }
    }
}

impl From<&PodRef> for Pod {
    fn from(pod: &PodRef) -> Self {
        let PodRef { namespace, name, uid, network } = pod;
        Self { namespace: namespace.clone(), name: name.clone(), uid: uid.clone(), network: network.clone() }
    }
}

impl From<Pod> for PodRef {
    fn from(pod: Pod) -> Self {
        Self { namespace: pod.namespace, name: pod.name, uid: pod.uid, network: pod.network }
    }
}

impl From<GrowBy> for Grow {
    fn from(by: GrowBy) -> Self {
        match by {
            GrowBy::Addresses(count) => Self::Addresses(count),
            GrowBy::Prefixes(count) => Self::Prefixes(count),
        }
    }
}

impl From<Grow> for GrowBy {
    fn from(by: Grow) -> Self {
        match by {
            Grow::Addresses(count) => Self::Addresses(count),
            Grow::Prefixes(count) => Self::Prefixes(count),
        }
    }
}
