//! One subnet: what it still has, what it may be used for.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use podwire_pool::{FailureClass, GrowBy, ObservedSubnet, SubnetId};

use super::Ec2;

/// A subnet in truth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Addresses it still has for us.
    pub free: u32,
    /// No /28 to be had.
    pub fragmented: bool,
    /// Its tags.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// Second byte of its addresses.
    byte: u8,
    freed: Vec<IpAddr>,
    freed_prefixes: Vec<IpNetwork>,
    next_single: u32,
    next_prefix: u32,
}

impl Subnet {
    /// The subnet with this number: 0 is the primary ENI's (10.0.0.0/16), n is 10.(16+n).0.0/16.
    #[must_use]
    pub fn new(number: u8, free: u32) -> Self {
        Self {
            id: SubnetId::new(format!("subnet-{}", number + 1)),
            free,
            fragmented: false,
            tags: Vec::new(),
            byte: if number == 0 { 0 } else { 16 + number },
            freed: Vec::new(),
            freed_prefixes: Vec::new(),
            next_single: 1,
            next_prefix: 0,
        }
    }

    /// The same with a tag.
    #[must_use]
    pub fn tagged(mut self, key: &str, value: &str) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Whether its tags keep pods of this cluster out. *Source*: incumbent-behaviour §5.8.
    #[must_use]
    pub fn keeps_out(&self, cluster: Option<&str>) -> bool {
        let role = self.tags.iter().find(|(k, _)| &**k == "kubernetes.io/role/cni").map_or("", |(_, v)| &**v);
        let names: Vec<&str> =
            self.tags.iter().filter_map(|(k, _)| k.strip_prefix("cni.networking.k8s.aws/cluster/")).collect();
        let foreign = cluster.is_some_and(|ours| !names.is_empty() && !names.contains(&ours));
        role == "0" || (!role.is_empty() && foreign)
    }

    /// Whether new ENIs of this cluster may be made in it; `home`: it is the primary ENI's.
    #[must_use]
    pub fn takes_enis(&self, cluster: Option<&str>, home: bool) -> bool {
        let tagged = self.tags.iter().any(|(k, v)| &**k == "kubernetes.io/role/cni" && !v.is_empty());
        !self.keeps_out(cluster) && (home || tagged)
    }

    /// Its CIDR.
    #[must_use]
    pub fn cidr(&self) -> Option<IpNetwork> {
        IpNetwork::new(IpAddr::from([10, self.byte, 0, 0]), 16).ok()
    }

    /// As DescribeSubnets shows it.
    #[must_use]
    pub fn observed(&self) -> ObservedSubnet {
        ObservedSubnet { id: self.id.clone(), cidr: self.cidr(), free: self.free, tags: self.tags.clone() }
    }

    /// The own address of the ENI with this number.
    pub(super) fn own(&self, number: u16) -> IpAddr {
        match number.to_be_bytes() {
            [0, low] => IpAddr::from([10, self.byte, 255, low]),
            // The subnet is full of what pods get: as if it had a second CIDR.
            [high, low] => IpAddr::from([100, 64, high, low]),
        }
    }

    /// Gives addresses or prefixes, as many as asked for or (when partial) half of them.
    pub(super) fn grant(
        &mut self,
        by: GrowBy,
        partial: bool,
        recycle: bool,
    ) -> Result<Vec<IpNetwork>, FailureClass> {
        match by {
            GrowBy::Addresses(n) => {
                if n > self.free {
                    return Err(FailureClass::SubnetExhausted);
                }
                let n = if partial { n.div_ceil(2) } else { n };
                self.free -= n;
                Ok((0..n).map(|_| self.single(recycle)).collect())
            }
            GrowBy::Prefixes(n) => {
                if self.fragmented {
                    return Err(FailureClass::SubnetFragmented);
                }
                if n * 16 > self.free {
                    return Err(FailureClass::SubnetExhausted);
                }
                let n = if partial { n.div_ceil(2) } else { n };
                self.free -= n * 16;
                Ok((0..n).map(|_| self.prefix(recycle)).collect())
            }
        }
    }

    fn single(&mut self, recycle: bool) -> IpNetwork {
        if recycle && let Some(ip) = self.freed.pop() {
            return IpNetwork::from(ip);
        }
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, self.byte, 0, 0)) + self.next_single);
        self.next_single += 1;
        IpNetwork::from(IpAddr::V4(ip))
    }

    fn prefix(&mut self, recycle: bool) -> IpNetwork {
        if recycle && let Some(net) = self.freed_prefixes.pop() {
            return net;
        }
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, self.byte, 128, 0)) + 16 * self.next_prefix);
        self.next_prefix += 1;
        IpNetwork::new(IpAddr::V4(ip), 28).unwrap_or_else(|_| IpNetwork::from(IpAddr::V4(ip)))
    }

    /// Takes addresses and prefixes back.
    pub(super) fn put_back(&mut self, nets: &[IpNetwork]) {
        for net in nets {
            if net.prefix() == 32 {
                self.freed.push(net.ip());
                self.free += 1;
            } else {
                self.freed_prefixes.push(*net);
                self.free += 16;
            }
        }
    }
}

impl Ec2 {
    /// The primary ENI's subnet.
    ///
    /// # Panics
    /// Never: there is always one.
    pub fn home(&mut self) -> &mut Subnet {
        &mut self.subnets[0]
    }

    pub(super) fn subnet_of(&mut self, id: &SubnetId) -> Result<&mut Subnet, FailureClass> {
        self.subnets.iter_mut().find(|s| s.id == *id).ok_or(FailureClass::NotFound)
    }

    pub(super) fn put_back(&mut self, subnet: &SubnetId, nets: &[IpNetwork]) {
        if let Ok(subnet) = self.subnet_of(subnet) {
            subnet.put_back(nets);
        }
    }

    pub(super) fn grant(
        &mut self,
        subnet: &SubnetId,
        by: GrowBy,
        partial: bool,
    ) -> Result<Vec<IpNetwork>, FailureClass> {
        let recycle = self.recycle;
        self.subnet_of(subnet)?.grant(by, partial, recycle)
    }

    /// DescribeSubnets as things are now.
    pub(super) fn subnets_seen(&self, only: &[SubnetId]) -> Vec<ObservedSubnet> {
        let wanted = |s: &&Subnet| only.is_empty() || only.contains(&s.id);
        self.subnets.iter().filter(wanted).map(Subnet::observed).collect()
    }
}
