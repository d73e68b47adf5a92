//! One call of `Pool::handle`, on an empty and on a full node, and what the recorder adds to it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::ensure;
use podwire_e2e::report::say;
use podwire_pool::{Answer, Effect, Input, Pool, Time};
use podwire_trace::{Bounds, Ring};

use crate::figures::{Figures, Must, Samples, mib};
use crate::full_node::{add, answer, del, sandbox, seen, settings};

/// Pods that stay on the full node: with those that come and go and those that cool, all 735 addresses are in use.
const RESIDENTS: usize = 690;
/// Pods that come and go in each round.
const GUESTS: usize = 4;

/// Measures.
///
/// # Errors
/// The pool does something that a full node gives no reason for.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 400 } else { 3_000 };
    say(&format!(
        "  {rounds} rounds of {GUESTS} ADDs and {GUESTS} DELs, with 0 and with {RESIDENTS} other pods"
    ));
    let empty = Bench::measure(0, rounds, None)?;
    let full = Bench::measure(RESIDENTS, rounds, None)?;
    let us = |samples: &Samples, per_mille| samples.per_mille(per_mille) * 1_000.0;
    let remark = format!("p50 {:.2}, p99.9 {:.2}", us(&full.times, 500), us(&full.times, 999));
    figures.judge("pool_handle_p99_us", us(&full.times, 990), "µs", Must::AtMost(10.0), &remark);
    let ratio = |per_mille| full.times.per_mille(per_mille) / empty.times.per_mille(per_mille);
    let remark = format!("p50; p99 {:.2}", ratio(990));
    figures.judge("pool_handle_full_over_empty", ratio(500), "×", Must::AtMost(2.0), &remark);
    for (kind, times) in &full.kinds {
        say(&format!("    {kind:<10} p50 {:6.2} µs  p99 {:6.2} µs", us(times, 500), us(times, 990)));
    }

    let recorded = Bench::measure(RESIDENTS, rounds, Some(Ring::new(Bounds::default())))?;
    let remark =
        format!("p99 {:.2}, longest {:.0}", us(&recorded.recording, 990), us(&recorded.recording, 1_000));
    figures.judge("recorder_p50_us", us(&recorded.recording, 500), "µs", Must::AtMost(1.0), &remark);
    if let Some(ring) = recorded.ring {
        let bytes = u64::try_from(ring.bytes())?;
        figures.note("recorder_text_mib", mib(bytes), "MiB", &format!("{} inputs", ring.inputs()));
    }
    Ok(())
}

/// What was measured.
struct Measured {
    times: Samples,
    kinds: Vec<(&'static str, Samples)>,
    recording: Samples,
    ring: Option<Ring>,
}

struct Bench {
    pool: Pool,
    now: Time,
    requests: u64,
    served: usize,
    measuring: bool,
    times: Vec<(&'static str, Duration)>,
    recording: Vec<Duration>,
    ring: Option<Ring>,
}

impl Bench {
    fn measure(residents: usize, rounds: usize, ring: Option<Ring>) -> anyhow::Result<Measured> {
        let mut bench = Self {
            pool: Pool::recover(
                settings(Duration::from_secs(30)),
                true,
                Vec::new(),
                Time::from_ms(1_000_000),
            ),
            now: Time::from_ms(1_000_000),
            requests: 0,
            served: 0,
            measuring: false,
            times: Vec::new(),
            recording: Vec::new(),
            ring,
        };
        bench.input(seen())?;
        for pod in 0..residents {
            bench.add(pod, 0)?;
        }
        bench.pass(60_000)?;
        ensure!(bench.served == residents, "{} of {residents} pods have an address", bench.served);
        bench.measuring = true;
        for round in 0..rounds {
            for pod in 0..GUESTS {
                bench.add(10_000 + pod, round)?;
            }
            bench.pass(1_500)?;
            for pod in 0..GUESTS {
                bench.del(10_000 + pod, round)?;
            }
            bench.pass(1_500)?;
        }
        ensure!(bench.served == residents + rounds * GUESTS, "{} ADDs were served", bench.served);
        let kinds = ["allocate", "release", "persisted", "host", "timer"].map(|kind| {
            let of_kind = bench.times.iter().filter(|(k, _)| *k == kind);
            (kind, Samples::new(of_kind.map(|(_, time)| *time).collect()))
        });
        Ok(Measured {
            times: Samples::new(bench.times.into_iter().map(|(_, time)| time).collect()),
            kinds: kinds.into(),
            recording: Samples::new(bench.recording),
            ring: bench.ring,
        })
    }

    /// Hands an input in, carries everything out at once, and goes on until nothing is open.
    fn input(&mut self, input: Input) -> anyhow::Result<()> {
        let mut todo = VecDeque::from([input]);
        while let Some(input) = todo.pop_front() {
            for effect in self.handle(input) {
                match effect {
                    Effect::Persist { revision, .. } => todo.push_back(Input::Persisted { revision }),
                    Effect::Ec2 { op, call } => todo.push_back(answer(op, &call)?),
                    Effect::Host { op, .. } => todo.push_back(Input::Host { op, outcome: Ok(()) }),
                    Effect::Reply { answer: Answer::Allocated { .. }, .. } => self.served += 1,
                    Effect::Reply {
                        answer: Answer::Released(_) | Answer::Collected(_) | Answer::Leaks(_),
                        ..
                    } => {}
                    Effect::Reply { answer: Answer::Refused(cause), .. } | Effect::Explain(cause) => {
                        anyhow::bail!("a full node has no reason for this: {cause}");
                    }
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        let kind = kind(&input);
        let mut effects = Vec::new();
        let began = Instant::now();
        if let Some(ring) = &mut self.ring {
            ring.before(&self.pool, self.now, &input);
        }
        let from = Instant::now();
        self.pool.handle(self.now, input, &mut effects);
        let took = from.elapsed();
        let after = Instant::now();
        if let Some(ring) = &mut self.ring {
            ring.after(&effects);
        }
        if self.measuring {
            self.times.push((kind, took));
            self.recording.push(from.duration_since(began) + after.elapsed());
        }
        effects
    }

    fn add(&mut self, pod: usize, life: usize) -> anyhow::Result<()> {
        self.requests += 1;
        self.input(add(self.requests, sandbox(pod, life), self.now))
    }

    fn del(&mut self, pod: usize, life: usize) -> anyhow::Result<()> {
        self.requests += 1;
        self.input(del(self.requests, sandbox(pod, life), self.now))
    }

    fn pass(&mut self, ms: u64) -> anyhow::Result<()> {
        let end = self.now.after(Duration::from_millis(ms));
        while let Some(at) = self.pool.next_deadline().filter(|at| *at <= end) {
            self.now = at;
            self.input(Input::Timer)?;
        }
        self.now = end;
        Ok(())
    }
}

/// The kinds of input that are told apart.
fn kind(input: &Input) -> &'static str {
    match input {
        Input::Allocate { .. } => "allocate",
        Input::Release { .. } => "release",
        Input::Persisted { .. } => "persisted",
        Input::Host { .. } => "host",
        Input::Timer => "timer",
        Input::Abandon { .. }
        | Input::Collect { .. }
        | Input::PersistFailed { .. }
        | Input::Ec2 { .. }
        | Input::Observed(_)
        | Input::Demand { .. }
        | Input::EniConfig(_)
        | Input::Leaks { .. }
        | Input::Cordoned(_)
        | Input::Stop => "other",
    }
}
