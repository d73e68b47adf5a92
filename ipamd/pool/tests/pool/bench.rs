//! A small obedient world for the pool's own tests: EC2, host and disk answer at once unless told otherwise. The
//! disobedient one is `podwire-sim`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{
    Answer, AttachmentId, BootId, DeviceIndex, Ec2Answer, Ec2Call, Ec2Failure, Effect, EniId, FailureClass,
    GroupId, GrowBy, HostChange, Input, InstanceId, Mac, NetworkCard, ObservedEni, ObservedSubnet, PodRef,
    Pool, Record, RequestId, Revision, SandboxKey, Settings, SubnetId, Time,
};

/// A t3.small: 3 ENIs with 4 addresses each.
pub(crate) fn settings() -> Settings {
    Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("boot-1"),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 3, ipv4_per_eni: 4 },
        max_eni: None,
        max_pods: 110,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: Duration::from_secs(30),
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::ZERO,
        seed: 7,
    }
}

pub(crate) fn key(name: &str) -> SandboxKey {
    SandboxKey::new(name, "eth0")
}

pub(crate) fn pod(name: &str) -> PodRef {
    PodRef { namespace: "default".into(), name: name.into(), uid: "".into(), network: "aws-cni".into() }
}

pub(crate) fn eni(id: &str, device: u32) -> ObservedEni {
    let number = u8::try_from(device).unwrap();
    ObservedEni {
        id: EniId::new(id),
        mac: Mac([2, 0, 0, 0, 0, number]),
        attachment: Some(AttachmentId::new(format!("attach-{id}"))),
        instance: Some(InstanceId::new("i-1")),
        card: NetworkCard(0),
        device: DeviceIndex(device),
        subnet: SubnetId::new("subnet-1"),
        subnet_cidr: Some("10.0.0.0/16".parse().unwrap()),
        groups: vec![GroupId::new("sg-1")],
        primary: IpAddr::V4(Ipv4Addr::new(10, 0, 255, number)),
        addresses: Vec::new(),
        prefixes: Vec::new(),
        kind: Some("interface".into()),
        tags: Some(vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())]),
        attached: true,
    }
}

