//! Many nodes against one throttled account, on a virtual clock: the same pools as in production, each with its own
//! simulated node, all calls through the account's buckets. Beside it the same with clients that simply retry.

use std::collections::{BTreeMap, BTreeSet};

use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{BootId, Ec2Call, FailureClass, InstanceId, OpId, Settings};

use crate::Seeded;
use crate::ec2::Ec2;
use crate::oracle::{Violation, broken};
use crate::runtime::Life;
use crate::world::{Action, Blur, Fate, Open, World, is_read, ms};

/// Calls at once and calls a second of each action's bucket. *Source*: peers.md §2.1.
const MUTATING: (u64, u64) = (50, 5);
const READING: (u64, u64) = (100, 20);
/// What a call takes, and what a refusal takes. *Unit*: ms. *Source*: design §7 (EC2 model).
const CALL_TAKES: u64 = 300;
const REFUSAL_TAKES: u64 = 50;
/// What the host takes. *Unit*: ms.
const HOST_TAKES: u64 = 5;
/// Pods of each node. *Source*: issue 5.
const PODS: usize = 30;

/// What a storm came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storm {
    /// When the last pod got its address. *Unit*: ms.
    pub served_ms: u64,
    /// Calls made until then.
    pub calls: u64,
    /// Those of them that were throttled.
    pub rejected: u64,
    /// The least time for which the bucket's arithmetic allows one mutating call of each node. *Unit*: ms.
    pub arithmetic_ms: u64,
    /// Calls made and throttled, by action.
    pub by_action: BTreeMap<&'static str, (u64, u64)>,
}

impl Storm {
    /// Throttled calls over all calls.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn rejected_share(&self) -> f64 {
        self.rejected as f64 / self.calls.max(1) as f64
    }

    /// Time over the arithmetic.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^53")]
    pub fn over_arithmetic(&self) -> f64 {
        self.served_ms as f64 / self.arithmetic_ms.max(1) as f64
    }

    fn new(nodes: u64) -> Self {
        let (burst, rate) = MUTATING;
        let arithmetic_ms = nodes.saturating_sub(burst) * 1_000 / rate;
        Self { served_ms: 0, calls: 0, rejected: 0, arithmetic_ms, by_action: BTreeMap::new() }
    }

    fn count(&mut self, action: &'static str, admitted: bool) {
        let (made, refused) = self.by_action.entry(action).or_default();
        self.calls += 1;
        *made += 1;
        if !admitted {
            self.rejected += 1;
            *refused += 1;
        }
    }
}

/// The account's buckets: one for each action. *Unit* of levels: thousandths of a call.
#[derive(Debug, Default)]
struct Account {
    buckets: BTreeMap<&'static str, (u64, u64)>,
}

impl Account {
    fn admits(&mut self, action: &'static str, read: bool, now: u64) -> bool {
        let (burst, rate) = if read { READING } else { MUTATING };
        let (level, at) = self.buckets.entry(action).or_insert((burst * 1_000, now));
        *level = (*level + (now - *at) * rate).min(burst * 1_000);
        *at = now;
        if *level < 1_000 {
            return false;
        }
        *level -= 1_000;
        true
    }
}

/// One node of the storm.
struct Node {
    world: World,
    due: Vec<(u64, OpId)>,
}

impl Node {
    /// A node whose daemon starts with all its pods waiting.
    fn boot(number: usize, share: Share, seed: u64) -> Result<Self, Violation> {
        let settings = Settings {
            instance: InstanceId::new(format!("i-{number}")),
            boot: BootId::new(format!("boot-{number}")),
            mode: Mode::Prefix,
            warm: Warm::DemandDriven,
            // m5.large. *Source*: EC2, instance-limits.csv.
            limits: Limits { enis: 3, ipv4_per_eni: 10 },
            max_eni: None,
            max_pods: 110,
            primary_excluded: false,
            manage_untagged: false,
            cooldown: ms(30_000),
            gather: ms(20),
            cluster: Some("storm".into()),
            subnets: SubnetPolicy::default(),
            leaks: LeakPolicy::Delete,
            leak_proof: LEAK_PROOF,
            share,
            seed: Seeded::new(seed << 32 | u64::try_from(number).unwrap_or(0)).next_u64(),
        };
        let mut ec2 = Ec2::new(3, 9, 100_000);
        ec2.instance = settings.instance.clone();
        let mut node = Self { world: World::new(settings, ec2, PODS), due: Vec::new() };
        for pod in 0..PODS {
            node.world.step(&Action::Start(pod, false))?;
        }
        node.at_once()?;
        node.world.step(&Action::Metadata(0, Blur::Clear))?;
        node.at_once()?;
        Ok(node)
    }

    fn served(&self) -> bool {
        self.world.runtime.pods.iter().all(|pod| matches!(pod.life, Life::Live(_)))
    }

    fn next(&self) -> u64 {
        let due = self.due.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
        self.world.pool.next_deadline().map_or(u64::MAX, podwire_pool::Time::as_ms).min(due)
    }

    /// What takes no time: messages, the disk.
    fn at_once(&mut self) -> Result<(), Violation> {
        loop {
            let message = self.world.runtime.messages.iter().find(|(_, m)| !m.arrived).map(|(r, _)| *r);
            if let Some(request) = message {
                self.world.step(&Action::Arrive(request))?;
            } else if !self.world.disk.unsynced.is_empty() {
                self.world.step(&Action::Fsync)?;
            } else if let Some(action) = self.again() {
                self.world.step(&action)?;
            } else {
                return Ok(());
            }
        }
    }

