//! The world: the pool, everything around it, and the rules by which things may happen. It decides nothing by itself:
//! engines choose actions.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use podwire_pool::settings::Mode;
use podwire_pool::{
    AddressState, Answer, Cause, Ec2Answer, Ec2Call, Ec2Failure, Effect, EniId, FailureClass, GrowBy,
    HostChange, Input, OpId, Pool, Record, RequestId, Revision, Settings, Snapshot, SnapshotSource, Time,
};

use crate::ec2::{Ec2, LAG_MS};
use crate::host::Host;
use crate::marks::Marks;
use crate::oracle::{Oracle, Scene, Violation, broken};
use crate::runtime::{Ask, Life, Message, Runtime, key, pod_ref};

/// What becomes of an EC2 call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// EC2 does what its rules allow.
    Plain,
    /// EC2 grants less than was asked for.
    Partial,
    /// EC2 refuses, nothing is done.
    Refused(FailureClass),
    /// It is done, but the answer is lost.
    LostDone,
    /// It is not done, and the answer is lost.
    LostNot,
    /// The answer is given up on first; it is done afterwards.
    Late,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes to this moment, never past the pool's own deadline.
    Wait(u64),
    /// EC2 meets its fate with a call; its answer is on the way then. Describes look back so many ms.
    Exec(OpId, Fate, u64),
    /// EC2's answer arrives.
    Reply(OpId),
    /// A call the daemon gave up on is done now.
    Late(OpId),
    /// The host ends a change.
    Host(OpId, bool),
    /// The oldest unsynced revision is on disk.
    Fsync,
    /// The disk refuses it for now.
    FsyncFails,
    /// A plugin's message reaches the daemon.
    Arrive(RequestId),
    /// A pod's ADD begins; a new life under the same key or under a new one.
    Start(usize, bool),
    /// The plugin of a pod's ADD is killed.
    Kill(usize),
    /// A pod is torn down and its DEL begins.
    Stop(usize),
    /// The runtime's second DEL.
    Again(usize),
    /// The runtime forgets the pod.
    Forget(usize),
    /// GC with the runtime's list.
    Gc,
    /// Metadata is read; it looks back so many ms and leaves out so many of the last ENIs.
    Metadata(u64, usize),
    /// The API server tells how many pods are bound, or nothing.
    Demand(bool),
    /// The daemon dies after carrying out so many more effects; so many unsynced revisions reach the disk.
    Crash(usize, usize),
    /// The node reboots.
    Reboot,
    /// The ledger is compacted.
    Compact,
    /// Somebody attaches an ENI of theirs.
    Foreign,
    /// Somebody detaches an ENI of ours, or unassigns one of its addresses.
    Tamper(usize, bool),
    /// The subnet has so many more addresses, or fewer.
    Subnet(i64, bool),
    /// The daemon is told to stop, then starts anew.
    Restart,
}

/// An operation the pool asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Open {
    /// Of EC2; executed already when there is an outcome.
    Ec2(Ec2Call, Option<Result<Ec2Answer, Ec2Failure>>),
    /// Of the host.
    Host(HostChange),
}

/// The ledger on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    /// What a restart would read.
    pub durable: Vec<Record>,
    /// Written, not synced.
    pub unsynced: VecDeque<(Revision, Vec<Record>)>,
    /// The disk refuses for now.
    pub failing: bool,
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Inputs handled.
    pub steps: u64,
    /// Crashes.
    pub crashes: u64,
    /// ADDs answered with an address.
    pub adds: u64,
    /// ADDs refused.
    pub refused: u64,
    /// DELs answered.
    pub dels: u64,
    /// EC2 calls that change something.
    pub changes: u64,
    /// Describes.
    pub describes: u64,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct World {
    /// What the pool was told.
    pub settings: Settings,
    /// The pool.
    pub pool: Pool,
    /// *Unit*: ms of CLOCK_BOOTTIME.
    pub now: u64,
    /// EC2.
    pub ec2: Ec2,
    /// The kernel.
    pub host: Host,
    /// The ledger's disk.
    pub disk: Disk,
    /// Pods and plugins.
    pub runtime: Runtime,
    /// Operations without an answer.
    pub open: BTreeMap<OpId, Open>,
    /// Calls that will be done although nobody waits for them.
    pub late: BTreeMap<OpId, Ec2Call>,
    /// The judge.
    pub oracle: Oracle,
    /// Rare states reached.
    pub marks: Marks,
    /// Counts.
    pub tally: Tally,
    /// The next restart needs metadata.
    pub wants_metadata: bool,
    /// The daemon dies after so many more effects, with so many unsynced revisions kept.
    dying: Option<(usize, usize)>,
    last_op: OpId,
    /// A bug planted into every life of the pool.
    #[cfg(feature = "planted")]
    pub bug: Option<podwire_pool::Bug>,
    /// Every input and effect in words, when asked for.
    pub diary: Option<Vec<String>>,
}

