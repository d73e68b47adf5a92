//! This node's share of the account's EC2 budget (design D12): a limiter for each action, additive increase,
//! multiplicative decrease, full jitter. It says when a call may be made; it does not know what calls are for.
//!
//! *Why* each node by itself: EC2's buckets belong to the account, and no node sees them. A throttle is the only word
//! that comes from the bucket; between throttles a node keeps to its fair part, where somebody told it how many share.
//!
//! *Unit* of levels: millionths of a call. *Unit* of rates: calls in 1,000 seconds, which is millionths in a millisecond.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backoff::Action;
use crate::cause::Cause;
use crate::jitter::Jitter;
use crate::settings::Share;
use crate::time::Time;

/// One call as a level.
const CALL: u64 = 1_000_000;

/// How badly a call is wanted, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Urgency {
    /// A pod waits for it.
    Waiting,
    /// The node has less than it must have, or something hangs between two states.
    Minimum,
    /// A reserve.
    Warm,
    /// Giving back, and what nobody waits for.
    GiveBack,
    /// What dead nodes left behind.
    Leaks,
}

/// Buckets of the account for one action: calls at once, and calls in 1,000 seconds. *Source*: peers.md §2.1 (mutating
/// 50 and 5/s; the others 100 and 20/s).
const fn bucket(action: Action) -> (u64, u64) {
    match action {
        Action::Assign
        | Action::Unassign
        | Action::Create
        | Action::Attach
        | Action::Modify
        | Action::Detach
        | Action::Delete
        | Action::Tag => (50, 5_000),
        Action::Describe | Action::DescribeSubnets | Action::DescribeInstances => (100, 20_000),
    }
}

/// Nodes that a first throttle makes us assume where nobody told how many there are. *Source*: our choice; ten calls a
/// second in all, twice what the bucket refills.
const ASSUMED_NODES: u64 = 50;
/// Calls a quiet node may make at once, however many share the account. *Source*: our choice; enough for most nodes to
/// grow to their full size, which one of them does once in a while.
const QUIET_CALLS: u64 = 10;
/// Part of the bucket, and of what refills it, that the spreading at the start plans with. *Source*: our choice, by 300
/// storms of 200 nodes: chance drives one call in a hundred of them into a throttle, at 1.2 times the least time. *Unit*:
/// percent.
const PLANNED: (u64, u64) = (60, 95);
/// Longest time the first call of a life is put off. *Source*: our choice, within the 75 s that an ADD may last.
const SPREAD_MAX: Duration = Duration::from_secs(60);
/// First window after a throttle: where the number of nodes is known, the start was spread already. *Source*: our
/// choice, by the storm of 200 nodes.
const FIRST_WINDOW: Duration = Duration::from_secs(4);
/// The same where it is not known. *Source*: as above.
const BLIND_WINDOW: Duration = Duration::from_secs(15);
/// Longest window, where a larger one does not follow from the number of nodes. *Source*: our choice; pods should not
/// wait much longer than that once an outage is over, and 600 nodes are served in it.
const LONGEST_WINDOW: Duration = Duration::from_secs(120);
/// Longest window of all. *Source*: our choice; 3,000 nodes are served in it.
const WINDOW_MAX: Duration = Duration::from_secs(600);
/// Shortest wait after a throttle. *Source*: our choice.
const LEAST: Duration = Duration::from_millis(200);
/// How long low-urgency calls rest after any throttle. *Source*: our choice; three times what an empty bucket of 50 needs to fill.
const LOW_RESTS: Duration = Duration::from_secs(30);
/// After so long without a throttle what it taught is forgotten. *Source*: our choice; beyond the longest window.
const FORGET: Duration = Duration::from_secs(900);

/// One action's limiter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Limiter {
    level: u64,
    at: Time,
    rate: u64,
    /// Throttles in a row.
    strikes: u32,
    closed: Option<Time>,
    throttled: Option<Time>,
}

crate::text::fields!(Limiter { level, at, rate, strikes, closed, throttled });

/// What follows from the share for one action.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Most calls at once, as a level.
    capacity: u64,
    /// Calls in 1,000 seconds without any throttle.
    rate: u64,
    /// The same as far as it is fair when everybody calls.
    fair: u64,
    /// The same where a pod waits and EC2 has not throttled: however many share the account, few of them are busy.
    least: u64,
}

