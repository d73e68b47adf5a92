//! From a spec to a cloud: everything is checked before anything is made.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use thiserror::Error;

use super::agenda::Agenda;
use super::history::History;
use super::ids::{GroupId, Id, Mint, SubnetId, VpcId};
use super::spec::{GroupSpec, IngressPeer, IngressSpec, SubnetSpec, Tags};
use super::store::Store;
use super::{Cloud, CloudSpec, Group, Millis, Random, Space, Space6, Spaces, Subnet, Vpc};
use crate::trouble::Trouble;
use crate::wires::Wires;

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// The account is not twelve digits.
    #[error("account {0:?} is not twelve digits")]
    Account(String),
    /// The VPC has no IPv4 CIDR.
    #[error("the VPC has no IPv4 CIDR")]
    NoCidr,
    /// A subnet's IPv4 CIDR is not from /16 to /28.
    #[error("subnet CIDR {0} is not from /16 to /28 on its own boundary")]
    SubnetSize(Ipv4Network),
    /// A subnet's IPv6 CIDR is not a /64.
    #[error("subnet CIDR {0} is not a /64 on its own boundary")]
    SubnetSize6(Ipv6Network),
    /// A subnet is outside of the VPC.
    #[error("subnet CIDR {0} is outside of the VPC's CIDRs")]
    SubnetOutside(IpNetwork),
    /// Two subnets overlap.
    #[error("subnet CIDRs {0} and {1} overlap")]
    SubnetsOverlap(Ipv4Network, Ipv4Network),
    /// A reservation is outside of its subnet.
    #[error("reservation {0} is outside of its subnet")]
    ReservationOutside(IpNetwork),
    /// An id has not the shape of one.
    #[error("id {0:?} is not of the form {1}0123456789abcdef0")]
    Id(String, &'static str),
    /// An id or a group name is there twice.
    #[error("{0:?} is there twice")]
    Twice(String),
    /// A rule names a group that is not there.
    #[error("group {group:?} names the group {peer:?}, which is not there")]
    NoGroup {
        /// The group with the rule.
        group: String,
        /// The peer that it names.
        peer: String,
    },
}

impl Cloud {
    /// A cloud without instances.
    ///
    /// # Errors
    /// The spec contradicts itself.
    pub fn new(spec: &CloudSpec, wires: Box<dyn Wires>) -> Result<Self, SpecError> {
        if spec.account.len() != 12 || !spec.account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(SpecError::Account(spec.account.clone()));
        }
        if spec.vpc_cidrs.is_empty() {
            return Err(SpecError::NoCidr);
        }
        let mut random = Random::new(spec.seed);
        let mut mint = Mint::new(random.bits());
        let vpc = Vpc {
            id: id_or_new::<VpcId>(spec.vpc_id.as_deref(), &mut mint)?,
            cidrs: spec.vpc_cidrs.clone(),
            ipv6_cidrs: spec.vpc_ipv6_cidrs.clone(),
            tags: spec.vpc_tags.clone(),
        };
        let (subnets, spaces) = build_subnets(spec, &mut mint)?;
        let (groups, default_group) = build_groups(&spec.groups, &mut mint)?;
        let trouble = Trouble::new(random.bits());
        let mut cloud = Self {
            spec: spec.clone(),
            now: Millis(0),
            random,
            mint,
            wires,
            wire_faults: Vec::new(),
            vpc,
            subnets,
            spaces,
            groups,
            default_group,
            instances: Store::new(),
            enis: Store::new(),
            trunks: Store::new(),
            permissions: BTreeMap::new(),
            tokens: BTreeMap::new(),
            keys: BTreeMap::new(),
            agenda: Agenda::default(),
            trouble,
            history: History::default(),
        };
        cloud.wire_groups();
        cloud.commit();
        Ok(cloud)
    }
}

type Subnets = (Store<SubnetId, Subnet>, BTreeMap<SubnetId, Spaces>);

fn build_subnets(spec: &CloudSpec, mint: &mut Mint) -> Result<Subnets, SpecError> {
    let (mut subnets, mut spaces) = (Store::new(), BTreeMap::new());
    let mut zones: Vec<&str> = Vec::new();
    for (at, subnet) in spec.subnets.iter().enumerate() {
        check_subnet(spec, subnet)?;
        if let Some(other) = spec.subnets[..at].iter().find(|other| other.cidr.overlaps(subnet.cidr)) {
            return Err(SpecError::SubnetsOverlap(other.cidr, subnet.cidr));
        }
        if !zones.contains(&subnet.az.as_str()) {
            zones.push(&subnet.az);
        }
        let id: SubnetId = id_or_new(subnet.id.as_deref(), mint)?;
        let space = build_spaces(subnet);
        let number = zones.iter().position(|zone| *zone == subnet.az).map_or(1, |at| at + 1);
        let record = Subnet {
            id: id.clone(),
            cidr: subnet.cidr,
            ipv6_cidr: subnet.ipv6_cidr,
            az: subnet.az.clone(),
            az_id: az_id(&spec.region, number),
            free: space.v4.free(),
            tags: subnet.tags.clone(),
        };
        if spaces.insert(id.clone(), space).is_some() {
            return Err(SpecError::Twice(id.to_string()));
        }
        subnets.insert(id, record);
    }
    Ok((subnets, spaces))
}

fn build_spaces(subnet: &SubnetSpec) -> Spaces {
    let (mut kept4, mut kept6) = (Vec::new(), Vec::new());
    for reservation in &subnet.reservations {
        match reservation.cidr {
            IpNetwork::V4(range) => kept4.push((range, reservation.kind)),
            IpNetwork::V6(range) => kept6.push((range, reservation.kind)),
        }
    }
    Spaces { v4: Space::new(subnet.cidr, &kept4), v6: subnet.ipv6_cidr.map(|cidr| Space6::new(cidr, kept6)) }
}

