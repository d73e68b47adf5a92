//! Plays a scenario: virtual time, one event after the other, each answered as the model says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use podwire_pool::settings::{Mode, Settings};
use podwire_pool::{
    Answer, DeviceIndex, Ec2Answer, Ec2Call, Ec2Failure, Effect, EniId, FailureClass, HostChange, Input,
    NetworkCard, OpId, PodRef, Pool, RequestId, Revision, SandboxKey, Snapshot, SnapshotSource, Time,
};

use crate::chance::{Chance, millis};
use crate::ec2::Ec2;
use crate::meter::{Meter, PREFIX_SIZE};
use crate::model::{Bucket, Model};
use crate::report::{Ec2Calls, Report, Sample, Waits};
use crate::scenario::{Change, Scenario};

/// The node's first moment on its own clock. *Unit*: ms. *Source*: our choice; a machine boots for a while.
const BOOTED: u64 = 20_000;
/// Between two samples. *Unit*: ms.
const SAMPLE_EVERY: u64 = 1_000;

/// Something that will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Bound(u32),
    Add(u32),
    Del(u32),
    Ec2(OpId, Ec2Call, Option<FailureClass>),
    Host(OpId),
    Persisted(Revision),
    Sample,
}

/// A pod that is here.
#[derive(Debug, Clone)]
struct Pod {
    /// When its first ADD came.
    came: u64,
    /// There was a place for it on the ENIs as they were.
    had_room: bool,
    /// How many ADDs it needed so far; each is a sandbox of its own.
    tries: u32,
    served: bool,
}

struct Engine {
    model: Model,
    settings: Settings,
    binding_known: bool,
    now: u64,
    end: u64,
    chance: Chance,
    pool: Pool,
    ec2: Ec2,
    buckets: BTreeMap<&'static str, Bucket>,
    /// When each ENI's device is there.
    devices: BTreeMap<EniId, u64>,
    agenda: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    next_request: u64,
    asked: BTreeMap<RequestId, u32>,
    bound: BTreeSet<u32>,
    pods: BTreeMap<u32, Pod>,
    meter: Meter,
    calls: Ec2Calls,
    near: Vec<Duration>,
    far: Vec<Duration>,
    refused: u32,
    never: u32,
}

/// Plays a scenario to its end.
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    let mut engine = Engine::new(scenario);
    engine.boot();
    engine.play();
    engine.finish()
}

impl Engine {
    fn new(scenario: &Scenario) -> Self {
        let settings = scenario.settings.clone();
        let mut engine = Self {
            model: scenario.model.clone(),
            binding_known: scenario.binding_known,
            now: BOOTED,
            end: BOOTED.saturating_add(millis(scenario.lasts)),
            chance: Chance::new(scenario.seed),
            pool: Pool::new(settings.clone()),
            ec2: Ec2::new(&settings, &scenario.subnets),
            buckets: BTreeMap::new(),
            devices: BTreeMap::new(),
            agenda: BTreeMap::new(),
            next_event: 0,
            next_request: 1,
            asked: BTreeMap::new(),
            bound: BTreeSet::new(),
            pods: BTreeMap::new(),
            meter: Meter::new(settings.mode),
            calls: Ec2Calls::default(),
            near: Vec::new(),
            far: Vec::new(),
            refused: 0,
            never: 0,
            settings,
        };
        let mut steps = scenario.workload.clone();
        steps.sort_unstable();
        for step in steps {
            let at = BOOTED.saturating_add(millis(step.at));
            match step.change {
                Change::Start => engine.plan(at, Event::Bound(step.pod)),
                Change::Stop => engine.plan(at, Event::Del(step.pod)),
            }
        }
        engine.plan(BOOTED, Event::Sample);
        engine
    }