impl Part {
    fn of(share: Share, action: Action) -> Self {
        let (burst, rate) = bucket(action);
        let percent = u64::from(share.percent.clamp(1, 100));
        let (burst, rate) = (burst * CALL * percent / 100, (rate * percent / 100).max(1));
        let least = (rate / ASSUMED_NODES).max(1);
        match share.nodes.map(u64::from).filter(|nodes| *nodes > 0) {
            None => Self { capacity: burst.max(CALL), rate, fair: least, least },
            Some(nodes) => {
                let fair = (rate / nodes).max(1);
                Self { capacity: (burst / nodes).max(QUIET_CALLS * CALL), rate: fair, fair, least }
            }
        }
    }
}

impl Limiter {
    const fn full(part: Part, now: Time) -> Self {
        Self { level: part.capacity, at: now, rate: part.rate, strikes: 0, closed: None, throttled: None }
    }

    /// The level by now, when so much comes in a millisecond.
    fn level(&self, part: Part, rate: u64, now: Time) -> u64 {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.level.saturating_add(passed.saturating_mul(rate)).min(part.capacity)
    }

    /// The pace of calls: the fair part, and no less than `least` for what is urgent as long as EC2 takes it.
    fn pace(&self, part: Part, low: bool) -> u64 {
        if low || self.throttled.is_some() { self.rate.max(1) } else { self.rate.max(part.least) }
    }

    fn is_calm(&self, now: Time) -> bool {
        self.throttled.is_none_or(|at| now.since(at) >= FORGET)
    }

    /// When a call may be made; `now` or earlier: at once.
    fn opens(&self, part: Part, low: bool, now: Time) -> Time {
        if self.is_calm(now) && self.throttled.is_some() {
            return now;
        }
        let pace = self.pace(part, low);
        let missing = CALL.saturating_sub(self.level(part, pace, now));
        let mut filled = now.after(Duration::from_millis(missing.div_ceil(pace)));
        if self.strikes > 0 {
            // The pace is next to nothing by now, and a call without an answer gives nothing back.
            filled = filled.min(self.at.after(LONGEST_WINDOW));
        }
        self.closed.map_or(filled, |closed| closed.max(filled))
    }

    fn take(&mut self, part: Part, now: Time) {
        if self.is_calm(now) && self.throttled.is_some() {
            *self = Self::full(part, now);
        }
        self.level = self.level(part, self.rate, now).saturating_sub(CALL);
        self.at = now;
    }

    /// Additive increase: a fair part more.
    fn worked(&mut self, part: Part, now: Time) {
        self.level = self.level(part, self.rate, now);
        self.at = now;
        self.strikes = 0;
        self.closed = None;
        self.rate = self.rate.saturating_add(part.fair).min(part.rate.max(part.fair.saturating_mul(20)));
    }

    /// Multiplicative decrease, and a wait anywhere in a window that grows with every throttle in a row.
    fn throttled(&mut self, part: Part, first: Duration, now: Time, jitter: &mut Jitter) {
        self.rate = (self.rate / 2).min(part.fair).max(1);
        self.level = CALL;
        self.at = now;
        let window = window(first, self.strikes);
        self.strikes = self.strikes.saturating_add(1);
        self.closed = Some(now.after(jitter.between(LEAST, window)));
        self.throttled = Some(now);
    }
}

/// The window after so many throttles in a row: half as long again each time. *Why* not twice: 200 nodes of unknown
/// number are all served sooner, and waste hardly more calls.
fn window(first: Duration, strikes: u32) -> Duration {
    let mut window = first;
    for _ in 0..strikes.min(20) {
        window = (window + window / 2).min(LONGEST_WINDOW.max(first));
    }
    window
}

/// When the first calls of this life may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Begin {
    /// Changes that pods need.
    change: Time,
    /// Changes that nobody waits for.
    low: Time,
    /// Reads.
    read: Time,
}

crate::text::fields!(Begin { change, low, read });

/// All limiters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    share: Share,
    limiters: BTreeMap<Action, Limiter>,
    begin: Option<Begin>,
}

crate::text::fields!(Budget { share, limiters, begin });

impl Budget {
    /// The budget of a node with this share.
    pub(crate) const fn new(share: Share) -> Self {
        Self { share, limiters: BTreeMap::new(), begin: None }
    }

    /// A life begins: nodes that begin together must not call together. A part of them as large as the bucket calls at
    /// once, the others some time within the span in which the bucket refills for all of them.
    pub(crate) fn begin(&mut self, now: Time, jitter: &mut Jitter) {
        if self.begin.is_some() {
            return;
        }
        let change = self.first(Action::Assign, jitter);
        let (wait, span) = (now.after(change.0), change.1);
        let low = wait.max(now.after(span)).after(jitter.between(Duration::ZERO, span));
        let read = now.after(self.first(Action::Describe, jitter).0);
        self.begin = Some(Begin { change: wait, low: if span.is_zero() { now } else { low }, read });
    }