pub(crate) struct Bench {
    pub(crate) pool: Pool,
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    pub(crate) enis: BTreeMap<EniId, ObservedEni>,
    pub(crate) answers: BTreeMap<u64, Answer>,
    pub(crate) log: Vec<Record>,
    pub(crate) pending: Vec<Effect>,
    pub(crate) all_calls: Vec<Ec2Call>,
    pub(crate) all_hosts: Vec<HostChange>,
    pub(crate) causes: Vec<podwire_pool::Cause>,
    pub(crate) disk_holds: bool,
    pub(crate) ec2_holds: bool,
    pub(crate) host_holds: bool,
    /// The host has no device for any ENI but the primary one.
    pub(crate) host_fails: bool,
    /// The role may not tag.
    pub(crate) denies_tags: bool,
    /// Answers of EC2 that fail, first come first.
    pub(crate) failures: Vec<FailureClass>,
    /// Places of which nothing is to be seen, and which are taken.
    pub(crate) taken: BTreeSet<DeviceIndex>,
    /// What the next Describe leaves out though it exists.
    pub(crate) left_out: Option<EniId>,
    /// Calls that work before they do.
    works_first: u32,
    calls: Vec<Ec2Call>,
    hosts: Vec<HostChange>,
    next_address: u32,
    next_prefix: u32,
    next_eni: u32,
    persist: Option<Revision>,
    pub(crate) free_addresses: u32,
    pub(crate) fragmented: bool,
    pub(crate) removed: BTreeSet<EniId>,
    /// Instances that do not exist any more.
    pub(crate) dead: BTreeSet<InstanceId>,
    /// What DescribeSubnets answers.
    pub(crate) subnets: Vec<ObservedSubnet>,
    /// Subnets without a free address.
    pub(crate) dry: BTreeSet<SubnetId>,
    /// What fails however often it is tried, by a word in the call's or change's debug text.
    pub(crate) broken: Option<&'static str>,
    /// As what EC2's part of that fails.
    pub(crate) broken_as: FailureClass,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        let pool = Pool::new(settings.clone());
        Self::with(pool, settings)
    }

    pub(crate) fn with(pool: Pool, settings: Settings) -> Self {
        let primary = eni("eni-0", 0);
        Self {
            pool,
            settings,
            now: Time::from_ms(100_000),
            enis: [(primary.id.clone(), primary)].into(),
            answers: BTreeMap::new(),
            log: Vec::new(),
            pending: Vec::new(),
            all_calls: Vec::new(),
            all_hosts: Vec::new(),
            causes: Vec::new(),
            disk_holds: false,
            ec2_holds: false,
            host_holds: false,
            host_fails: false,
            denies_tags: false,
            failures: Vec::new(),
            taken: BTreeSet::new(),
            left_out: None,
            works_first: 0,
            calls: Vec::new(),
            hosts: Vec::new(),
            next_address: 1,
            next_prefix: 0,
            next_eni: 1,
            persist: None,
            free_addresses: 10_000,
            fragmented: false,
            removed: BTreeSet::new(),
            subnets: Vec::new(),
            dry: BTreeSet::new(),
            dead: BTreeSet::new(),
            broken: None,
            broken_as: FailureClass::Busy,
        }
    }

    pub(crate) fn restart(&mut self, records: Vec<Record>) {
        self.pool = Pool::recover(self.settings.clone(), true, records.clone(), self.now);
        self.log = records;
        self.pending.clear();
        self.persist = None;
        self.input(Input::Timer);
    }

    pub(crate) fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.pool.handle(self.now, input, &mut effects);
        self.pool.check().unwrap();
        self.calls.clear();
        self.hosts.clear();
        for effect in effects {
            match effect {
                Effect::Persist { revision, records } => {
                    self.log.extend(records);
                    self.persist = Some(revision);
                }
                Effect::Reply { request, answer } => {
                    let before = self.answers.insert(request.0, answer);
                    assert_eq!(before, None, "answered twice");
                }
                Effect::Ec2 { op, call } => {
                    self.calls.push(call.clone());
                    self.all_calls.push(call.clone());
                    self.pending.push(Effect::Ec2 { op, call });
                }
                Effect::Host { op, change } => {
                    self.hosts.push(change.clone());
                    self.all_hosts.push(change.clone());
                    self.pending.push(Effect::Host { op, change });
                }
                Effect::Explain(cause) => self.causes.push(cause),
            }
        }
    }

    /// So many calls work, the next one fails.
    pub(crate) fn fail_after(&mut self, calls: u32, class: FailureClass) {
        (self.works_first, self.failures) = (calls, vec![class]);
    }

    /// EC2 calls of the last input.
    pub(crate) fn calls(&self) -> &[Ec2Call] {
        &self.calls
    }

    /// Host changes of the last input.
    pub(crate) fn hosts(&self) -> &[HostChange] {
        &self.hosts
    }

    pub(crate) fn answer(&self, request: u64) -> Option<Answer> {
        self.answers.get(&request).cloned()
    }

    pub(crate) fn add(&mut self, request: u64, name: &str) {
        self.add_until(request, name, self.now, self.now.after(Duration::from_secs(75)));
    }

    pub(crate) fn add_until(&mut self, request: u64, name: &str, started: Time, deadline: Time) {
        self.input(Input::Allocate {
            request: RequestId(request),
            sandbox: key(name),
            pod: pod(name),
            started,
            deadline,
        });
    }

    pub(crate) fn del(&mut self, request: u64, name: &str) {
        self.input(Input::Release { request: RequestId(request), sandbox: key(name), started: self.now });
    }

    /// Lets the world answer until nothing is open.
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.disk_holds
                && let Some(revision) = self.persist.take()
            {
                self.input(Input::Persisted { revision });
                continue;
            }
            let open = self.pending.iter().position(|e| match e {
                Effect::Ec2 { .. } => !self.ec2_holds,
                _ => !self.host_holds,
            });
            let Some(open) = open else { return };
            match self.pending.remove(open) {
                Effect::Ec2 { op, call } => {
                    let outcome = self.ec2(&call);
                    self.input(Input::Ec2 { op, outcome });
                }
                Effect::Host { op, change } => {
                    let secondary = |device: &DeviceIndex| device.0 > 0;
                    let absent =
                        matches!(&change, HostChange::ConfigureEni { device, .. } if secondary(device));
                    let fails = (self.host_fails && absent) || self.fails(&change);
                    let outcome = if fails { Err("broken".into()) } else { Ok(()) };
                    self.input(Input::Host { op, outcome });
                }
                _ => {}
            }
        }
        panic!("the pool never comes to rest");
    }

    /// EC2 answers the call that is open longest, and no other.
    pub(crate) fn answer_one(&mut self) {
        let open = self.pending.iter().position(|e| matches!(e, Effect::Ec2 { .. }));
        if let Some(open) = open
            && let Effect::Ec2 { op, call } = self.pending.remove(open)
        {
            let outcome = self.ec2(&call);
            self.input(Input::Ec2 { op, outcome });
        }
    }

    /// Lets time go by, stopping at each of the pool's deadlines.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        for _ in 0..10_000 {
            self.run();
            match self.pool.next_deadline().filter(|at| *at <= end) {
                Some(at) => {
                    assert!(at > self.now, "a deadline in the past");
                    self.now = at;
                    self.input(Input::Timer);
                }
                None => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the pool's timer never comes to rest");
    }

    fn grant(&mut self, by: GrowBy) -> Result<Vec<IpNetwork>, FailureClass> {
        match by {
            GrowBy::Addresses(n) => {
                if n > self.free_addresses {
                    return Err(FailureClass::SubnetExhausted);
                }
                self.free_addresses -= n;
                let first = self.next_address;
                self.next_address += n;
                let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
                Ok((first..first + n).map(|i| IpNetwork::from(IpAddr::V4((base + i).into()))).collect())
            }
            GrowBy::Prefixes(n) => {
                if self.fragmented {
                    return Err(FailureClass::SubnetFragmented);
                }
                let base = u32::from(Ipv4Addr::new(10, 0, 128, 0));
                let first = self.next_prefix;
                self.next_prefix += n;
                let nets = (first..first + n).map(|i| {
                    IpNetwork::new(IpAddr::V4((base + 16 * i).into()), 28).expect("a /28 is a network")
                });
                Ok(nets.collect())
            }
        }
    }

    fn give(&mut self, id: &EniId, nets: &[IpNetwork]) {
        let eni = self.enis.get_mut(id).unwrap();
        for net in nets {
            if net.prefix() == 32 { eni.addresses.push(net.ip()) } else { eni.prefixes.push(*net) }
        }
        let held = eni.addresses.len() + eni.prefixes.len() + 1;
        assert!(held <= usize::try_from(self.settings.limits.ipv4_per_eni).unwrap(), "ENI over its limit");
    }

    fn fails(&self, what: &impl std::fmt::Debug) -> bool {
        self.broken.is_some_and(|word| format!("{what:?}").contains(word))
    }

    /// What a test told to fail.
    fn failure_of(&mut self, call: &Ec2Call) -> Option<Ec2Failure> {
        if self.fails(call) {
            let class = self.broken_as;
            return Some(Ec2Failure { class, code: "Broken".into(), message: "as told".into() });
        }
        if !matches!(call, Ec2Call::Describe { .. }) && !self.failures.is_empty() {
            if self.works_first > 0 {
                self.works_first -= 1;
            } else {
                let class = self.failures.remove(0);
                return Some(Ec2Failure { class, code: "Told".into(), message: "to fail".into() });
            }
        }
        // *Source*: EC2 API reference, UnassignPrivateIpAddresses: addresses or prefixes, not both.
        if let Ec2Call::Unassign { nets, .. } = call
            && nets.iter().any(|net| net.prefix() != nets[0].prefix())
        {
            let class = FailureClass::Invalid;
            return Some(Ec2Failure { class, code: "Mixed".into(), message: "one kind at a time".into() });
        }
        let subnet = match call {
            Ec2Call::Assign { eni, .. } => &self.enis[eni].subnet,
            Ec2Call::Create { subnet, .. } => subnet,
            _ => return None,
        };
        let class = FailureClass::SubnetExhausted;
        self.dry.contains(subnet).then(|| Ec2Failure { class, code: "No".into(), message: "no".into() })
    }

    fn seen(&mut self) -> Vec<ObservedEni> {
        let left_out = self.left_out.take();
        self.enis.values().filter(|eni| left_out.as_ref() != Some(&eni.id)).cloned().collect()
    }

    fn ec2(&mut self, call: &Ec2Call) -> Result<Ec2Answer, Ec2Failure> {
        if let Some(failure) = self.failure_of(call) {
            return Err(failure);
        }
        let fail = |class| Ec2Failure { class, code: "No".into(), message: "no".into() };
        match call {
            Ec2Call::Assign { eni, by } => {
                let nets = self.grant(*by).map_err(fail)?;
                self.give(eni, &nets);
                Ok(Ec2Answer::Assigned(nets))
            }
            Ec2Call::Unassign { eni, nets } => {
                let eni = self.enis.get_mut(eni).unwrap();
                eni.addresses.retain(|ip| !nets.contains(&IpNetwork::from(*ip)));
                eni.prefixes.retain(|net| !nets.contains(net));
                Ok(Ec2Answer::Unassigned)
            }
            Ec2Call::Create { with, subnet, groups } => {
                let nets = self.grant(*with).map_err(fail)?;
                let mut new = eni(&format!("eni-{}", self.next_eni), 0);
                let number = u8::try_from(self.next_eni).unwrap();
                new.mac = Mac([2, 0, 0, 0, 1, number]);
                new.primary = IpAddr::V4(Ipv4Addr::new(10, 0, 254, number));
                (new.attached, new.attachment, new.instance) = (false, None, None);
                (new.subnet, new.groups) = (subnet.clone(), groups.clone());
                self.next_eni += 1;
                let id = new.id.clone();
                self.enis.insert(id.clone(), new);
                self.give(&id, &nets);
                Ok(Ec2Answer::Created(Box::new(self.enis[&id].clone())))
            }
            Ec2Call::Attach { device, .. } if self.taken.contains(device) => Err(fail(FailureClass::Invalid)),
            Ec2Call::Attach { eni, card, device } => {
                let taken = self.enis.values().any(|e| e.attached && e.device == *device);
                assert!(!taken, "device index taken");
                let attachment = AttachmentId::new(format!("attach-{eni}"));
                let eni = self.enis.get_mut(eni).unwrap();
                (eni.attached, eni.card, eni.device) = (true, *card, *device);
                (eni.attachment, eni.instance) = (Some(attachment.clone()), Some(InstanceId::new("i-1")));
                Ok(Ec2Answer::Attached(attachment))
            }
            Ec2Call::DeleteOnTermination { .. } => Ok(Ec2Answer::Modified),
            Ec2Call::Detach { eni, .. } => {
                let eni = self.enis.get_mut(eni).unwrap();
                (eni.attached, eni.attachment, eni.instance) = (false, None, None);
                Ok(Ec2Answer::Detached)
            }
            Ec2Call::Delete { eni } => {
                let gone = self.enis.remove(eni).expect("deleting what exists");
                assert!(!gone.attached, "deleting what is attached");
                self.removed.insert(gone.id);
                Ok(Ec2Answer::Deleted)
            }
            Ec2Call::Describe { .. } => Ok(Ec2Answer::Described(self.seen())),
            Ec2Call::SetGroups { .. } => Ok(Ec2Answer::Modified),
            Ec2Call::Tag { .. } if self.denies_tags => Err(fail(FailureClass::Denied)),
            Ec2Call::Tag { eni } => {
                let tags = vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())];
                self.enis.get_mut(eni).unwrap().tags = Some(tags);
                Ok(Ec2Answer::Tagged)
            }
            Ec2Call::DescribeSubnets { .. } => Ok(Ec2Answer::Subnets(self.subnets.clone())),
            Ec2Call::FindDetached => {
                Ok(Ec2Answer::Described(self.enis.values().filter(|e| !e.attached).cloned().collect()))
            }
            Ec2Call::DescribeInstances { ids } => {
                Ok(Ec2Answer::Instances(ids.iter().filter(|id| !self.dead.contains(*id)).cloned().collect()))
            }
        }
    }
}
