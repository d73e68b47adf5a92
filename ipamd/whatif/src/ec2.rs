//! EC2, obedient: ENIs, their addresses and the subnets they come from. Time and budgets are the engine's.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use podwire_pool::{
    AttachmentId, DeviceIndex, Ec2Answer, Ec2Call, EniId, FailureClass, GroupId, GrowBy, InstanceId, Mac,
    NetworkCard, ObservedEni, ObservedSubnet, OpId, Settings, SubnetId,
};

use crate::meter::PREFIX_SIZE;
use crate::scenario::Subnet;

/// One ENI of the node.
#[derive(Debug, Clone)]
struct Eni {
    seen: ObservedEni,
    /// From when on it can be deleted, once it is detached.
    deletable: u64,
}

/// A subnet and what it has given out.
#[derive(Debug, Clone)]
struct Pond {
    id: SubnetId,
    cidr: IpNetwork,
    left: Subnet,
    next_single: u32,
    next_prefix: u32,
    /// Given back, used again in order and only when nothing fresh is left: EC2 does not hurry.
    singles: VecDeque<IpAddr>,
    prefixes: VecDeque<IpNetwork>,
}

/// The account, as far as this node touches it.
#[derive(Debug, Clone)]
pub(crate) struct Ec2 {
    instance: InstanceId,
    places: usize,
    most_enis: usize,
    enis: BTreeMap<EniId, Eni>,
    ponds: Vec<Pond>,
    next_eni: u16,
}

impl Ec2 {
    /// A node with its primary ENI.
    pub(crate) fn new(settings: &Settings, subnets: &[Subnet]) -> Self {
        let limits = settings.limits;
        let mut ec2 = Self {
            instance: settings.instance.clone(),
            places: usize::try_from(limits.ipv4_per_eni.saturating_sub(1)).unwrap_or(usize::MAX),
            most_enis: usize::try_from(limits.enis).unwrap_or(usize::MAX),
            enis: BTreeMap::new(),
            ponds: subnets.iter().zip(0u8..).map(|(left, n)| Pond::new(n, *left)).collect(),
            next_eni: 0,
        };
        if let Some(id) = ec2.make(0, Vec::new())
            && let Some(primary) = ec2.enis.get_mut(&id)
        {
            primary.seen.attachment = Some(AttachmentId::new("attach-0"));
            primary.seen.attached = true;
        }
        ec2
    }

    /// Addresses on ENIs of the node, prefixes among them, and ENIs.
    pub(crate) fn held(&self) -> (u32, u32, u32) {
        let enis = u32::try_from(self.enis.len()).unwrap_or(u32::MAX);
        self.enis.values().fold((0, 0, enis), |(addresses, prefixes, enis), eni| {
            let singles = u32::try_from(eni.seen.addresses.len()).unwrap_or(u32::MAX);
            let blocks = u32::try_from(eni.seen.prefixes.len()).unwrap_or(u32::MAX);
            (addresses + singles + blocks * PREFIX_SIZE, prefixes + blocks, enis)
        })
    }

    /// Every attached ENI as instance metadata shows it.
    pub(crate) fn metadata(&self) -> Vec<ObservedEni> {
        let attached = self.enis.values().filter(|eni| eni.seen.attached);
        let blind = |eni: &Eni| ObservedEni {
            attachment: None,
            instance: None,
            kind: None,
            tags: None,
            ..eni.seen.clone()
        };
        attached.map(blind).collect()
    }

    fn make(&mut self, pond: usize, tags: Vec<(Box<str>, Box<str>)>) -> Option<EniId> {
        let pond = self.ponds.get_mut(pond)?;
        let [high, low] = self.next_eni.to_be_bytes();
        let id = EniId::new(format!("eni-{}", self.next_eni));
        self.next_eni = self.next_eni.wrapping_add(1);
        let seen = ObservedEni {
            id: id.clone(),
            mac: Mac([2, 0, 0, 0, high, low]),
            attachment: None,
            instance: None,
            card: NetworkCard(0),
            device: DeviceIndex(0),
            subnet: pond.id.clone(),
            subnet_cidr: Some(pond.cidr),
            groups: vec![GroupId::new("sg-1")],
            primary: IpAddr::V4(Ipv4Addr::new(100, 64, high, low)),
            addresses: Vec::new(),
            prefixes: Vec::new(),
            kind: Some("interface".into()),
            tags: Some(tags),
            attached: false,
        };
        self.enis.insert(id.clone(), Eni { seen, deletable: 0 });
        Some(id)
    }

