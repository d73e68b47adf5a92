//! EC2 as it truly is: the only place where assignments and attachments are facts.

mod others;
mod subnet;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use podwire_pool::{
    AttachmentId, DeviceIndex, Ec2Answer, Ec2Call, EniId, FailureClass, GroupId, GrowBy, InstanceId, Mac,
    NetworkCard, ObservedEni, OpId, SubnetId,
};

pub use subnet::Subnet;

/// How long ago a Describe may look at most. *Unit*: ms. Within what the pool allows for (its `DESCRIBE_LAG` is 10 s),
/// together with late execution.
pub const LAG_MS: u64 = 5_000;

/// Earlier states kept at most. *Source*: our choice.
const STATES: usize = 64;

/// One ENI in truth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrueEni {
    /// As everybody would see it now.
    pub seen: Facts,
    /// Made by the pool or this instance's primary; anything else must never be touched.
    pub ours: bool,
}

/// An ENI's facts, in a form that can be hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Its id.
    pub id: EniId,
    /// Its MAC.
    pub mac: Mac,
    /// Attachment and device index, while attached.
    pub place: Option<(AttachmentId, DeviceIndex)>,
    /// Which subnet it is in.
    pub subnet: SubnetId,
    /// Its security groups.
    pub groups: Vec<GroupId>,
    /// EC2 calls it "attaching" until then; its device is not there yet.
    pub attached_from: u64,
    /// Detached, but EC2 calls it "detaching" until then.
    pub detaching: Option<(AttachmentId, DeviceIndex, u64)>,
    /// What EC2 calls its kind.
    pub kind: &'static str,
    /// Its network card.
    pub card: NetworkCard,
    /// Its own address.
    pub primary: IpAddr,
    /// Single addresses for pods.
    pub singles: BTreeSet<IpAddr>,
    /// Prefixes for pods.
    pub prefixes: BTreeSet<IpNetwork>,
    /// It goes with the instance.
    pub goes_with_instance: bool,
    /// Its tags.
    pub tags: Vec<(Box<str>, Box<str>)>,
}

impl TrueEni {
    /// Whether this address is one of its pod addresses.
    #[must_use]
    pub fn carries(&self, ip: IpAddr) -> bool {
        self.seen.singles.contains(&ip) || self.seen.prefixes.iter().any(|p| p.contains(ip))
    }

    fn slots(&self) -> usize {
        self.seen.singles.len() + self.seen.prefixes.len()
    }

    /// Its place at that time, for as long as EC2 shows one.
    fn shown_place(&self, at: u64) -> Option<(&AttachmentId, DeviceIndex)> {
        let leaving = self.seen.detaching.as_ref().filter(|(_, _, until)| *until > at);
        let place = self.seen.place.as_ref().map(|(a, d)| (a, *d));
        place.or_else(|| leaving.map(|(a, d, _)| (a, *d)))
    }

    /// As Describe shows it at that time.
    #[must_use]
    pub fn observed(&self, instance: &InstanceId, at: u64) -> ObservedEni {
        let seen = &self.seen;
        let place = self.shown_place(at);
        ObservedEni {
            id: seen.id.clone(),
            mac: seen.mac,
            attachment: place.map(|(a, _)| a.clone()),
            instance: place.map(|_| instance.clone()),
            card: seen.card,
            device: place.map_or(DeviceIndex(0), |(_, d)| d),
            subnet: seen.subnet.clone(),
            subnet_cidr: None,
            groups: seen.groups.clone(),
            primary: seen.primary,
            addresses: seen.singles.iter().copied().collect(),
            prefixes: seen.prefixes.iter().copied().collect(),
            kind: Some(seen.kind.into()),
            tags: Some(seen.tags.clone()),
            attached: seen.place.is_some() && at >= seen.attached_from,
        }
    }
}