fn check_subnet(spec: &CloudSpec, subnet: &SubnetSpec) -> Result<(), SpecError> {
    let cidr = subnet.cidr;
    if !(16..=28).contains(&cidr.prefix()) || cidr.network() != cidr.ip() {
        return Err(SpecError::SubnetSize(cidr));
    }
    if !spec.vpc_cidrs.iter().any(|vpc| cidr.is_subnet_of(*vpc)) {
        return Err(SpecError::SubnetOutside(cidr.into()));
    }
    if let Some(cidr) = subnet.ipv6_cidr {
        if cidr.prefix() != 64 || cidr.network() != cidr.ip() {
            return Err(SpecError::SubnetSize6(cidr));
        }
        if !spec.vpc_ipv6_cidrs.iter().any(|vpc| cidr.is_subnet_of(*vpc)) {
            return Err(SpecError::SubnetOutside(cidr.into()));
        }
    }
    let inside = |range: IpNetwork| match range {
        IpNetwork::V4(range) => range.is_subnet_of(cidr),
        IpNetwork::V6(range) => subnet.ipv6_cidr.is_some_and(|cidr| range.is_subnet_of(cidr)),
    };
    match subnet.reservations.iter().find(|reservation| !inside(reservation.cidr)) {
        Some(outside) => Err(SpecError::ReservationOutside(outside.cidr)),
        None => Ok(()),
    }
}

/// The groups by id, the default one among them, with rules that name their peers by id.
fn build_groups(
    specs: &[GroupSpec],
    mint: &mut Mint,
) -> Result<(BTreeMap<GroupId, Group>, GroupId), SpecError> {
    let default = GroupSpec {
        name: "default".to_owned(),
        description: "default VPC security group".to_owned(),
        ingress: vec![IngressSpec {
            protocol: None,
            ports: None,
            from: IngressPeer::Group("default".to_owned()),
        }],
        ..GroupSpec::default()
    };
    let own_default = specs.iter().any(|group| group.name == default.name);
    let all: Vec<&GroupSpec> = specs.iter().chain((!own_default).then_some(&default)).collect();
    let mut ids: BTreeMap<String, GroupId> = BTreeMap::new();
    let mut groups = BTreeMap::new();
    for spec in &all {
        let id: GroupId = id_or_new(spec.id.as_deref(), mint)?;
        for name in [spec.name.clone(), id.to_string()] {
            if ids.insert(name.clone(), id.clone()).is_some() {
                return Err(SpecError::Twice(name));
            }
        }
        let description =
            if spec.description.is_empty() { spec.name.clone() } else { spec.description.clone() };
        let group = Group {
            id: id.clone(),
            name: spec.name.clone(),
            description,
            ingress: Vec::new(),
            tags: Tags::clone(&spec.tags),
        };
        groups.insert(id, group);
    }
    for spec in all {
        let rule = |rule: &IngressSpec| by_id(spec, rule, &ids);
        if let Some(group) = ids.get(&spec.name).and_then(|id| groups.get_mut(id)) {
            group.ingress = spec.ingress.iter().map(rule).collect::<Result<_, _>>()?;
        }
    }
    let default = ids
        .get("default")
        .cloned()
        .ok_or_else(|| SpecError::NoGroup { group: "default".to_owned(), peer: "default".to_owned() })?;
    Ok((groups, default))
}

fn by_id(
    group: &GroupSpec,
    rule: &IngressSpec,
    ids: &BTreeMap<String, GroupId>,
) -> Result<IngressSpec, SpecError> {
    let from = match &rule.from {
        IngressPeer::Cidr(range) => IngressPeer::Cidr(*range),
        IngressPeer::Group(peer) => {
            let id = ids
                .get(peer)
                .ok_or_else(|| SpecError::NoGroup { group: group.name.clone(), peer: peer.clone() })?;
            IngressPeer::Group(id.to_string())
        }
    };
    Ok(IngressSpec { protocol: rule.protocol, ports: rule.ports, from })
}

pub(super) fn id_or_new<T: Id>(given: Option<&str>, mint: &mut Mint) -> Result<T, SpecError> {
    match given {
        None => Ok(mint.id()),
        Some(text) if T::well_formed(text) => Ok(T::from_text(text.to_owned())),
        Some(text) => Err(SpecError::Id(text.to_owned(), T::PREFIX)),
    }
}

/// `us-west-2`, 1 → `usw2-az1`.
fn az_id(region: &str, number: usize) -> String {
    let parts: Vec<&str> = region.split('-').collect();
    let short = match parts.as_slice() {
        [area, side, rest @ ..] => {
            let side: String = match *side {
                "north" | "south" | "east" | "west" | "central" => side.chars().take(1).collect(),
                "northeast" => "ne".to_owned(),
                "northwest" => "nw".to_owned(),
                "southeast" => "se".to_owned(),
                "southwest" => "sw".to_owned(),
                other => other.to_owned(),
            };
            format!("{area}{side}{}", rest.concat())
        }
        _ => region.to_owned(),
    };
    format!("{short}-az{number}")
}

/// `ip-10-0-1-5.us-west-2.compute.internal`.
///
/// Source: Amazon EC2 User Guide, "EC2 instance hostnames and domains".
pub(crate) fn private_dns(address: Ipv4Addr, region: &str) -> String {
    let host = address.to_string().replace('.', "-");
    if region == "us-east-1" {
        format!("ip-{host}.ec2.internal")
    } else {
        format!("ip-{host}.{region}.compute.internal")
    }
}

#[cfg(test)]
mod tests;
