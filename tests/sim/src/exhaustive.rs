//! The exhaustive engine: every order of everything that may happen in a small world, breadth first, each state once.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{BootId, InstanceId, Settings};

use crate::crew::workers;
use crate::ec2::Ec2;
use crate::oracle::Violation;
use crate::runtime::Life;
use crate::world::{Action, Blur, Fate, Open, World, ms};

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Lives that pods may begin.
    pub lives: u32,
    /// Crashes.
    pub crashes: u32,
    /// EC2 calls with an unknown outcome.
    pub lost: u32,
    /// Times that pass.
    pub waits: u32,
    /// Plugins killed.
    pub kills: u32,
}

/// A shortest way to a violation.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What broke.
    pub violation: Violation,
    /// The actions that lead there.
    pub path: Vec<Action>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} after {} actions", self.violation, self.path.len())?;
        self.path.iter().try_for_each(|action| writeln!(f, "  {action:?}"))
    }
}

/// Where the search ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Actions in a row.
    pub depth: usize,
    /// States kept.
    pub states: usize,
    /// The time.
    pub at: Option<Instant>,
}

impl End {
    /// At this depth, or when this many states are kept.
    #[must_use]
    pub const fn at_depth(depth: usize, states: usize) -> Self {
        Self { depth, states, at: None }
    }

    fn reached(&self, states: usize) -> bool {
        states >= self.states || self.at.is_some_and(|at| Instant::now() >= at)
    }
}

/// States kept of one world while searching for a time. *Source*: our choice; some 10 KiB each while they are the
/// frontier.
const STATES: usize = 600_000;

/// What was explored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Explored {
    /// States seen.
    pub states: usize,
    /// Steps made.
    pub edges: usize,
    /// All states are known to this depth.
    pub depth: usize,
    /// Nothing was left to explore.
    pub complete: bool,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, edges, depth, complete } = self;
        write!(f, "states={states} steps={edges} depth={depth} complete={complete}")
    }
}

/// A small node: one ENI with two pod addresses.
#[must_use]
pub fn small_world(pods: usize, warm: Warm, limits: Limits) -> World {
    let settings = Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("boot-0"),
        mode: Mode::SecondaryIp,
        warm,
        limits,
        max_eni: None,
        max_pods: 2,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: ms(30_000),
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: ms(0),
        seed: 1,
    };
    let slots = usize::try_from(limits.ipv4_per_eni).unwrap_or(1) - 1;
    World::new(settings, Ec2::new(usize::try_from(limits.enis).unwrap_or(1), slots, 100), pods)
}

/// Explores all small worlds on all processors for so long, as deep as that allows.
#[must_use]
pub fn search(time: Duration) -> Vec<(&'static str, Result<Explored, Box<Finding>>)> {
    let mut worlds = suite();
    let rounds = worlds.len().div_ceil(workers());
    let share = time / u32::try_from(rounds).unwrap_or(1).max(1);
    let mut found = Vec::new();
    while !worlds.is_empty() {
        let round: Vec<_> = worlds.drain(..workers().min(worlds.len())).collect();
        std::thread::scope(|scope| {
            let end = End { depth: usize::MAX, states: STATES, at: Some(Instant::now() + share) };
            let running: Vec<_> = round
                .into_iter()
                .map(|(name, world, budget)| (name, scope.spawn(move || explore(world, budget, end))))
                .collect();
            found.extend(running.into_iter().filter_map(|(name, thread)| Some((name, thread.join().ok()?))));
        });
    }
    found
}

/// Explores all states up to where the search ends.
///
/// # Errors
/// The first violation, by a shortest path.
pub fn explore(start: World, budget: Budget, end: End) -> Result<Explored, Box<Finding>> {
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    seen.insert(fingerprint(&start, budget));
    let mut paths: Vec<(usize, Option<Action>)> = vec![(0, None)];
    let mut frontier = vec![(start, budget, 0usize)];
    while !frontier.is_empty() && explored.depth < end.depth {
        let mut next = Vec::new();
        for (world, budget, at) in frontier {
            if end.reached(seen.len()) {
                explored.states = seen.len();
                return Ok(explored);
            }
            for (action, left) in enabled(&world, budget) {
                explored.edges += 1;
                let mut successor = world.clone();
                if let Err(violation) = successor.step(&action) {
                    let mut path = path_to(&paths, at);
                    path.push(action);
                    return Err(Box::new(Finding { violation, path }));
                }
                if seen.insert(fingerprint(&successor, left)) {
                    paths.push((at, Some(action)));
                    next.push((successor, left, paths.len() - 1));
                }
            }
        }
        explored.depth += 1;
        frontier = next;
    }
    explored.complete = frontier.is_empty();
    explored.states = seen.len();
    Ok(explored)
}

fn path_to(paths: &[(usize, Option<Action>)], mut at: usize) -> Vec<Action> {
    let mut path = Vec::new();
    while let Some((before, Some(action))) = paths.get(at) {
        path.push(action.clone());
        at = *before;
    }
    path.reverse();
    path
}

