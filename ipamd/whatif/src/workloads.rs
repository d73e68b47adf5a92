//! Workloads to ask about when one has none of one's own; the project judges its own defaults by them.

use std::time::Duration;

use crate::chance::Chance;
use crate::scenario::{Change, Step};

/// A workload by name; a seed makes one of its kind.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// Its steps, and how long to look.
    pub make: fn(seed: u64) -> (Vec<Step>, Duration),
}

/// Steady services, a drain, a nightly batch and jobs by the minute: what a node sees in a day. *Source*: our choice.
pub const STANDARD: [Workload; 4] = [
    Workload { name: "steady services", make: steady_services },
    Workload { name: "drain", make: drain },
    Workload { name: "cron", make: cron },
    Workload { name: "mixed day", make: mixed_day },
];

/// *Source*: our choice of words.
const SECOND: Duration = Duration::from_secs(1);
/// *Source*: our choice of words.
const MINUTE: Duration = Duration::from_secs(60);
/// *Source*: our choice of words.
const HOUR: Duration = Duration::from_secs(3_600);

/// A workload being written down.
#[derive(Debug)]
struct Script {
    steps: Vec<Step>,
    next: u32,
    chance: Chance,
}

impl Script {
    fn new(seed: u64) -> Self {
        Self { steps: Vec::new(), next: 0, chance: Chance::new(seed) }
    }

    fn start(&mut self, at: Duration) -> u32 {
        let pod = self.next;
        self.next += 1;
        self.steps.push(Step { at, pod, change: Change::Start });
        pod
    }

    fn stop(&mut self, pod: u32, at: Duration) {
        self.steps.push(Step { at, pod, change: Change::Stop });
    }

    /// A pod that stays to the end.
    fn run(&mut self, at: Duration, lasts: Duration) {
        let pod = self.start(at);
        self.stop(pod, at + lasts);
    }

    /// Places that always hold a pod: each lives for about `life`, and is stopped when its successor has had 15 s to
    /// come up, as a rolling update does it.
    fn places(&mut self, count: u32, from: Duration, until: Duration, life: Duration) {
        for _ in 0..count {
            let mut at = from + self.chance.span(Duration::ZERO, MINUTE);
            let mut pod = self.start(at);
            loop {
                at += self.chance.span(life / 2, life * 3 / 2);
                if at >= until {
                    self.stop(pod, until);
                    break;
                }
                let next = self.start(at);
                self.stop(pod, at + SECOND * 15);
                pod = next;
            }
        }
    }

    /// So many pods at each of these moments, each for 20 to 40 s: what a CronJob does.
    fn ticks(&mut self, count: u32, from: Duration, until: Duration, every: Duration) {
        let mut at = from;
        while at < until {
            for _ in 0..count {
                let begins = at + self.chance.span(Duration::ZERO, SECOND * 3);
                let lasts = self.chance.span(SECOND * 20, SECOND * 40);
                self.run(begins, lasts);
            }
            at += every;
        }
    }
}

/// Thirty services on a node, each pod replaced every two hours or so, for four hours.
#[must_use]
pub fn steady_services(seed: u64) -> (Vec<Step>, Duration) {
    let mut script = Script::new(seed);
    script.places(30, Duration::ZERO, HOUR * 5, HOUR * 2);
    (script.steps, HOUR * 4)
}

/// Another node is drained: 56 pods within five seconds onto this one, which has just come up; then half an hour.
#[must_use]
pub fn drain(seed: u64) -> (Vec<Step>, Duration) {
    let mut script = Script::new(seed);
    for _ in 0..56 {
        let at = SECOND * 10 + script.chance.span(Duration::ZERO, SECOND * 5);
        script.start(at);
    }
    (script.steps, MINUTE * 30)
}

/// Ten services, and five pods of a CronJob at each minute, for two hours.
#[must_use]
pub fn cron(seed: u64) -> (Vec<Step>, Duration) {
    let mut script = Script::new(seed);
    script.places(10, Duration::ZERO, HOUR * 3, HOUR * 3);
    script.ticks(5, MINUTE * 2, HOUR * 2, MINUTE);
    (script.steps, HOUR * 2)
}

/// A day: twelve services all the time and twelve more by day, two pods of a CronJob at each minute, a batch of ten at
/// each hour, and two roll-outs that replace eight pods each within two minutes.
#[must_use]
pub fn mixed_day(seed: u64) -> (Vec<Step>, Duration) {
    let mut script = Script::new(seed);
    script.places(12, Duration::ZERO, HOUR * 25, HOUR * 8);
    for n in 0..12 {
        let comes = HOUR * 7 + MINUTE * 10 * n;
        let goes = HOUR * 18 + MINUTE * 15 * n;
        script.run(comes, goes - comes);
    }
    script.ticks(2, MINUTE * 2, HOUR * 24, MINUTE);
    for hour in 1..24 {
        for _ in 0..10 {
            let begins = HOUR * hour + script.chance.span(Duration::ZERO, SECOND * 20);
            let lasts = script.chance.span(MINUTE * 4, MINUTE * 10);
            script.run(begins, lasts);
        }
    }
    for rollout in [HOUR * 10 + MINUTE * 20, HOUR * 15 + MINUTE * 40] {
        let mut old: Vec<u32> = (0..8).map(|_| script.start(rollout - HOUR)).collect();
        for n in 0..8 {
            let at = rollout + SECOND * 15 * n;
            script.run(at, HOUR);
            if let Some(pod) = old.pop() {
                script.stop(pod, at + SECOND * 15);
            }
        }
    }
    (script.steps, HOUR * 24)
}