    /// Events of one moment happen in the order in which they were planned.
    fn plan(&mut self, at: u64, event: Event) {
        self.agenda.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn boot(&mut self) {
        let enis = self.ec2.metadata();
        let as_of = OpId(u64::MAX);
        self.input(Input::Observed(Snapshot { source: SnapshotSource::Metadata, as_of, enis }));
    }

    fn play(&mut self) {
        loop {
            let planned = self.agenda.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let due = self.pool.next_deadline().map_or(u64::MAX, Time::as_ms);
            let next = planned.min(due);
            if next > self.end {
                return;
            }
            self.now = next;
            if due < planned {
                self.input(Input::Timer);
            } else if let Some((_, event)) = self.agenda.pop_first() {
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Bound(pod) => {
                self.bound.insert(pod);
                self.tell_bound();
                let at = self.now + millis(self.model.wiring.draw(&mut self.chance));
                self.plan(at, Event::Add(pod));
            }
            Event::Add(pod) => self.add(pod),
            Event::Del(pod) => self.del(pod),
            Event::Ec2(op, call, refusal) => self.answer_ec2(op, &call, refusal),
            Event::Host(op) => self.input(Input::Host { op, outcome: Ok(()) }),
            Event::Persisted(revision) => self.input(Input::Persisted { revision }),
            Event::Sample => {
                self.sample();
                self.plan(self.now + SAMPLE_EVERY, Event::Sample);
            }
        }
    }

    fn tell_bound(&mut self) {
        if self.binding_known {
            let bound = u32::try_from(self.bound.len()).ok();
            self.input(Input::Demand { bound });
        }
    }

    fn add(&mut self, pod: u32) {
        if !self.bound.contains(&pod) {
            return;
        }
        let had_room = self.has_room();
        let known = self.pods.entry(pod).or_insert(Pod { came: self.now, had_room, tries: 0, served: false });
        known.tries += 1;
        let sandbox = sandbox(pod, known.tries);
        let request = self.request(pod);
        let started = Time::from_ms(self.now);
        self.input(Input::Allocate {
            request,
            sandbox,
            pod: PodRef::default(),
            started,
            deadline: started.after(self.model.add_deadline),
        });
    }

    fn del(&mut self, pod: u32) {
        if !self.bound.remove(&pod) {
            return;
        }
        if let Some(known) = self.pods.remove(&pod) {
            self.never += u32::from(!known.served);
            let request = self.request(pod);
            let started = Time::from_ms(self.now);
            self.input(Input::Release { request, sandbox: sandbox(pod, known.tries), started });
        }
        self.tell_bound();
    }

    fn request(&mut self, pod: u32) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.asked.insert(request, pod);
        request
    }

    /// Whether the ENIs that are ready have a place that no pod, no cooldown and nobody in the queue takes.
    fn has_room(&self) -> bool {
        let stats = self.pool.stats();
        let unit = match self.settings.mode {
            Mode::SecondaryIp => 1,
            Mode::Prefix => PREFIX_SIZE,
        };
        let ready = 1 + self.devices.values().filter(|at| **at <= self.now).count();
        let places = self.settings.limits.ipv4_per_eni.saturating_sub(1) * unit;
        let room = u32::try_from(ready).unwrap_or(u32::MAX).saturating_mul(places);
        stats.allocated + stats.releasing + stats.cooling + stats.waiting < room
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.pool.handle(Time::from_ms(self.now), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist { revision, .. } => {
                    let at = self.now + millis(self.model.disk.draw(&mut self.chance));
                    self.plan(at, Event::Persisted(revision));
                }
                Effect::Reply { request, answer } => self.replied(request, &answer),
                Effect::Ec2 { op, call } => self.ask_ec2(op, call),
                Effect::Host { op, change } => {
                    let at = self.host_done(&change);
                    self.plan(at, Event::Host(op));
                }
                Effect::Explain(_) => {}
            }
        }
    }

    fn replied(&mut self, request: RequestId, answer: &Answer) {
        let Some(number) = self.asked.remove(&request) else { return };
        let Some(pod) = self.pods.get_mut(&number) else { return };
        match answer {
            Answer::Allocated { .. } => {
                pod.served = true;
                let waited = Duration::from_millis(self.now - pod.came);
                if pod.had_room { self.near.push(waited) } else { self.far.push(waited) }
            }
            Answer::Refused(_) => {
                self.refused += 1;
                self.plan(self.now + millis(self.model.retry), Event::Add(number));
            }
            Answer::Released(_) | Answer::Collected(_) | Answer::Leaks(_) => {}
        }
    }