/// The account's truth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ec2 {
    /// This instance.
    pub instance: InstanceId,
    /// Every ENI that exists.
    pub enis: BTreeMap<EniId, TrueEni>,
    /// ENIs the instance takes.
    pub most_enis: usize,
    /// Pod addresses or prefixes an ENI takes.
    pub slots_per_eni: usize,
    /// The subnets of the zone; the first is the primary ENI's.
    pub subnets: Vec<Subnet>,
    /// The cluster's name, as ENIs of its nodes are tagged with it.
    pub cluster: Option<Box<str>>,
    /// Instances that exist besides this one.
    pub others: BTreeSet<InstanceId>,
    /// The time. *Unit*: ms, the world's.
    pub clock: u64,
    /// What attaching and detaching take. *Unit*: ms.
    pub moves_take: u64,
    /// ENIs without tags are ours to use (`MANAGE_UNTAGGED_ENI`).
    pub lends_untagged: bool,
    /// How far back somebody may look. *Unit*: ms.
    pub memory: u64,
    /// Freed addresses are handed out again at once, newest first, instead of last.
    pub recycle: bool,
    next_eni: u16,
    tokens: BTreeMap<OpId, EniId>,
    /// Earlier states, for those who look late.
    history: VecDeque<(u64, BTreeMap<EniId, TrueEni>)>,
}

impl Ec2 {
    /// An instance with its primary ENI.
    #[must_use]
    pub fn new(most_enis: usize, slots_per_eni: usize, free: u32) -> Self {
        let mut ec2 = Self {
            instance: InstanceId::new("i-1"),
            enis: BTreeMap::new(),
            most_enis,
            slots_per_eni,
            subnets: vec![Subnet::new(0, free)],
            cluster: None,
            others: BTreeSet::new(),
            clock: 0,
            moves_take: 0,
            lends_untagged: false,
            memory: 2 * LAG_MS,
            recycle: true,
            next_eni: 0,
            tokens: BTreeMap::new(),
            history: VecDeque::new(),
        };
        let id = ec2.make(0, vec![GroupId::new("sg-1")], Vec::new(), true);
        if let Some(eni) = ec2.enis.get_mut(&id) {
            eni.seen.place = Some((AttachmentId::new("attach-0"), DeviceIndex(0)));
        }
        ec2
    }

    fn make(
        &mut self,
        subnet: usize,
        groups: Vec<GroupId>,
        tags: Vec<(Box<str>, Box<str>)>,
        ours: bool,
    ) -> EniId {
        let number = self.next_eni;
        self.next_eni += 1;
        let [high, low] = number.to_be_bytes();
        let id = EniId::new(format!("eni-{number}"));
        let seen = Facts {
            id: id.clone(),
            mac: Mac([2, 0, 0, 0, high, low]),
            place: None,
            attached_from: 0,
            detaching: None,
            kind: "interface",
            card: NetworkCard(0),
            subnet: self.subnets[subnet].id.clone(),
            groups,
            primary: self.subnets[subnet].own(number),
            singles: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            goes_with_instance: false,
            tags,
        };
        self.enis.insert(id.clone(), TrueEni { seen, ours });
        id
    }

    fn attached(&self) -> usize {
        let card = |e: &&TrueEni| e.seen.card == NetworkCard(0);
        self.enis.values().filter(card).filter(|e| e.shown_place(self.clock).is_some()).count()
    }

    /// The ENI that truly carries a pod address, where one does and is attached here.
    #[must_use]
    pub fn carrier(&self, ip: IpAddr) -> Option<&TrueEni> {
        self.enis.values().find(|e| e.seen.place.is_some() && e.carries(ip))
    }