fn fingerprint(world: &World, budget: Budget) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash_truth(&mut hasher);
    budget.hash(&mut hasher);
    hasher.finish()
}

/// Everything that may happen now, with what the budget is then.
#[must_use]
pub fn enabled(world: &World, budget: Budget) -> Vec<(Action, Budget)> {
    let mut actions = Vec::new();
    let mut add = |action| actions.push((action, budget));
    if world.wants_metadata {
        add(Action::Metadata(0, Blur::Clear));
    }
    for (op, open) in &world.open {
        match open {
            Open::Ec2(_, None) => add(Action::Exec(*op, Fate::Plain, 0)),
            Open::Ec2(_, Some(_)) => add(Action::Reply(*op)),
            Open::Host(_) => add(Action::Host(*op, true)),
        }
    }
    for op in world.late.keys() {
        add(Action::Late(*op));
    }
    for (request, _) in world.runtime.messages.iter().filter(|(_, m)| !m.arrived) {
        add(Action::Arrive(*request));
    }
    if !world.disk.unsynced.is_empty() {
        add(Action::Fsync);
    }
    for (n, pod) in world.runtime.pods.iter().enumerate() {
        match pod.life {
            Life::Live(_) | Life::Failed => add(Action::Stop(n)),
            Life::Deleted => add(Action::Forget(n)),
            Life::Idle | Life::Adding(_) | Life::Deleting(_) => {}
        }
    }
    spend(world, budget, &mut actions);
    actions
}

/// What costs budget.
fn spend(world: &World, budget: Budget, actions: &mut Vec<(Action, Budget)>) {
    if let Some(lives) = budget.lives.checked_sub(1) {
        let idle = world.runtime.pods.iter().position(|p| p.life == Life::Idle);
        if let Some(pod) = idle {
            actions.push((Action::Start(pod, true), Budget { lives, ..budget }));
        }
    }
    if let Some(kills) = budget.kills.checked_sub(1) {
        for (n, pod) in world.runtime.pods.iter().enumerate() {
            if matches!(pod.life, Life::Adding(_)) {
                actions.push((Action::Kill(n), Budget { kills, ..budget }));
            }
        }
    }
    if let Some(lost) = budget.lost.checked_sub(1) {
        for (op, open) in &world.open {
            if matches!(open, Open::Ec2(_, None)) {
                for fate in [Fate::LostDone, Fate::LostNot, Fate::Late] {
                    actions.push((Action::Exec(*op, fate, 0), Budget { lost, ..budget }));
                }
            }
        }
    }
    if let Some(waits) = budget.waits.checked_sub(1) {
        let ahead = world.now + world.cooldown();
        let to = world.pool_deadline().unwrap_or(ahead).min(ahead);
        actions.push((Action::Wait(to), Budget { waits, ..budget }));
    }
    if let Some(crashes) = budget.crashes.checked_sub(1) {
        let left = Budget { crashes, ..budget };
        for keep in 0..=world.disk.unsynced.len() {
            actions.push((Action::Crash(0, keep), left));
        }
        actions.push((Action::Crash(1, 1), left));
        actions.push((Action::Crash(2, 1), left));
    }
}

/// The worlds that are explored on every change: a full pool that never asks EC2, one that grows and gives back, and
/// one with a second ENI.
#[must_use]
pub fn suite() -> Vec<(&'static str, World, Budget)> {
    let one = Limits { enis: 1, ipv4_per_eni: 3 };
    let two = Limits { enis: 2, ipv4_per_eni: 2 };
    let full = Warm::Targets { ip: 0, minimum: 2, eni: 0, prefix: 0 };
    let budget = Budget { lives: 4, crashes: 1, lost: 0, waits: 3, kills: 1 };
    let worlds = [
        ("two addresses, three pods", small_world(3, full, one), budget),
        (
            "growing on one ENI",
            small_world(2, Warm::DemandDriven, one),
            Budget { lost: 1, lives: 3, ..budget },
        ),
        (
            "growing on two ENIs",
            small_world(2, Warm::DemandDriven, two),
            Budget { lost: 1, lives: 3, ..budget },
        ),
    ];
    worlds
        .into_iter()
        .filter_map(|(name, world, budget)| Some((name, warmed_up(world).ok()?, budget)))
        .collect()
}

/// Runs a world without faults until nothing is open: the state to explore from.
///
/// # Errors
/// A violation on the way.
pub fn warmed_up(mut world: World) -> Result<World, Violation> {
    world.step(&Action::Metadata(0, Blur::Clear))?;
    let calm = Budget { lives: 0, crashes: 0, lost: 0, waits: 0, kills: 0 };
    for _ in 0..1_000 {
        let Some((action, _)) = enabled(&world, calm).into_iter().next() else { break };
        world.step(&action)?;
    }
    Ok(world)
}
