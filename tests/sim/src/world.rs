//! The world: the pool, everything around it, and the rules by which things may happen. It decides nothing by itself:
//! engines choose actions.

mod action;
mod around;
mod daemon;
mod limits;
mod pods;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use podwire_pool::{
    AddressState, Cause, Ec2Answer, Ec2Call, Ec2Failure, Effect, HostChange, Input, OpId, Pool, Record,
    Revision, Settings, SnapshotSource, Time,
};
use podwire_trace::{Recording, Ring};

use crate::ec2::Ec2;
use crate::host::Host;
use crate::marks::Marks;
use crate::oracle::{Oracle, Scene, Told, Violation, broken};
use crate::runtime::Runtime;

pub use action::{Action, Blur, Fate, Tampering};

/// An operation the pool asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Open {
    /// Of EC2; executed already when there is an outcome.
    Ec2(Ec2Call, Option<Result<Ec2Answer, Ec2Failure>>),
    /// Of the host.
    Host(HostChange),
}

/// What one sync makes durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Written {
    /// Records behind those that are there.
    Append(Vec<Record>),
    /// A snapshot in the place of everything, and the records that waited when it was taken and are in it.
    Rewrite(Vec<Record>, Vec<(Revision, Vec<Record>)>),
}

/// The ledger on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    /// What a restart would read.
    pub durable: Vec<Record>,
    /// Written, not synced.
    pub unsynced: VecDeque<(Revision, Written)>,
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
    /// *Unit*: ms since long before the first boot.
    pub now: u64,
    /// When CLOCK_BOOTTIME began to count.
    pub booted: u64,
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
    /// What this life of the daemon was told of the account.
    pub told: Told,
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
    /// What the daemon's recorder would keep of this life, when asked for.
    pub ring: Option<Ring>,
    /// What it kept of earlier lives.
    pub recordings: Vec<Recording>,
    /// A ledger under the world: which of the revisions on their way survive a crash, when so many would.
    pub medium: Option<fn(&Disk, usize) -> usize>,
    /// Violations are noted and the world goes on, so that one sees what they lead to.
    pub noted: Option<Vec<Violation>>,
}

impl World {
    /// A first boot.
    #[must_use]
    pub fn new(settings: Settings, ec2: Ec2, pods: usize) -> Self {
        Self {
            pool: Pool::new(settings.clone()),
            settings,
            now: 1_000_000,
            booted: 0,
            ec2,
            host: Host::default(),
            disk: Disk::default(),
            runtime: Runtime::new(pods),
            open: BTreeMap::new(),
            late: BTreeMap::new(),
            oracle: Oracle::default(),
            told: Told::default(),
            marks: Marks::default(),
            tally: Tally::default(),
            wants_metadata: true,
            dying: None,
            last_op: OpId(0),
            #[cfg(feature = "planted")]
            bug: None,
            diary: None,
            ring: None,
            recordings: Vec::new(),
            medium: None,
            noted: None,
        }
    }

    /// What the daemon's clock says.
    #[must_use]
    pub const fn clock(&self) -> Time {
        Time::from_ms(self.now - self.booted)
    }

    /// When the pool wants to be woken.
    #[must_use]
    pub fn pool_deadline(&self) -> Option<u64> {
        self.pool.next_deadline().map(|at| at.as_ms().saturating_add(self.booted))
    }

    /// Ends the run at a violation, or notes it where the world is to go on.
    pub(super) fn verdict(&mut self, verdict: Result<(), Violation>) -> Result<(), Violation> {
        match (verdict, &mut self.noted) {
            (Err(violation), Some(noted)) => {
                noted.push(violation);
                Ok(())
            }
            (verdict, _) => verdict,
        }
    }