    /// The kubelet makes a new sandbox of a pod whose ADD was refused.
    fn again(&self) -> Option<Action> {
        self.world.runtime.pods.iter().enumerate().find_map(|(n, pod)| match pod.life {
            Life::Failed => Some(Action::Stop(n)),
            Life::Deleted => Some(Action::Forget(n)),
            Life::Idle => Some(Action::Start(n, false)),
            Life::Adding(_) | Life::Live(_) | Life::Deleting(_) => None,
        })
    }

    /// Everything that is due at `now`, and what follows from it.
    fn go_on(&mut self, now: u64, account: &mut Account, storm: &mut Storm) -> Result<(), Violation> {
        while self.world.now < now {
            self.world.step(&Action::Wait(now))?;
        }
        let ready: Vec<OpId> = self.due.iter().filter(|(at, _)| *at <= now).map(|(_, op)| *op).collect();
        self.due.retain(|(at, _)| *at > now);
        for op in ready {
            match self.world.open.get(&op) {
                Some(Open::Ec2(..)) => self.world.step(&Action::Reply(op))?,
                Some(Open::Host(_)) => self.world.step(&Action::Host(op, true))?,
                None => {}
            }
        }
        self.at_once()?;
        self.send(now, account, storm)
    }

    /// New calls reach the account, new changes the host.
    fn send(&mut self, now: u64, account: &mut Account, storm: &mut Storm) -> Result<(), Violation> {
        let open: Vec<(OpId, Option<Ec2Call>)> = self
            .world
            .open
            .iter()
            .filter(|(op, _)| !self.due.iter().any(|(_, known)| known == *op))
            .map(|(op, open)| (*op, if let Open::Ec2(call, _) = open { Some(call.clone()) } else { None }))
            .collect();
        for (op, call) in open {
            let takes = match call {
                None => HOST_TAKES,
                Some(call) => {
                    let admitted = account.admits(action(&call), is_read(&call), now);
                    storm.count(action(&call), admitted);
                    if admitted {
                        self.world.step(&Action::Exec(op, Fate::Plain, 0))?;
                        CALL_TAKES
                    } else {
                        self.world.step(&Action::Exec(op, Fate::Refused(FailureClass::Throttled), 0))?;
                        REFUSAL_TAKES
                    }
                }
            };
            self.due.push((now + takes, op));
        }
        Ok(())
    }
}

const fn action(call: &Ec2Call) -> &'static str {
    match call {
        Ec2Call::Assign { .. } => "assign",
        Ec2Call::Unassign { .. } => "unassign",
        Ec2Call::Create { .. } => "create",
        Ec2Call::Attach { .. } => "attach",
        Ec2Call::DeleteOnTermination { .. } | Ec2Call::SetGroups { .. } => "modify",
        Ec2Call::Detach { .. } => "detach",
        Ec2Call::Delete { .. } => "delete",
        Ec2Call::Describe { .. } | Ec2Call::FindDetached => "describe",
        Ec2Call::Tag { .. } => "tag",
        Ec2Call::DescribeSubnets { .. } => "describe subnets",
        Ec2Call::DescribeInstances { .. } => "describe instances",
    }
}

/// So many daemons start at once, each with 30 pods waiting and nothing assigned yet.
///
/// # Errors
/// An invariant is broken, or somebody is not served within ten minutes.
pub fn storm(nodes: usize, share: Share, seed: u64) -> Result<Storm, Violation> {
    let mut result = Storm::new(u64::try_from(nodes).unwrap_or(u64::MAX));
    let mut account = Account::default();
    let mut all = (0..nodes).map(|n| Node::boot(n, share, seed)).collect::<Result<Vec<_>, _>>()?;
    let start = all.first().map_or(0, |node| node.world.now);
    for node in &mut all {
        node.send(start, &mut account, &mut result)?;
    }
    loop {
        let waiting: Vec<usize> = (0..all.len()).filter(|n| !all[*n].served()).collect();
        if waiting.is_empty() {
            return Ok(result);
        }
        let Some((at, number)) = all.iter().enumerate().map(|(n, node)| (node.next(), n)).min() else {
            return Ok(result);
        };
        if at > start + 600_000 {
            let stats = waiting.first().map(|n| all[*n].world.pool.stats());
            let what = format!("{} of {nodes} nodes are not served in ten minutes: {stats:?}", waiting.len());
            return broken("L1", what);
        }
        all[number].go_on(at, &mut account, &mut result)?;
        if all[number].served() {
            result.served_ms = result.served_ms.max(at - start);
        }
    }
}

/// The same need, met by clients that know nothing of each other: three tries of the SDK with exponential back-off and
/// jitter, then again at the next tick. *Source*: incumbent-behaviour §5.13 (SDK standard retries, tick of 5 s).
#[must_use]
pub fn naive(nodes: usize, seed: u64) -> Storm {
    let mut result = Storm::new(u64::try_from(nodes).unwrap_or(u64::MAX));
    let (mut account, mut seed) = (Account::default(), Seeded::new(seed));
    let mut due: BTreeSet<(u64, usize, u32)> = (0..nodes).map(|n| (0, n, 0)).collect();
    while let Some((now, node, tries)) = due.pop_first() {
        let admitted = account.admits("assign", false, now);
        result.count("assign", admitted);
        if admitted {
            result.served_ms = result.served_ms.max(now + CALL_TAKES);
            continue;
        }
        let next = if tries < 2 {
            (now + REFUSAL_TAKES + seed.below(1_000 << tries), node, tries + 1)
        } else {
            (now + REFUSAL_TAKES + 5_000, node, 0)
        };
        due.insert(next);
    }
    result
}
