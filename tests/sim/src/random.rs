//! The random engine: every open matter gets a moment drawn from the seed's delays, the earliest happens next. First
//! safety with faults, then faults off and liveness demanded.

mod judge;
mod recorded;
mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use podwire_pool::{FailureClass, OpId, RequestId};

use crate::marks::Marks;
use crate::oracle::{Violation, broken};
use crate::runtime::Life;
use crate::swarm::{Odds, Swarm};
use crate::world::{Action, Blur, Disk, Fate, Open, Tally, World};
use crate::zone::Event;
use crate::{Choose, Seeded};
pub use recorded::run_recorded;

/// ENIs that may be created after the faults have stopped, with demand that does not change: those the node takes, and
/// some tries for places that others have. *Source*: our choice.
const CREATES: u64 = 10;

/// A seed that broke something.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What broke.
    pub violation: Violation,
    /// What happened, last first.
    pub trace: Vec<(u64, Action)>,
    /// All inputs and effects, when asked for.
    pub diary: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        for (at, action) in self.trace.iter().rev() {
            writeln!(f, "  {at:>9} {action:?}")?;
        }
        Ok(())
    }
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Seeds run.
    pub seeds: u64,
    /// Counts.
    pub tally: Tally,
    /// Rare states reached.
    pub marks: Marks,
    /// Every input and effect of a single run, when asked for.
    pub diary: Vec<String>,
    /// What a recorder kept of each life of the daemon, when asked for.
    pub recordings: Vec<podwire_trace::Recording>,
}

impl Report {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.tally.steps += other.tally.steps;
        self.tally.crashes += other.tally.crashes;
        self.tally.adds += other.tally.adds;
        self.tally.refused += other.tally.refused;
        self.tally.dels += other.tally.dels;
        self.tally.changes += other.tally.changes;
        self.tally.describes += other.tally.describes;
        self.marks.merge(&other.marks);
    }
}

/// What a scheduled moment is for, so that nothing is scheduled twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    Exec(OpId),
    Reply(OpId),
    Late(OpId),
    Host(OpId),
    Arrive(RequestId),
    Fsync,
    Pod(usize),
    Metadata,
}

struct Engine {
    seed: Seeded,
    /// Apart, so that recorded seeds keep their meaning in everything else.
    zone: Seeded,
    /// EC2 throttles every call until then.
    throttled_until: u64,
    swarm: Swarm,
    world: World,
    agenda: BTreeMap<(u64, u64), (Matter, Action)>,
    scheduled: BTreeSet<Matter>,
    next: u64,
    calm: bool,
    crashes: u64,
    trace: Vec<(u64, Action)>,
}

/// Runs one seed for so many steps with faults, then without.
///
/// # Errors
/// The first invariant broken, with what led to it.
pub fn run(seed: u64, steps: u64) -> Result<Report, Box<Failure>> {
    run_with(seed, steps, false)
}

/// The same, with a diary of every input and effect if wanted.
///
/// # Errors
/// The first invariant broken, with what led to it.
pub fn run_with(seed: u64, steps: u64, diary: bool) -> Result<Report, Box<Failure>> {
    let mut stream = Seeded::new(seed);
    let (swarm, mut world) = Swarm::draw(&mut stream);
    world.diary = diary.then(Vec::new);
    run_world(seed, stream, swarm, world, steps)
}

/// A run with a ledger under the world: see [`World::medium`].
///
/// # Errors
/// The first invariant broken, with what led to it.
pub fn run_on(seed: u64, steps: u64, medium: fn(&Disk, usize) -> usize) -> Result<Report, Box<Failure>> {
    let mut stream = Seeded::new(seed);
    let (swarm, mut world) = Swarm::draw(&mut stream);
    world.medium = Some(medium);
    run_world(seed, stream, swarm, world, steps)
}

/// A run with a planted bug.
///
/// # Errors
/// The first invariant broken, with what led to it.
#[cfg(feature = "planted")]
pub fn run_planted(seed: u64, steps: u64, bug: podwire_pool::Bug) -> Result<Report, Box<Failure>> {
    let mut stream = Seeded::new(seed);
    let (swarm, mut world) = Swarm::draw(&mut stream);
    world.plant(bug);
    run_world(seed, stream, swarm, world, steps)
}