    fn ask_ec2(&mut self, op: OpId, call: Ec2Call) {
        let (action, takes, reads) = match &call {
            Ec2Call::Assign { .. } => ("AssignPrivateIpAddresses", self.model.assign, false),
            Ec2Call::Unassign { .. } => ("UnassignPrivateIpAddresses", self.model.assign, false),
            Ec2Call::Create { .. } => ("CreateNetworkInterface", self.model.create, false),
            Ec2Call::Attach { .. } => ("AttachNetworkInterface", self.model.attach, false),
            Ec2Call::DeleteOnTermination { .. } => {
                ("ModifyNetworkInterfaceAttribute", self.model.other, false)
            }
            Ec2Call::Detach { .. } => ("DetachNetworkInterface", self.model.other, false),
            Ec2Call::Delete { .. } => ("DeleteNetworkInterface", self.model.other, false),
            Ec2Call::SetGroups { .. } => ("ModifyNetworkInterfaceAttribute", self.model.other, false),
            Ec2Call::Tag { .. } => ("CreateTags", self.model.other, false),
            Ec2Call::Describe { .. } | Ec2Call::FindDetached => {
                ("DescribeNetworkInterfaces", self.model.other, true)
            }
            Ec2Call::DescribeSubnets { .. } => ("DescribeSubnets", self.model.other, true),
            Ec2Call::DescribeInstances { .. } => ("DescribeInstances", self.model.other, true),
        };
        *self.calls.by_action.entry(action).or_default() += 1;
        let budget = if reads { self.model.reading } else { self.model.changing };
        let granted = self.buckets.entry(action).or_insert_with(|| Bucket::full(budget)).take(self.now);
        let (takes, refusal) =
            if granted { (takes, None) } else { (self.model.throttled, Some(FailureClass::Throttled)) };
        let at = self.now + millis(takes.draw(&mut self.chance));
        self.plan(at, Event::Ec2(op, call, refusal));
    }

    fn answer_ec2(&mut self, op: OpId, call: &Ec2Call, refusal: Option<FailureClass>) {
        let deletable = self.now + millis(self.model.detached.draw(&mut self.chance));
        let outcome = match refusal {
            Some(class) => Err(class),
            None => self.ec2.execute(self.now, deletable, op, call),
        };
        if let (Ok(Ec2Answer::Attached(_)), Ec2Call::Attach { eni, .. }) = (&outcome, call) {
            let there = self.now + millis(self.model.device.draw(&mut self.chance));
            self.devices.insert(eni.clone(), there);
        }
        if let (Ok(_), Ec2Call::Detach { eni, .. }) = (&outcome, call) {
            self.devices.remove(eni);
        }
        let outcome = outcome.map_err(|class| {
            if class == FailureClass::Throttled {
                self.calls.throttled += 1
            } else {
                self.calls.failed += 1
            }
            Ec2Failure { class, code: "whatif".into(), message: "the modelled EC2 refuses".into() }
        });
        self.input(Input::Ec2 { op, outcome });
    }

    /// When a change of the host is done: a new ENI's device has to be there first.
    fn host_done(&mut self, change: &HostChange) -> u64 {
        let first = |card: &NetworkCard, device: &DeviceIndex| card.0 == 0 && device.0 == 0;
        let (from, takes) = match change {
            HostChange::ConfigureEni { eni, card, device, .. } if !first(card, device) => {
                (self.devices.get(eni).copied().unwrap_or(self.now), self.model.configure)
            }
            HostChange::ConfigureEni { .. }
            | HostChange::AddSources { .. }
            | HostChange::RemoveSources { .. }
            | HostChange::RemoveEni { .. }
            | HostChange::Flush { .. } => (self.now, self.model.host),
        };
        from.max(self.now) + millis(takes.draw(&mut self.chance))
    }

    fn sample(&mut self) {
        let stats = self.pool.stats();
        let (held, prefixes, enis) = self.ec2.held();
        self.meter.take(Sample {
            held,
            pods: stats.allocated,
            waiting: stats.waiting,
            cooling: stats.cooling + stats.releasing,
            enis,
            prefixes,
        });
    }

    fn finish(self) -> Report {
        let unserved = self.pods.values().filter(|pod| !pod.served).count();
        let (with_room, without_room) = (Waits::new(self.near), Waits::new(self.far));
        Report {
            held: self.meter.finish(),
            calls: self.calls,
            all: Waits::joined([&with_room, &without_room]),
            with_room,
            without_room,
            refused: self.refused,
            never: self.never + u32::try_from(unserved).unwrap_or(u32::MAX),
            hurried: self.pool.stats().hurried,
        }
    }
}

/// Each ADD after a refused one is for a new sandbox.
fn sandbox(pod: u32, tries: u32) -> SandboxKey {
    SandboxKey::new(format!("pod-{pod}-{tries}"), "eth0")
}