    /// Plants a bug into this and all later lives of the pool.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: podwire_pool::Bug) {
        self.bug = Some(bug);
        self.pool.plant(bug);
    }

    /// What the oracle looks at.
    pub(super) fn scene(&self, hurried: bool) -> Scene<'_> {
        Scene {
            now: self.now,
            booted: self.booted,
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
        self.ec2.clock = self.now;
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
            Action::Metadata(age, blur) => self.metadata(*age, *blur)?,
            Action::Demand(known) => self.tell_demand(known.then(|| self.runtime.bound()))?,
            Action::Crash(after, keep) => {
                if *after == 0 {
                    self.crash(*keep)?;
                } else {
                    self.dying = Some((*after, *keep));
                }
            }
            Action::Reboot(keep) => self.reboot(*keep)?,
            Action::LoseLedger => self.lose_ledger()?,
            Action::Pause(span) => self.pause(*span)?,
            Action::Repeat(pod) => self.repeat(*pod),
            Action::Compact => self.compact(),
            Action::Foreign => {
                self.ec2.remember(self.now);
                let came = self.ec2.attach_foreign().is_some();
                self.marks.sometimes("foreign ENI attached", came);
            }
            Action::Tamper(which, how) => self.tamper(*which, *how),
            Action::Subnet(more, fragmented) => {
                let home = self.ec2.home();
                let free = i64::from(home.free) + more;
                home.free = u32::try_from(free.max(0)).unwrap_or(0);
                home.fragmented = *fragmented;
            }
            Action::Zone(event) => self.zone(*event)?,
            Action::Restart(settings) => self.restart(settings.as_deref())?,
        }
        let living = self.oracle.judge_living(self.scene(false));
        self.verdict(living)
    }

    /// The API server tells how many pods are bound to the node, true or not.
    ///
    /// # Errors
    /// The invariant it breaks.
    pub fn tell_demand(&mut self, bound: Option<u32>) -> Result<(), Violation> {
        self.input(Input::Demand { bound })
    }

    /// Hands an input to the pool and carries its effects out.
    pub(crate) fn input(&mut self, input: Input) -> Result<(), Violation> {
        self.tally.steps += 1;
        let metadata = matches!(&input, Input::Observed(s) if s.source == SnapshotSource::Metadata);
        let before = self.pool.stats().hurried;
        let mut effects = Vec::new();
        if let Some(diary) = &mut self.diary {
            diary.push(format!("{:>9} > {input:?}", self.now));
        }
        if let Some(ring) = &mut self.ring {
            ring.before(&self.pool, Time::from_ms(self.now - self.booted), &input);
        }
        self.pool.handle(self.clock(), input, &mut effects);
        if let Some(ring) = &mut self.ring {
            ring.after(&effects);
        }
        let sound = self.pool.check().map_err(|v| Violation { id: v.id, what: v.what });
        self.verdict(sound)?;
        let hurried = self.pool.stats().hurried > before;
        self.marks.sometimes("cooling address used early", hurried);
        if hurried && let Some(idle) = self.pool.rows().into_iter().find(|r| r.state == AddressState::Free) {
            let what = format!("an address is used early although {} is free", idle.address);
            self.verdict(broken("S4", what))?;
        }
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
        if self.pool_deadline().is_some_and(|at| at <= self.now) {
            return broken("D10", "a deadline that is not ahead".to_owned());
        }
        Ok(())
    }

    fn accept(&mut self, effect: Effect, hurried: bool, metadata: bool) -> Result<(), Violation> {
        match effect {
            Effect::Persist { revision, records } => {
                let removal = |r: &Record| matches!(r, Record::Unassigned { .. } | Record::EniGone { .. });
                if metadata && records.iter().any(removal) {
                    let what = format!("metadata made the pool remove something: {records:?}");
                    self.verdict(broken("S10", what))?;
                }
                let fresh: Vec<Record> =
                    records.iter().filter(|r| !self.oracle.has_noted(r)).cloned().collect();
                let mut oracle = std::mem::take(&mut self.oracle);
                let verdict = oracle.decided(self.scene(hurried), revision, &records);
                self.oracle = oracle;
                self.verdict(verdict)?;
                let told = self.told.judge_records(&self.settings, &self.ec2, &fresh);
                self.verdict(told)?;
                self.disk.unsynced.push_back((revision, Written::Append(records)));
                Ok(())
            }
            Effect::Reply { request, answer } => self.replied(request, answer),
            Effect::Ec2 { op, call } => {
                let allowed = self.oracle.judge_call(self.scene(false), &call);
                self.verdict(allowed.and_then(|()| self.judge_limits(&call)))?;
                self.mark_zone(&call);
                let stats = self.pool.stats();
                let waiting = stats.waiting.max(u32::from(stats.assigned == 0));
                let told = self.told.judge_call(self.now, &self.settings, &self.ec2, waiting, &call);
                self.verdict(told)?;
                self.mark_call(&call);
                self.last_op = self.last_op.max(op);
                if self.open.insert(op, Open::Ec2(call, None)).is_some() {
                    return broken("S13", format!("operation {op} is used twice"));
                }
                Ok(())
            }
            Effect::Host { op, change } => {
                let allowed = self.oracle.judge_change(self.scene(false), &change);
                self.verdict(allowed)?;
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
                    Cause::SubnetFloor { .. } => "subnet floor",
                    Cause::NoSubnet => "no subnet",
                    Cause::LeakedEni { .. } => "leak proven",
                    Cause::Denied { .. } => "denied",
                    Cause::Ec2 { .. }
                    | Cause::Starting
                    | Cause::SandboxDeleted { .. }
                    | Cause::NodeFull { .. }
                    | Cause::TooSlow { .. }
                    | Cause::Paced { .. }
                    | Cause::NoEniConfig
                    | Cause::QueueFull
                    | Cause::Stopping => "another cause explained",
                });
                Ok(())
            }
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
            Ec2Call::SetGroups { .. } => "set groups",
            Ec2Call::Tag { .. } => "tag",
            Ec2Call::DescribeSubnets { .. } => "describe subnets",
            Ec2Call::FindDetached => "find detached",
            Ec2Call::DescribeInstances { .. } => "describe instances",
        };
        self.marks.reach(name);
        if is_read(call) {
            self.tally.describes += 1;
        } else {
            self.tally.changes += 1;
        }
    }

    /// Everything that decides what can happen, and nothing else.
    pub fn hash_truth(&self, hasher: &mut impl Hasher) {
        (&self.pool, self.now, self.booted, &self.ec2, &self.host, &self.disk, &self.runtime).hash(hasher);
        (&self.open, &self.late, &self.oracle, &self.told, self.wants_metadata, self.dying, self.last_op)
            .hash(hasher);
    }

    /// Ends a recording: the daemon dies, or it is asked for what it has.
    pub fn keep_recording(&mut self) {
        if let Some(ring) = &mut self.ring {
            self.recordings.extend(ring.recording(Some(&self.pool)));
            *ring = Ring::new(ring.bounds());
        }
    }

    /// The cooldown, in ms.
    #[must_use]
    pub fn cooldown(&self) -> u64 {
        u64::try_from(self.settings.cooldown.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether a call changes nothing.
#[must_use]
pub const fn is_read(call: &Ec2Call) -> bool {
    use Ec2Call::{Describe, DescribeInstances, DescribeSubnets, FindDetached};
    matches!(call, Describe { .. } | DescribeSubnets { .. } | FindDetached | DescribeInstances { .. })
}

/// So many milliseconds.
#[must_use]
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