    /// The place on its ENI that an address takes: its own, or that of its prefix, which come from a range of their own.
    #[must_use]
    pub fn place_of(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if v4.octets()[2] >= 128 && v4.octets()[2] < 254 => {
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & !15))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => ip,
        }
    }

    /// Remembers the present for those who look late. To be called before every change.
    pub fn remember(&mut self, now: u64) {
        let old = |(at, _): &(u64, _)| at + self.memory < now;
        while self.history.len() > 1 && (self.history.front().is_some_and(old) || self.history.len() > STATES)
        {
            self.history.pop_front();
        }
        if self.history.back().is_none_or(|(_, enis)| *enis != self.enis) {
            self.history.push_back((now, self.enis.clone()));
        }
    }

    /// What EC2 shows to somebody who sees the state of `at`.
    fn as_of(&self, at: u64) -> &BTreeMap<EniId, TrueEni> {
        // Entry k was true until its time: the first entry recorded after `at` is what was true then.
        self.history.iter().find(|(until, _)| *until > at).map_or(&self.enis, |(_, enis)| enis)
    }

    /// DescribeNetworkInterfaces: this instance's and these ids, as of some moment.
    #[must_use]
    pub fn describe(&self, at: u64, also: &[EniId]) -> Vec<ObservedEni> {
        self.as_of(at)
            .values()
            .filter(|e| e.shown_place(at).is_some() || e.ours || also.contains(&e.seen.id))
            .map(|e| e.observed(&self.instance, at))
            .collect()
    }

    /// Instance metadata as of some moment: no tags, no attachment ids.
    #[must_use]
    pub fn metadata(&self, at: u64) -> Vec<ObservedEni> {
        let attached = self.as_of(at).values().filter(|e| e.seen.place.is_some());
        let blind = |e: ObservedEni| ObservedEni {
            tags: None,
            kind: None,
            attachment: None,
            instance: None,
            subnet_cidr: self.subnets.iter().find(|s| s.id == e.subnet).and_then(Subnet::cidr),
            ..e
        };
        attached.map(|e| blind(e.observed(&self.instance, u64::MAX))).collect()
    }

    /// Detached ENIs of the cluster's nodes, as of some moment.
    fn detached(&self, at: u64) -> Vec<ObservedEni> {
        let has = |e: &TrueEni, key: &str, value: Option<&str>| {
            e.seen.tags.iter().any(|(k, v)| &**k == key && value.is_none_or(|wanted| &**v == wanted))
        };
        let wanted = |e: &&TrueEni| {
            let owner = "node.k8s.amazonaws.com/instance_id";
            let ours = match &self.cluster {
                Some(name) => has(e, "cluster.k8s.amazonaws.com/name", Some(name)) && has(e, owner, None),
                None => has(e, owner, Some(self.instance.as_str())),
            };
            e.seen.place.is_none() && ours
        };
        self.as_of(at).values().filter(wanted).map(|e| e.observed(&self.instance, at)).collect()
    }

    /// Carries a call out, as far as EC2's rules allow.
    ///
    /// # Errors
    /// The class of EC2's refusal; nothing was done then.
    pub fn execute(
        &mut self,
        op: OpId,
        call: &Ec2Call,
        at: u64,
        partial: bool,
    ) -> Result<Ec2Answer, FailureClass> {
        match call {
            Ec2Call::Assign { eni, by } => {
                let known = self.enis.get(eni).ok_or(FailureClass::NotFound)?;
                let want = match by {
                    GrowBy::Addresses(n) | GrowBy::Prefixes(n) => usize::try_from(*n).unwrap_or(usize::MAX),
                };
                if known.slots().saturating_add(want) > self.slots_per_eni {
                    return Err(FailureClass::LimitExceeded);
                }
                let subnet = known.seen.subnet.clone();
                let nets = self.grant(&subnet, *by, partial)?;
                self.enter(eni, &nets);
                Ok(Ec2Answer::Assigned(nets))
            }
            Ec2Call::Unassign { eni, nets } => self.unassign(eni, nets),
            Ec2Call::Create { subnet, groups, with } => self.create(op, subnet, groups, *with, partial),
            Ec2Call::Attach { eni, device, .. } => self.attach(eni, *device),
            Ec2Call::DeleteOnTermination { eni, attachment } => {
                let known = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                if known.seen.place.as_ref().is_none_or(|(a, _)| a != attachment) {
                    return Err(FailureClass::NotFound);
                }
                known.seen.goes_with_instance = true;
                Ok(Ec2Answer::Modified)
            }
            Ec2Call::Detach { eni, attachment } => {
                let known = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                match &known.seen.place {
                    Some((a, device)) if a == attachment => {
                        let until = self.clock + self.moves_take;
                        known.seen.detaching = Some((a.clone(), *device, until));
                        known.seen.place = None;
                        Ok(Ec2Answer::Detached)
                    }
                    _ => Err(FailureClass::NotFound),
                }
            }
            Ec2Call::Delete { eni } => self.delete(eni),
            Ec2Call::Describe { also } => {
                let mut seen = self.describe(at, also);
                if partial {
                    seen.pop();
                }
                Ok(Ec2Answer::Described(seen))
            }
            Ec2Call::SetGroups { eni, groups } => {
                let known = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
                known.seen.groups.clone_from(groups);
                Ok(Ec2Answer::Modified)
            }
            Ec2Call::Tag { eni } => self.tag(eni),
            Ec2Call::DescribeSubnets { only } => Ok(Ec2Answer::Subnets(self.subnets_seen(only))),
            Ec2Call::FindDetached => Ok(Ec2Answer::Described(self.detached(at))),
            Ec2Call::DescribeInstances { ids } => {
                let here = |id: &&InstanceId| **id == self.instance || self.others.contains(*id);
                Ok(Ec2Answer::Instances(ids.iter().filter(here).cloned().collect()))
            }
        }
    }

    fn unassign(&mut self, eni: &EniId, nets: &[IpNetwork]) -> Result<Ec2Answer, FailureClass> {
        let known = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
        let present = |net: &IpNetwork| {
            if net.prefix() == 32 {
                known.seen.singles.contains(&net.ip())
            } else {
                known.seen.prefixes.contains(net)
            }
        };
        // *Source*: EC2 API reference, UnassignPrivateIpAddresses: addresses or prefixes, not both.
        let mixed = nets.iter().any(|net| net.prefix() != nets[0].prefix());
        if mixed || !nets.iter().all(present) {
            return Err(FailureClass::Invalid);
        }
        known.seen.singles.retain(|ip| !nets.contains(&IpNetwork::from(*ip)));
        known.seen.prefixes.retain(|net| !nets.contains(net));
        let subnet = known.seen.subnet.clone();
        self.put_back(&subnet, nets);
        Ok(Ec2Answer::Unassigned)
    }

    fn delete(&mut self, eni: &EniId) -> Result<Ec2Answer, FailureClass> {
        let known = self.enis.get(eni).ok_or(FailureClass::NotFound)?;
        if known.shown_place(self.clock).is_some() {
            return Err(FailureClass::Busy);
        }
        if let Some(gone) = self.enis.remove(eni) {
            let mut nets: Vec<IpNetwork> = gone.seen.singles.into_iter().map(IpNetwork::from).collect();
            nets.extend(gone.seen.prefixes);
            self.put_back(&gone.seen.subnet, &nets);
        }
        Ok(Ec2Answer::Deleted)
    }

    fn create(
        &mut self,
        op: OpId,
        subnet: &SubnetId,
        groups: &[GroupId],
        with: GrowBy,
        partial: bool,
    ) -> Result<Ec2Answer, FailureClass> {
        if let Some(made) = self.tokens.get(&op) {
            let eni = self.enis.get(made).ok_or(FailureClass::Invalid)?;
            return Ok(Ec2Answer::Created(Box::new(eni.observed(&self.instance, self.clock))));
        }
        let place = self.subnets.iter().position(|s| s.id == *subnet).ok_or(FailureClass::NotFound)?;
        let nets = self.grant(subnet, with, partial)?;
        let mut tags: Vec<(Box<str>, Box<str>)> = vec![
            ("node.k8s.amazonaws.com/instance_id".into(), self.instance.as_str().into()),
            ("podwire.io/op".into(), op.0.to_string().into_boxed_str()),
        ];
        tags.extend(self.cluster.clone().map(|name| ("cluster.k8s.amazonaws.com/name".into(), name)));
        let id = self.make(place, groups.to_vec(), tags, true);
        self.enter(&id, &nets);
        self.tokens.insert(op, id.clone());
        let eni = self.enis.get(&id).ok_or(FailureClass::Invalid)?;
        Ok(Ec2Answer::Created(Box::new(eni.observed(&self.instance, self.clock))))
    }

    fn attach(&mut self, eni: &EniId, device: DeviceIndex) -> Result<Ec2Answer, FailureClass> {
        if self.attached() >= self.most_enis {
            return Err(FailureClass::LimitExceeded);
        }
        let here = |e: &TrueEni| {
            e.seen.card == NetworkCard(0) && e.shown_place(self.clock).is_some_and(|(_, d)| d == device)
        };
        let taken = self.enis.values().any(here);
        let (clock, until) = (self.clock, self.clock + self.moves_take);
        let known = self.enis.get_mut(eni).ok_or(FailureClass::NotFound)?;
        if taken || known.shown_place(clock).is_some() {
            return Err(FailureClass::Invalid);
        }
        let attachment = AttachmentId::new(format!("attach-{eni}-{device}"));
        known.seen.place = Some((attachment.clone(), device));
        known.seen.detaching = None;
        known.seen.attached_from = until;
        Ok(Ec2Answer::Attached(attachment))
    }

    fn enter(&mut self, eni: &EniId, nets: &[IpNetwork]) {
        let Some(known) = self.enis.get_mut(eni) else { return };
        for net in nets {
            if net.prefix() == 32 {
                known.seen.singles.insert(net.ip());
            } else {
                known.seen.prefixes.insert(*net);
            }
        }
    }
}