    /// Carries a call out. A detached ENI can be deleted from `deletable` on.
    ///
    /// # Errors
    /// Why EC2 refuses; nothing was done then.
    pub(crate) fn execute(
        &mut self,
        now: u64,
        deletable: u64,
        op: OpId,
        call: &Ec2Call,
    ) -> Result<Ec2Answer, FailureClass> {
        match call {
            Ec2Call::Assign { eni, by } => {
                let nets = self.grant_on(eni, *by)?;
                Ok(Ec2Answer::Assigned(nets))
            }
            // EC2 takes addresses or prefixes, not both.
            Ec2Call::Unassign { nets, .. } if nets.iter().any(|net| net.prefix() != nets[0].prefix()) => {
                Err(FailureClass::Invalid)
            }
            Ec2Call::Unassign { eni, nets } => {
                let eni = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                eni.seen.addresses.retain(|ip| !nets.contains(&IpNetwork::from(*ip)));
                eni.seen.prefixes.retain(|net| !nets.contains(net));
                let subnet = eni.seen.subnet.clone();
                self.give_back(&subnet, nets);
                Ok(Ec2Answer::Unassigned)
            }
            Ec2Call::Create { subnet, with, .. } => self.create(op, subnet, *with),
            Ec2Call::Attach { eni, device, .. } => {
                if self.enis.values().filter(|e| e.seen.attached).count() >= self.most_enis {
                    return Err(FailureClass::LimitExceeded);
                }
                let eni = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                let attachment = AttachmentId::new(format!("attach-{op}"));
                eni.seen.attachment = Some(attachment.clone());
                eni.seen.instance = Some(self.instance.clone());
                eni.seen.device = *device;
                eni.seen.attached = true;
                Ok(Ec2Answer::Attached(attachment))
            }
            Ec2Call::DeleteOnTermination { .. } => Ok(Ec2Answer::Modified),
            Ec2Call::Detach { eni, .. } => {
                let eni = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                eni.seen.attachment = None;
                eni.seen.instance = None;
                eni.seen.attached = false;
                eni.deletable = deletable;
                Ok(Ec2Answer::Detached)
            }
            Ec2Call::Delete { eni } => self.delete(now, eni),
            Ec2Call::SetGroups { eni, groups } => {
                let eni = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                eni.seen.groups.clone_from(groups);
                Ok(Ec2Answer::Modified)
            }
            // Nobody attaches ENIs without tags here.
            Ec2Call::Tag { .. } => Err(FailureClass::NotFound),
            Ec2Call::DescribeSubnets { only } => {
                let asked = self.ponds.iter().filter(|p| only.is_empty() || only.contains(&p.id));
                Ok(Ec2Answer::Subnets(asked.map(Pond::observed).collect()))
            }
            // Nobody else's ENIs are modelled.
            Ec2Call::FindDetached => Ok(Ec2Answer::Described(Vec::new())),
            Ec2Call::DescribeInstances { ids } => {
                let here = ids.iter().filter(|id| **id == self.instance);
                Ok(Ec2Answer::Instances(here.cloned().collect()))
            }
            Ec2Call::Describe { also } => {
                let all = self.enis.values().filter(|e| e.seen.attached || also.contains(&e.seen.id));
                Ok(Ec2Answer::Described(all.map(|e| e.seen.clone()).collect()))
            }
        }
    }

    fn create(&mut self, op: OpId, subnet: &SubnetId, with: GrowBy) -> Result<Ec2Answer, FailureClass> {
        let at = self.ponds.iter().position(|p| p.id == *subnet).ok_or(FailureClass::Invalid)?;
        let tags = vec![
            ("node.k8s.amazonaws.com/instance_id".into(), self.instance.as_str().into()),
            ("podwire.io/op".into(), op.to_string().into_boxed_str()),
        ];
        let id = self.make(at, tags).ok_or(FailureClass::Invalid)?;
        if let Err(class) = self.grant_on(&id, with) {
            self.enis.remove(&id);
            return Err(class);
        }
        let eni = self.enis.get(&id).ok_or(FailureClass::Invalid)?;
        Ok(Ec2Answer::Created(Box::new(eni.seen.clone())))
    }

    fn delete(&mut self, now: u64, id: &EniId) -> Result<Ec2Answer, FailureClass> {
        let eni = self.enis.get(id).ok_or(FailureClass::NotFound)?;
        if eni.seen.attached || now < eni.deletable {
            return Err(FailureClass::Busy);
        }
        let subnet = eni.seen.subnet.clone();
        let singles = eni.seen.addresses.iter().map(|ip| IpNetwork::from(*ip));
        let nets: Vec<IpNetwork> = singles.chain(eni.seen.prefixes.iter().copied()).collect();
        self.give_back(&subnet, &nets);
        self.enis.remove(id);
        Ok(Ec2Answer::Deleted)
    }