fn run_world(
    seed: u64,
    stream: Seeded,
    swarm: Swarm,
    mut world: World,
    steps: u64,
) -> Result<Report, Box<Failure>> {
    let mut zone = Seeded::new(!seed);
    crate::zone::furnish(&mut zone, &mut world);
    let mut engine = Engine {
        seed: stream,
        zone,
        throttled_until: 0,
        swarm,
        world,
        agenda: BTreeMap::new(),
        scheduled: BTreeSet::new(),
        next: 0,
        calm: false,
        crashes: 0,
        trace: Vec::new(),
    };
    let outcome = engine.safety(steps).and_then(|()| engine.liveness());
    match outcome {
        Ok(()) => {
            engine.world.keep_recording();
            let World { tally, marks, diary, recordings, .. } = engine.world;
            Ok(Report { seeds: 1, tally, marks, diary: diary.unwrap_or_default(), recordings })
        }
        Err(violation) => {
            let trace = engine.trace.into_iter().rev().take(400).collect();
            let diary = engine.world.diary.unwrap_or_default();
            Err(Box::new(Failure { seed, violation, trace, diary }))
        }
    }
}

impl Engine {
    fn safety(&mut self, steps: u64) -> Result<(), Violation> {
        self.world.introduce()?;
        self.act(Action::Metadata(0, Blur::Clear))?;
        for _ in 0..steps {
            self.forget_dead();
            self.weather()?;
            self.once(None)?;
        }
        Ok(())
    }

    /// After a crash operations have new names: what was scheduled under old ones is void.
    fn forget_dead(&mut self) {
        if self.crashes == self.world.tally.crashes {
            return;
        }
        self.crashes = self.world.tally.crashes;
        let old =
            |m: &Matter| matches!(m, Matter::Exec(_) | Matter::Reply(_) | Matter::Host(_) | Matter::Fsync);
        self.scheduled.retain(|m| !old(m));
        self.agenda.retain(|_, (m, _)| !old(m));
    }

    /// Faults off: everything has to come right, then everything unused has to go back.
    fn liveness(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.swarm.demand = true;
        for subnet in &mut self.world.ec2.subnets {
            subnet.free = 10_000;
            subnet.fragmented = false;
        }
        self.scheduled.retain(|m| !matches!(m, Matter::Pod(_)));
        self.agenda.retain(|_, (m, _)| !matches!(m, Matter::Pod(_)));
        self.act(Action::Zone(Event::Cordon(false)))?;
        self.act(Action::Demand(true))?;
        self.act(Action::Metadata(0, Blur::Clear))?;
        self.until(600_000)?;
        self.act(Action::Metadata(0, Blur::Clear))?;
        // Longer than a day, so that the routine look finds what nothing else pointed to; twice, because a crash that was
        // on its way still comes.
        let before = self.world.marks.times("create");
        self.until(52 * 3_600_000)?;
        let made = self.world.marks.times("create") - before;
        if made > CREATES {
            return broken("S9", format!("{made} ENIs were created while demand stood still"));
        }
        self.judge_calm()?;
        self.fill()?;
        for pod in 0..self.world.runtime.pods.len() {
            self.act(Action::Stop(pod))?;
        }
        self.until(60_000)?;
        self.act(Action::Demand(true))?;
        self.until(2_400_000)?;
        let changes = self.world.tally.changes;
        self.until(900_000)?;
        self.judge_rest(changes)
    }

    /// Runs until so many milliseconds later.
    fn until(&mut self, later: u64) -> Result<(), Violation> {
        let end = self.world.now + later;
        for _ in 0..100_000 {
            if self.world.now >= end {
                return Ok(());
            }
            self.once(Some(end))?;
        }
        broken("L5", "the pool never comes to rest".to_owned())
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        self.trace.push((self.world.now, action.clone()));
        if self.trace.len() > 4_000 {
            self.trace.drain(..2_000);
        }
        self.world.step(&action)
    }

    fn hits(&mut self, odds: Odds) -> bool {
        !self.calm && odds > 0 && self.seed.below(odds) == 0
    }

    /// The next thing that is due, or the pool's own deadline, or `end`.
    fn once(&mut self, end: Option<u64>) -> Result<(), Violation> {
        self.schedule();
        let due = self.agenda.keys().next().copied();
        let at = due.map_or(u64::MAX, |(at, _)| at).min(end.unwrap_or(u64::MAX));
        let deadline = self.world.pool_deadline().unwrap_or(u64::MAX);
        if deadline < at || due.is_none_or(|(d, _)| d > at) {
            let to = deadline.min(at);
            if to == u64::MAX {
                return broken("D10", "nothing is due any more".to_owned());
            }
            return self.act(Action::Wait(to));
        }
        if at > self.world.now {
            self.act(Action::Wait(at))?;
        }
        let Some((matter, action)) = due.and_then(|d| self.agenda.remove(&d)) else { return Ok(()) };
        self.scheduled.remove(&matter);
        self.act(action)
    }

    fn plan(&mut self, matter: Matter, delay: u64, action: Action) {
        if self.scheduled.insert(matter) {
            self.agenda.insert((self.world.now + delay, self.next), (matter, action));
            self.next += 1;
        }
    }