impl World {
    /// A first boot.
    #[must_use]
    pub fn new(settings: Settings, ec2: Ec2, pods: usize) -> Self {
        Self {
            pool: Pool::new(settings.clone()),
            settings,
            now: 1_000_000,
            ec2,
            host: Host::default(),
            disk: Disk::default(),
            runtime: Runtime::new(pods),
            open: BTreeMap::new(),
            late: BTreeMap::new(),
            oracle: Oracle::default(),
            marks: Marks::default(),
            tally: Tally::default(),
            wants_metadata: true,
            dying: None,
            last_op: OpId(0),
            #[cfg(feature = "planted")]
            bug: None,
            diary: None,
        }
    }

    /// Plants a bug into this and all later lives of the pool.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: podwire_pool::Bug) {
        self.bug = Some(bug);
        self.pool.plant(bug);
    }

    /// What the oracle looks at.
    fn scene(&self, hurried: bool) -> Scene<'_> {
        Scene {
            now: self.now,
            cooldown: u64::try_from(self.settings.cooldown.as_millis()).unwrap_or(u64::MAX),
            hurried,
            ec2: &self.ec2,
            host: &self.host,
            runtime: &self.runtime,
        }
    }

    /// Something happens.
    ///
    /// # Errors
    /// The first invariant broken.
    pub fn step(&mut self, action: &Action) -> Result<(), Violation> {
        if let Some(diary) = &mut self.diary
            && !matches!(action, Action::Wait(_))
        {
            diary.push(format!("{:>9} {action:?}", self.now));
        }
        match action {
            Action::Wait(to) => self.wait(*to)?,
            Action::Exec(op, fate, age) => self.exec(*op, *fate, *age)?,
            Action::Reply(op) => self.reply(*op)?,
            Action::Late(op) => self.do_late(*op)?,
            Action::Host(op, works) => self.host_ends(*op, *works)?,
            Action::Fsync => self.fsync()?,
            Action::FsyncFails => self.fsync_fails()?,
            Action::Arrive(request) => self.arrive(*request)?,
            Action::Start(pod, same) => self.start(*pod, *same),
            Action::Kill(pod) => self.kill(*pod)?,
            Action::Stop(pod) => self.stop(*pod),
            Action::Again(pod) => self.again(*pod),
            Action::Forget(pod) => self.forget(*pod),
            Action::Gc => self.gc(),
            Action::Metadata(age, omit) => self.metadata(*age, *omit)?,
            Action::Demand(known) => {
                let bound = known.then(|| self.runtime.bound());
                self.input(Input::Demand { bound })?;
            }
            Action::Crash(after, keep) => {
                if *after == 0 {
                    self.crash(*keep)?;
                } else {
                    self.dying = Some((*after, *keep));
                }
            }
            Action::Reboot => self.reboot()?,
            Action::Compact => self.compact(),
            Action::Foreign => {
                self.ec2.remember(self.now);
                let came = self.ec2.attach_foreign().is_some();
                self.marks.sometimes("foreign ENI attached", came);
            }
            Action::Tamper(which, whole) => self.tamper(*which, *whole),
            Action::Subnet(more, fragmented) => {
                let free = i64::from(self.ec2.free) + more;
                self.ec2.free = u32::try_from(free.max(0)).unwrap_or(0);
                self.ec2.fragmented = *fragmented;
            }
            Action::Restart => {
                self.input(Input::Stop)?;
                self.crash(usize::MAX)?;
            }
        }
        self.oracle.judge_living(self.scene(false))
    }

    // ---- the pool ---------------------------------------------------------------------------------------------

    /// Hands an input to the pool and carries its effects out.
    fn input(&mut self, input: Input) -> Result<(), Violation> {
        self.tally.steps += 1;
        let metadata = matches!(&input, Input::Observed(s) if s.source == SnapshotSource::Metadata);
        let before = self.pool.stats().hurried;
        let mut effects = Vec::new();
        if let Some(diary) = &mut self.diary {
            diary.push(format!("{:>9} > {input:?}", self.now));
        }
        self.pool.handle(Time::from_ms(self.now), input, &mut effects);
        self.pool.check().map_err(|v| Violation { id: v.id, what: v.what })?;
        let hurried = self.pool.stats().hurried > before;
        self.marks.sometimes("cooling address used early", hurried);
        if let Some(diary) = &mut self.diary {
            diary.extend(effects.iter().map(|e| format!("{:>9}   < {e:?}", self.now)));
        }
        for effect in effects {
            if let Some((left, keep)) = self.dying {
                if left == 0 {
                    self.marks.reach("crash between effects");
                    return self.crash(keep);
                }
                self.dying = Some((left - 1, keep));
            }
            self.accept(effect, hurried, metadata)?;
        }
        if self.pool.next_deadline().is_some_and(|at| at.as_ms() <= self.now) {
            return broken("D10", "a deadline that is not ahead".to_owned());
        }
        Ok(())
    }

    fn accept(&mut self, effect: Effect, hurried: bool, metadata: bool) -> Result<(), Violation> {
        match effect {
            Effect::Persist { revision, records } => {
                let removal = |r: &Record| matches!(r, Record::Unassigned { .. } | Record::EniGone { .. });
                if metadata && records.iter().any(removal) {
                    return broken("S10", format!("metadata made the pool remove something: {records:?}"));
                }
                let mut oracle = std::mem::take(&mut self.oracle);
                let verdict = oracle.decided(self.scene(hurried), revision, &records);
                self.oracle = oracle;
                verdict?;
                self.disk.unsynced.push_back((revision, records));
                Ok(())
            }
            Effect::Reply { request, answer } => self.replied(request, answer),
            Effect::Ec2 { op, call } => {
                self.oracle.judge_call(self.scene(false), &call)?;
                self.judge_limits(&call)?;
                self.mark_call(&call);
                self.last_op = self.last_op.max(op);
                if self.open.insert(op, Open::Ec2(call, None)).is_some() {
                    return broken("S13", format!("operation {op} is used twice"));
                }
                Ok(())
            }
            Effect::Host { op, change } => {
                self.oracle.judge_change(self.scene(false), &change)?;
                self.last_op = self.last_op.max(op);
                if self.open.insert(op, Open::Host(change)).is_some() {
                    return broken("S13", format!("operation {op} is used twice"));
                }
                Ok(())
            }
            Effect::Explain(cause) => {
                self.marks.reach(match cause {
                    Cause::Quarantined { .. } => "quarantined",
                    Cause::SubnetExhausted { .. } => "subnet exhausted",
                    Cause::SubnetFragmented { .. } => "subnet fragmented",
                    Cause::Throttled { .. } => "throttled",
                    Cause::LedgerUnwritable { .. } => "ledger unwritable",
                    Cause::Host { .. } => "host not ready",
                    Cause::Denied { .. }
                    | Cause::Ec2 { .. }
                    | Cause::Starting
                    | Cause::SandboxDeleted { .. }
                    | Cause::NodeFull { .. }
                    | Cause::TooSlow { .. }
                    | Cause::QueueFull
                    | Cause::Stopping => "another cause explained",
                });
                Ok(())
            }
        }
    }

    /// S9: by what the pool itself knows, nothing beyond the instance's limits is asked for.
    fn judge_limits(&self, call: &Ec2Call) -> Result<(), Violation> {
        let limits = self.settings.limits;
        match call {
            Ec2Call::Assign { eni, by } => {
                let GrowBy::Addresses(n) = by else { return Ok(()) };
                let known = self.pool.rows().iter().filter(|r| r.eni == *eni).count();
                let room = usize::try_from(limits.ipv4_per_eni).unwrap_or(0).saturating_sub(1);
                let whole = self.settings.mode == Mode::SecondaryIp;
                if whole && known + usize::try_from(*n).unwrap_or(0) > room {
                    return broken("S9", format!("{n} more for {eni}, which has {known} of {room}"));
                }
                Ok(())
            }
            Ec2Call::Attach { eni, .. } => {
                let rows = self.pool.rows();
                let usable = [AddressState::Free, AddressState::Allocated];
                let stays = |id: &EniId| rows.iter().any(|r| r.eni == *id && usable.contains(&r.state));
                let here = self.ec2.enis.values().filter(|e| e.seen.place.is_some());
                let others = here.filter(|e| e.ours && e.seen.id != *eni && stays(&e.seen.id));
                let most = usize::try_from(limits.enis).unwrap_or(usize::MAX);
                if others.count() >= most {
                    return broken("S9", format!("{eni} is to be attached beside {most} others"));
                }
                Ok(())
            }
            Ec2Call::Create { .. }
            | Ec2Call::Unassign { .. }
            | Ec2Call::DeleteOnTermination { .. }
            | Ec2Call::Detach { .. }
            | Ec2Call::Delete { .. }
            | Ec2Call::Describe { .. } => Ok(()),
        }
    }

    fn mark_call(&mut self, call: &Ec2Call) {
        let name = match call {
            Ec2Call::Assign { .. } => "assign",
            Ec2Call::Unassign { .. } => "unassign",
            Ec2Call::Create { .. } => "create",
            Ec2Call::Attach { .. } => "attach",
            Ec2Call::DeleteOnTermination { .. } => "delete on termination",
            Ec2Call::Detach { .. } => "detach",
            Ec2Call::Delete { .. } => "delete",
            Ec2Call::Describe { .. } => "describe",
        };
        self.marks.reach(name);
        if matches!(call, Ec2Call::Describe { .. }) {
            self.tally.describes += 1;
        } else {
            self.tally.changes += 1;
        }
    }

    // ---- time, EC2, host, disk --------------------------------------------------------------------------------

    fn wait(&mut self, to: u64) -> Result<(), Violation> {
        let deadline = self.pool.next_deadline().map(Time::as_ms);
        let stop = deadline.map_or(to, |at| at.min(to));
        self.now = self.now.max(stop);
        if deadline.is_some_and(|at| at <= self.now) {
            self.input(Input::Timer)?;
        }
        let late = self
            .runtime
            .messages
            .values()
            .find(|m| m.arrived && !m.dead && m.ask == Ask::Add && m.deadline <= self.now);
        match late {
            Some(m) => {
                broken("L2", format!("the ADD of {} was not answered by its deadline", m.key.container_id))
            }
            None => Ok(()),
        }
    }

    fn exec(&mut self, op: OpId, fate: Fate, age: u64) -> Result<(), Violation> {
        let Some(Open::Ec2(call, None)) = self.open.get(&op) else { return Ok(()) };
        let call = call.clone();
        let unknown = || failure(FailureClass::Unknown);
        let outcome = match fate {
            Fate::Plain => self.execute(op, &call, age, false)?,
            Fate::Partial => self.execute(op, &call, age, true)?,
            Fate::Refused(class) => Err(failure(class)),
            Fate::LostDone => {
                let done = self.execute(op, &call, age, false)?.is_ok();
                self.marks.sometimes("answer lost, call done", done);
                Err(unknown())
            }
            Fate::LostNot => Err(unknown()),
            Fate::Late => {
                self.late.insert(op, call.clone());
                Err(unknown())
            }
        };
        self.open.insert(op, Open::Ec2(call, Some(outcome)));
        Ok(())
    }

    fn execute(
        &mut self,
        op: OpId,
        call: &Ec2Call,
        age: u64,
        partial: bool,
    ) -> Result<Result<Ec2Answer, Ec2Failure>, Violation> {
        self.oracle.judge_call(self.scene(false), call)?;
        self.ec2.remember(self.now);
        let at = self.now.saturating_sub(age.min(LAG_MS));
        let outcome = self.ec2.execute(op, call, at, partial).map_err(failure);
        if outcome.is_ok()
            && let Ec2Call::Detach { .. } = call
        {
            let here: Vec<_> =
                self.ec2.enis.values().filter_map(|e| e.seen.place.as_ref().map(|(_, d)| *d)).collect();
            self.host.devices.retain(|device, _| here.contains(device));
        }
        Ok(outcome)
    }

    fn tamper(&mut self, which: usize, whole: bool) {
        self.ec2.remember(self.now);
        let Some((device, taken)) = self.ec2.tamper(which, whole) else { return };
        self.marks.reach(if whole { "ENI detached by others" } else { "address unassigned by others" });
        self.oracle.tampered.extend(taken);
        if whole {
            self.host.devices.remove(&device);
        }
    }

    fn do_late(&mut self, op: OpId) -> Result<(), Violation> {
        let Some(call) = self.late.remove(&op) else { return Ok(()) };
        let done = self.execute(op, &call, 0, false)?.is_ok();
        self.marks.sometimes("call done after it was given up", done);
        Ok(())
    }

    fn reply(&mut self, op: OpId) -> Result<(), Violation> {
        if !matches!(self.open.get(&op), Some(Open::Ec2(_, Some(_)))) {
            return Ok(());
        }
        let Some(Open::Ec2(_, Some(outcome))) = self.open.remove(&op) else { return Ok(()) };
        self.input(Input::Ec2 { op, outcome })
    }

    fn host_ends(&mut self, op: OpId, works: bool) -> Result<(), Violation> {
        let Some(Open::Host(change)) = self.open.get(&op) else { return Ok(()) };
        let change = change.clone();
        let outcome =
            if works { self.host.execute(&change, &self.ec2) } else { Err("the kernel said no".into()) };
        self.open.remove(&op);
        self.input(Input::Host { op, outcome })
    }

    fn fsync(&mut self) -> Result<(), Violation> {
        let Some((revision, records)) = self.disk.unsynced.pop_front() else { return Ok(()) };
        self.disk.failing = false;
        self.oracle.synced(revision, &records);
        self.disk.durable.extend(records);
        self.input(Input::Persisted { revision })
    }

    fn fsync_fails(&mut self) -> Result<(), Violation> {
        let Some((revision, _)) = self.disk.unsynced.front() else { return Ok(()) };
        self.disk.failing = true;
        let revision = *revision;
        self.input(Input::PersistFailed { revision, reason: "no space left on device".into() })
    }

    fn compact(&mut self) {
        if self.disk.unsynced.is_empty() {
            self.disk.durable = self.pool.snapshot();
            self.marks.reach("compacted");
        }
    }

    // ---- the daemon's lives -----------------------------------------------------------------------------------

    /// The daemon dies and comes back: a prefix of what it wrote is on disk; calls in flight were made or not.
    fn crash(&mut self, keep: usize) -> Result<(), Violation> {
        self.tally.crashes += 1;
        self.dying = None;
        for (at, (_, records)) in std::mem::take(&mut self.disk.unsynced).into_iter().enumerate() {
            if at < keep {
                self.disk.durable.extend(records);
            }
        }
        self.disk.failing = false;
        self.oracle.crashed(&self.disk.durable);
        for (op, open) in std::mem::take(&mut self.open) {
            match open {
                Open::Ec2(call, None) if keep.is_multiple_of(2) && !matches!(call, Ec2Call::Describe { .. }) => {
                    self.late.insert(op, call);
                }
                Open::Host(change) if keep.is_multiple_of(2) => {
                    let _: Result<(), Box<str>> = self.host.execute(&change, &self.ec2);
                }
                Open::Ec2(..) | Open::Host(_) => {}
            }
        }
        self.runtime.messages.retain(|_, m| !m.dead && !matches!(m.ask, Ask::Gc(_)));
        for message in self.runtime.messages.values_mut() {
            message.arrived = false;
        }
        self.boot(true)
    }

    fn boot(&mut self, same_boot: bool) -> Result<(), Violation> {
        let records = self.disk.durable.clone();
        self.marks.sometimes("recovered with an open intent", open_intent(&records));
        self.pool = Pool::recover(self.settings.clone(), same_boot, records, Time::from_ms(self.now));
        #[cfg(feature = "planted")]
        if let Some(bug) = self.bug {
            self.pool.plant(bug);
        }
        self.last_op = OpId(0);
        self.wants_metadata = true;
        self.pool.check().map_err(|v| Violation { id: v.id, what: format!("after recovery: {}", v.what) })?;
        if !same_boot {
            // The daemon binds the ledger to the new boot before anything else happens.
            self.disk.durable = self.pool.snapshot();
        }
        self.input(Input::Timer)
    }

    /// Every sandbox dies with the node; the kernel forgets everything; the clock starts again.
    fn reboot(&mut self) -> Result<(), Violation> {
        self.marks.reach("reboot");
        self.tally.crashes += 1;
        self.disk.unsynced.clear();
        self.open.clear();
        self.host = Host::default();
        self.runtime.messages.clear();
        for n in 0..self.runtime.pods.len() {
            if let Some(Life::Live(ip)) = self.runtime.pods.get(n).map(|p| p.life.clone()) {
                self.oracle.rests.insert(ip, self.now);
            }
            self.renew(n);
        }
        for ip in std::mem::take(&mut self.oracle.durable).into_keys() {
            self.oracle.rests.insert(ip, self.now);
        }
        self.oracle.promised.clear();
        self.oracle.releasing.clear();
        self.settings.boot = podwire_pool::BootId::new(format!("boot-{}", self.tally.crashes));
        self.boot(false)
    }

    fn renew(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        slot.lives += 1;
        slot.key = key(pod, slot.lives);
        slot.life = Life::Idle;
    }

    fn metadata(&mut self, age: u64, omit: usize) -> Result<(), Violation> {
        let mut enis = self.ec2.metadata(self.now.saturating_sub(age));
        let keep = enis.len().saturating_sub(omit);
        enis.truncate(keep);
        self.marks.sometimes("metadata left an ENI out", omit > 0 && keep > 0);
        self.wants_metadata = false;
        let as_of = if age == 0 { self.last_op } else { OpId(0) };
        self.input(Input::Observed(Snapshot { source: SnapshotSource::Metadata, as_of, enis }))
    }

    // ---- pods -------------------------------------------------------------------------------------------------

    fn start(&mut self, pod: usize, same: bool) {
        let Some(slot) = self.runtime.pods.get(pod) else { return };
        if slot.life != Life::Idle {
            return;
        }
        if !same {
            self.renew(pod);
        }
        self.marks
            .sometimes("a key comes back", same && self.runtime.pods.get(pod).is_some_and(|p| p.ended > 0));
        self.message(pod, Ask::Add);
    }

    fn message(&mut self, pod: usize, ask: Ask) {
        let Some(slot) = self.runtime.pods.get(pod) else { return };
        let add = ask == Ask::Add;
        let message = Message {
            pod,
            key: slot.key.clone(),
            ask,
            started: self.now,
            dead: false,
            again: false,
            arrived: false,
            deadline: self.now + 75_000,
        };
        let request = self.runtime.send(message);
        if let Some(slot) = self.runtime.pods.get_mut(pod) {
            slot.life = if add { Life::Adding(request) } else { Life::Deleting(request) };
        }
    }

    fn kill(&mut self, pod: usize) -> Result<(), Violation> {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return Ok(()) };
        let Life::Adding(request) = slot.life else { return Ok(()) };
        slot.life = Life::Failed;
        let Some(message) = self.runtime.messages.get_mut(&request) else { return Ok(()) };
        message.dead = true;
        if message.arrived && request.0 % 2 == 0 {
            self.runtime.messages.remove(&request);
            return self.input(Input::Abandon { request });
        }
        Ok(())
    }

    fn stop(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        match slot.life {
            Life::Live(ip) => {
                self.oracle.rests.insert(ip, self.now);
            }
            Life::Failed => {}
            Life::Idle | Life::Adding(_) | Life::Deleting(_) | Life::Deleted => return,
        }
        slot.ended = self.now;
        self.message(pod, Ask::Del);
    }

    fn again(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        if slot.life == Life::Deleted {
            slot.ended = self.now;
            self.message(pod, Ask::Del);
        }
    }

    fn forget(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        if slot.life == Life::Deleted {
            slot.life = Life::Idle;
        }
    }

    fn gc(&mut self) {
        // The runtime holds ADD and DEL back during GC (cni-conformance G-09).
        let busy = self.runtime.pods.iter().any(|p| matches!(p.life, Life::Adding(_) | Life::Deleting(_)));
        if busy {
            return;
        }
        self.marks.reach("gc");
        let message = Message {
            pod: 0,
            key: key(usize::MAX, 0),
            ask: Ask::Gc(self.runtime.valid()),
            started: self.now,
            dead: false,
            again: false,
            arrived: false,
            deadline: u64::MAX,
        };
        self.runtime.send(message);
    }

    fn arrive(&mut self, request: RequestId) -> Result<(), Violation> {
        let Some(message) = self.runtime.messages.get_mut(&request) else { return Ok(()) };
        if message.arrived {
            return Ok(());
        }
        message.arrived = true;
        let message = message.clone();
        let started = Time::from_ms(message.started);
        if message.dead {
            self.marks.reach("a dead plugin's ADD arrives");
        }
        match message.ask {
            Ask::Add => self.input(Input::Allocate {
                request,
                sandbox: message.key,
                pod: pod_ref(message.pod),
                started,
                deadline: Time::from_ms(message.deadline),
            }),
            Ask::Del => self.input(Input::Release { request, sandbox: message.key, started }),
            Ask::Gc(valid) => {
                self.input(Input::Collect { request, network: "aws-cni".into(), valid, started })
            }
        }
    }

    fn replied(&mut self, request: RequestId, answer: Answer) -> Result<(), Violation> {
        let Some(message) = self.runtime.messages.get(&request).filter(|m| m.arrived).cloned() else {
            return broken("S13", format!("request {request} is answered, but nobody asks"));
        };
        match (&message.ask, answer) {
            (Ask::Add, Answer::Allocated { addresses, .. }) => {
                self.add_answered(request, &message, &addresses)
            }
            (Ask::Add, Answer::Refused(cause)) => self.add_refused(request, &message, &cause),
            (Ask::Del, Answer::Released(addresses)) => self.del_answered(request, &message, &addresses),
            (Ask::Del, Answer::Refused(Cause::LedgerUnwritable { .. } | Cause::QueueFull)) => {
                // The plugin keeps the release; it comes again with the same start.
                self.marks.reach("release kept pending");
                if let Some(message) = self.runtime.messages.get_mut(&request) {
                    message.arrived = false;
                    message.again = true;
                }
                Ok(())
            }
            (Ask::Gc(_), Answer::Collected(keys)) => {
                self.runtime.messages.remove(&request);
                match keys.iter().find(|k| self.runtime.pods.iter().any(|p| p.key == **k && lives(&p.life))) {
                    Some(key) => broken("S8", format!("{} lives and was collected", key.container_id)),
                    None => Ok(()),
                }
            }
            (Ask::Gc(_), Answer::Refused(_)) => {
                self.runtime.messages.remove(&request);
                Ok(())
            }
            (_, answer) => broken("S8", format!("{:?} is answered with {answer:?}", message.ask)),
        }
    }

    fn add_answered(
        &mut self,
        request: RequestId,
        message: &Message,
        addresses: &[IpAddr],
    ) -> Result<(), Violation> {
        self.runtime.messages.remove(&request);
        let [ip] = addresses else { return broken("S8", format!("{addresses:?} for one pod")) };
        if self.oracle.durable.get(ip) != Some(&message.key) {
            return broken(
                "S6",
                format!("{ip} is shown to {} before it is on disk", message.key.container_id),
            );
        }
        self.oracle.judge_usable(self.scene(false), *ip)?;
        if message.dead {
            return Ok(());
        }
        self.tally.adds += 1;
        if let Some(pod) = self.runtime.pods.get_mut(message.pod) {
            pod.life = Life::Live(*ip);
        }
        Ok(())
    }

    fn add_refused(&mut self, request: RequestId, message: &Message, cause: &Cause) -> Result<(), Violation> {
        self.runtime.messages.remove(&request);
        if message.dead {
            return Ok(());
        }
        self.tally.refused += 1;
        self.marks.reach(match cause {
            Cause::SandboxDeleted { .. } => {
                return broken(
                    "S8",
                    format!("the ADD of {} is refused as deleted", message.key.container_id),
                );
            }
            Cause::NodeFull { .. } => "refused: node full",
            Cause::Starting => "refused: starting",
            Cause::LedgerUnwritable { .. } => "refused: ledger",
            Cause::Stopping => "refused: stopping",
            Cause::TooSlow { .. } => "refused: too slow",
            Cause::SubnetExhausted { .. }
            | Cause::SubnetFragmented { .. }
            | Cause::Throttled { .. }
            | Cause::Denied { .. }
            | Cause::Ec2 { .. } => "refused: EC2",
            Cause::Host { .. } => "refused: host",
            Cause::QueueFull => "refused: queue",
            Cause::Quarantined { .. } => "refused: quarantined",
        });
        if let Some(pod) = self.runtime.pods.get_mut(message.pod) {
            pod.life = Life::Failed;
        }
        Ok(())
    }

    fn del_answered(
        &mut self,
        request: RequestId,
        message: &Message,
        addresses: &[IpAddr],
    ) -> Result<(), Violation> {
        self.runtime.messages.remove(&request);
        self.tally.dels += 1;
        if let Some((ip, _)) = self.oracle.durable.iter().find(|(_, k)| **k == message.key) {
            return broken(
                "S6",
                format!("the DEL of {} is answered, {ip} is not free on disk", message.key.container_id),
            );
        }
        let stranger =
            addresses.iter().find(|ip| self.oracle.promised.get(*ip).is_some_and(|k| *k == message.key));
        if let Some(ip) = stranger {
            return broken("S6", format!("{ip} is reported released and held"));
        }
        if let Some(pod) = self.runtime.pods.get_mut(message.pod)
            && pod.life == Life::Deleting(request)
        {
            pod.life = Life::Deleted;
        }
        Ok(())
    }

    /// How many pods the node can truly hold, as it stands: a single address in the place of a prefix stays there.
    #[must_use]
    pub fn room(&self) -> usize {
        let unit = if self.settings.mode == Mode::Prefix { 16 } else { 1 };
        let here: Vec<_> = self.ec2.enis.values().filter(|e| e.seen.place.is_some()).collect();
        let more = self.ec2.most_enis.saturating_sub(here.len()) * self.ec2.slots_per_eni * unit;
        let primary = podwire_pool::DeviceIndex(0);
        let carries = here.iter().filter(|e| {
            let first = e.seen.place.as_ref().is_some_and(|(_, d)| *d == primary);
            e.ours && !(first && self.settings.primary_excluded)
        });
        let room: usize = carries
            .map(|e| {
                let singles = e.seen.singles.len();
                singles + self.ec2.slots_per_eni.saturating_sub(singles) * unit
            })
            .sum();
        (room + more).min(usize::try_from(self.settings.max_pods).unwrap_or(usize::MAX))
    }

    /// Everything that decides what can happen, and nothing else.
    pub fn hash_truth(&self, hasher: &mut impl Hasher) {
        (&self.pool, self.now, &self.ec2, &self.host, &self.disk, &self.runtime).hash(hasher);
        (&self.open, &self.late, &self.oracle, self.wants_metadata, self.dying, self.last_op).hash(hasher);
    }

    /// The cooldown, in ms.
    #[must_use]
    pub fn cooldown(&self) -> u64 {
        u64::try_from(self.settings.cooldown.as_millis()).unwrap_or(u64::MAX)
    }
}

fn lives(life: &Life) -> bool {
    matches!(life, Life::Live(_))
}

fn failure(class: FailureClass) -> Ec2Failure {
    Ec2Failure { class, code: format!("{class:?}").into(), message: "simulated".into() }
}

fn open_intent(records: &[Record]) -> bool {
    let open =
        records.iter().filter_map(|r| if let Record::Intent { op, .. } = r { Some(*op) } else { None });
    let settled = |op: &OpId| records.iter().any(|r| matches!(r, Record::Settled { op: s } if s == op));
    open.into_iter().any(|op| !settled(&op))
}

/// So many milliseconds.
#[must_use]
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