    fn grant_on(&mut self, id: &EniId, by: GrowBy) -> Result<Vec<IpNetwork>, FailureClass> {
        let eni = self.enis.get_mut(id).ok_or(FailureClass::NotFound)?;
        let (GrowBy::Addresses(wanted) | GrowBy::Prefixes(wanted)) = by;
        let taken = eni.seen.addresses.len() + eni.seen.prefixes.len();
        if taken.saturating_add(usize::try_from(wanted).unwrap_or(usize::MAX)) > self.places {
            return Err(FailureClass::LimitExceeded);
        }
        let pond = self.ponds.iter_mut().find(|p| p.id == eni.seen.subnet).ok_or(FailureClass::Invalid)?;
        let nets = pond.grant(by)?;
        for net in &nets {
            if net.prefix() == 32 {
                eni.seen.addresses.push(net.ip());
            } else {
                eni.seen.prefixes.push(*net);
            }
        }
        Ok(nets)
    }

    fn give_back(&mut self, subnet: &SubnetId, nets: &[IpNetwork]) {
        if let Some(pond) = self.ponds.iter_mut().find(|p| p.id == *subnet) {
            pond.take_back(nets);
        }
    }
}

impl Pond {
    fn new(number: u8, left: Subnet) -> Self {
        let base = IpAddr::V4(Ipv4Addr::new(10, number, 0, 0));
        Self {
            id: SubnetId::new(format!("subnet-{number}")),
            cidr: IpNetwork::new(base, 16).unwrap_or_else(|_| IpNetwork::from(base)),
            left,
            next_single: 1,
            next_prefix: 0,
            singles: VecDeque::new(),
            prefixes: VecDeque::new(),
        }
    }

    /// As DescribeSubnets shows it: meant for pods.
    fn observed(&self) -> ObservedSubnet {
        ObservedSubnet {
            id: self.id.clone(),
            cidr: Some(self.cidr),
            free: self.left.addresses,
            tags: vec![("kubernetes.io/role/cni".into(), "1".into())],
        }
    }

    /// EC2 gives all that is asked for, or nothing.
    fn grant(&mut self, by: GrowBy) -> Result<Vec<IpNetwork>, FailureClass> {
        match by {
            GrowBy::Addresses(n) => {
                if n > self.left.addresses {
                    return Err(FailureClass::SubnetExhausted);
                }
                self.left.addresses -= n;
                Ok((0..n).map(|_| self.single()).collect())
            }
            GrowBy::Prefixes(n) => {
                if n > self.left.prefixes {
                    return Err(FailureClass::SubnetFragmented);
                }
                if n.saturating_mul(PREFIX_SIZE) > self.left.addresses {
                    return Err(FailureClass::SubnetExhausted);
                }
                self.left.prefixes -= n;
                self.left.addresses -= n * PREFIX_SIZE;
                Ok((0..n).map(|_| self.prefix()).collect())
            }
        }
    }

    /// Singles come from the lower half of the /16, prefixes from the upper: fresh ones first.
    fn single(&mut self) -> IpNetwork {
        if self.next_single >= 1 << 15
            && let Some(ip) = self.singles.pop_front()
        {
            return IpNetwork::from(ip);
        }
        let net = self.at(self.next_single, 32);
        self.next_single += 1;
        net
    }

    fn prefix(&mut self) -> IpNetwork {
        if self.next_prefix >= 1 << 11
            && let Some(net) = self.prefixes.pop_front()
        {
            return net;
        }
        let net = self.at((1 << 15) + self.next_prefix * PREFIX_SIZE, 28);
        self.next_prefix += 1;
        net
    }

    fn at(&self, offset: u32, prefix_len: u8) -> IpNetwork {
        let base = match self.cidr.network() {
            IpAddr::V4(ip) => u32::from(ip),
            IpAddr::V6(_) => 0,
        };
        let ip = IpAddr::V4(Ipv4Addr::from(base + offset));
        IpNetwork::new(ip, prefix_len).unwrap_or_else(|_| IpNetwork::from(ip))
    }

    fn take_back(&mut self, nets: &[IpNetwork]) {
        for net in nets {
            if net.prefix() == 32 {
                self.singles.push_back(net.ip());
                self.left.addresses += 1;
            } else {
                self.prefixes.push_back(*net);
                self.left.addresses += PREFIX_SIZE;
                self.left.prefixes += 1;
            }
        }
    }
}