    /// Gives every open matter its moment.
    fn schedule(&mut self) {
        let swarm = self.swarm;
        let open: Vec<(OpId, u8)> = self
            .world
            .open
            .iter()
            .map(|(op, o)| match o {
                Open::Ec2(_, None) => (*op, 0),
                Open::Ec2(_, Some(_)) => (*op, 1),
                Open::Host(_) => (*op, 2),
            })
            .collect();
        for (op, kind) in open {
            let matter = [Matter::Exec(op), Matter::Reply(op), Matter::Host(op)][usize::from(kind)];
            if self.scheduled.contains(&matter) {
                continue;
            }
            let delay =
                if kind == 2 { swarm.host.draw(&mut self.seed) } else { swarm.ec2.draw(&mut self.seed) };
            let delay = if self.calm { delay.min(2_000) } else { delay };
            let action = match matter {
                Matter::Exec(op) => {
                    let fate = self.fate();
                    let lag = if self.calm { 0 } else { self.seed.below(swarm.lag + 1) };
                    Action::Exec(op, fate, lag)
                }
                Matter::Host(op) => Action::Host(op, !self.hits(swarm.host_fails)),
                Matter::Reply(_)
                | Matter::Late(_)
                | Matter::Arrive(_)
                | Matter::Fsync
                | Matter::Pod(_)
                | Matter::Metadata => Action::Reply(op),
            };
            self.plan(matter, delay, action);
        }
        for op in self.world.late.keys().copied().collect::<Vec<_>>() {
            let delay = self.seed.below(4_000);
            self.plan(Matter::Late(op), delay, Action::Late(op));
        }
        self.schedule_outside();
    }

    fn schedule_outside(&mut self) {
        let swarm = self.swarm;
        let new: Vec<(RequestId, bool)> = self
            .world
            .runtime
            .messages
            .iter()
            .filter(|(_, m)| !m.arrived)
            .map(|(r, m)| (*r, m.again))
            .collect();
        for (request, again) in new {
            let delay = if again { 5_000 } else { swarm.wire.draw(&mut self.seed) };
            self.plan(Matter::Arrive(request), delay, Action::Arrive(request));
        }
        if !self.world.disk.unsynced.is_empty() && !self.scheduled.contains(&Matter::Fsync) {
            let delay = if self.calm { 1 } else { swarm.disk.draw(&mut self.seed) };
            let action = if self.hits(swarm.disk_fails) { Action::FsyncFails } else { Action::Fsync };
            self.plan(Matter::Fsync, delay, action);
        }
        if self.world.wants_metadata {
            let delay = self.seed.below(if self.calm { 100 } else { 3_000 });
            self.plan(Matter::Metadata, delay, Action::Metadata(0, Blur::Clear));
        }
        for pod in 0..self.world.runtime.pods.len() {
            if self.scheduled.contains(&Matter::Pod(pod)) {
                continue;
            }
            if let Some((delay, action)) = self.pod_next(pod) {
                self.plan(Matter::Pod(pod), delay, action);
            }
        }
    }

    fn pod_next(&mut self, pod: usize) -> Option<(u64, Action)> {
        let swarm = self.swarm;
        let life = self.world.runtime.pods.get(pod)?.life.clone();
        let spell = swarm.life.draw(&mut self.seed);
        match life {
            Life::Idle if self.calm => None,
            Life::Idle => {
                let same = swarm.reuse && self.seed.once_in(2);
                Some((spell / 4, Action::Start(pod, same)))
            }
            Life::Adding(_) => {
                let killed = self.hits(swarm.kill);
                killed.then(|| (self.seed.below(2_000), Action::Kill(pod)))
            }
            Life::Live(_) if self.calm => None,
            Life::Live(_) => Some((spell, Action::Stop(pod))),
            Life::Failed => Some((self.seed.below(500), Action::Stop(pod))),
            Life::Deleting(_) => None,
            Life::Deleted => {
                let again = self.seed.once_in(2);
                Some((self.seed.below(3_000), if again { Action::Again(pod) } else { Action::Forget(pod) }))
            }
        }
    }

    fn fate(&mut self) -> Fate {
        let swarm = self.swarm;
        let outage = !self.calm && self.world.now < self.throttled_until;
        if outage || self.hits(swarm.throttle) {
            return Fate::Refused(FailureClass::Throttled);
        }
        if self.hits(swarm.lost) {
            return [Fate::LostDone, Fate::LostNot, Fate::Late][self.seed.pick(3)];
        }
        if self.hits(swarm.refuse) {
            let classes = [
                FailureClass::Denied,
                FailureClass::NotFound,
                FailureClass::Busy,
                FailureClass::Invalid,
                FailureClass::LimitExceeded,
                FailureClass::QuotaExceeded,
            ];
            return Fate::Refused(classes[self.seed.pick(classes.len())]);
        }
        if self.hits(swarm.partial) {
            return Fate::Partial;
        }
        Fate::Plain
    }
}