    /// How long to wait with the first call of an action, and the longest that anybody waits.
    fn first(&self, action: Action, jitter: &mut Jitter) -> (Duration, Duration) {
        let Some((nodes, burst, span)) = self.span(action) else { return (Duration::ZERO, Duration::ZERO) };
        let span = span.min(SPREAD_MAX);
        let ticket = jitter.between(Duration::ZERO, Duration::from_millis(nodes.saturating_sub(1)));
        let lucky = u64::try_from(ticket.as_millis()).unwrap_or(u64::MAX) < burst;
        (if lucky { Duration::ZERO } else { jitter.between(Duration::ZERO, span) }, span)
    }

    /// Nodes, calls the bucket takes at once, and the time in which it refills for all the others.
    fn span(&self, action: Action) -> Option<(u64, u64, Duration)> {
        let nodes = self.share.nodes.map(u64::from)?;
        let (burst, rate) = bucket(action);
        let percent = u64::from(self.share.percent.clamp(1, 100));
        let burst = burst * percent * PLANNED.0 / 10_000;
        let rate = (rate * percent * PLANNED.1 / 10_000).max(1);
        let left = nodes.saturating_sub(burst);
        Some((nodes, burst, Duration::from_millis(left.saturating_mul(1_000_000) / rate)))
    }

    /// The window of a first throttle: what the spreading at the start left out, where it had to be cut short.
    fn first_window(&self, action: Action) -> Duration {
        self.span(action).map_or(BLIND_WINDOW, |(_, _, span)| {
            span.saturating_sub(SPREAD_MAX).clamp(FIRST_WINDOW, WINDOW_MAX)
        })
    }

    /// Until when a call must wait, and why. `None`: it may be made now.
    pub(crate) fn closed(&self, action: Action, urgency: Urgency, now: Time) -> Option<(Time, Cause)> {
        let low = urgency >= Urgency::Warm;
        let paced = || Cause::Paced { action: action.name() };
        if let Some(begin) = self.begin {
            let opens = match (action.reads(), low) {
                (true, _) => begin.read,
                (false, true) => begin.low,
                (false, false) => begin.change,
            };
            if opens > now {
                return Some((opens, paced()));
            }
        }
        let throttled = || Cause::Throttled { action: action.name() };
        if let Some(limiter) = self.limiters.get(&action) {
            let opens = limiter.opens(Part::of(self.share, action), low, now);
            if opens > now {
                let cause = if limiter.strikes > 0 { throttled() } else { paced() };
                return Some((opens, cause));
            }
        }
        if low && let Some(rests) = self.rests(now) {
            return Some((rests, throttled()));
        }
        None
    }

    /// Until when low-urgency calls rest.
    fn rests(&self, now: Time) -> Option<Time> {
        let last = self.limiters.values().filter_map(|l| l.throttled).max()?;
        Some(last.after(LOW_RESTS)).filter(|until| *until > now)
    }

    fn limiter(&mut self, action: Action, now: Time) -> (&mut Limiter, Part) {
        let part = Part::of(self.share, action);
        (self.limiters.entry(action).or_insert_with(|| Limiter::full(part, now)), part)
    }

    /// A call is made.
    pub(crate) fn take(&mut self, action: Action, now: Time) {
        let (limiter, part) = self.limiter(action, now);
        limiter.take(part, now);
    }

    /// EC2 took it, whatever else it said.
    pub(crate) fn worked(&mut self, action: Action, now: Time) {
        let (limiter, part) = self.limiter(action, now);
        limiter.worked(part, now);
    }

    /// EC2 throttled it.
    pub(crate) fn throttled(&mut self, action: Action, now: Time, jitter: &mut Jitter) {
        let first = self.first_window(action);
        let (limiter, part) = self.limiter(action, now);
        limiter.throttled(part, first, now, jitter);
    }

    /// The next moment at which something may be made that may not now.
    pub(crate) fn next_deadline(&self, now: Time) -> Option<Time> {
        let begin = self.begin.map(|b| [b.change, b.low, b.read]).into_iter().flatten();
        let opens = self.limiters.iter().flat_map(|(action, limiter)| {
            [false, true].map(|low| limiter.opens(Part::of(self.share, *action), low, now))
        });
        begin.chain(opens).chain(self.rests(now)).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests;
