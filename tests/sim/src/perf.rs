//! How long one `handle` takes, on an empty and on a full node. For `scripts/bench` and for a bound in the tests.

use std::time::Instant;

use podwire_pool::settings::Limits;
use podwire_pool::{Effect, Input, Pool, RequestId, Settings, Snapshot, SnapshotSource, Time};

use crate::ec2::Ec2;
use crate::host::Host;
use crate::runtime::{key, pod_ref};
use crate::script::settings;

/// Times of single calls. *Unit*: ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Half of them took at most this.
    pub p50: u64,
    /// 99 of 100 took at most this.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// How many were measured.
    pub calls: usize,
}

/// A p3dn.24xlarge: 15 ENIs with 50 addresses each.
#[must_use]
pub fn large() -> Settings {
    Settings { limits: Limits { enis: 15, ipv4_per_eni: 50 }, max_pods: 737, ..settings() }
}

struct Bench {
    pool: Pool,
    ec2: Ec2,
    host: Host,
    now: u64,
    requests: u64,
    times: Vec<u64>,
    measuring: bool,
}

impl Bench {
    /// Hands an input in, carries everything out at once, and goes on until nothing is open.
    fn input(&mut self, input: Input) {
        let mut todo = vec![input];
        while let Some(input) = todo.pop() {
            let mut effects = Vec::new();
            let from = Instant::now();
            self.pool.handle(Time::from_ms(self.now), input, &mut effects);
            let took = u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if self.measuring {
                self.times.push(took);
            }
            for effect in effects {
                match effect {
                    Effect::Persist { revision, .. } => todo.push(Input::Persisted { revision }),
                    Effect::Ec2 { op, call } => {
                        let outcome = self.ec2.execute(op, &call, self.now, false);
                        let outcome = outcome.map_err(|class| podwire_pool::Ec2Failure {
                            class,
                            code: "code".into(),
                            message: "message".into(),
                        });
                        todo.push(Input::Ec2 { op, outcome });
                    }
                    Effect::Host { op, change } => {
                        let outcome = self.host.execute(&change, &self.ec2);
                        todo.push(Input::Host { op, outcome });
                    }
                    Effect::Reply { .. } | Effect::Explain(_) => {}
                }
            }
        }
    }

    fn add(&mut self, pod: usize, life: u32) {
        self.requests += 1;
        self.input(Input::Allocate {
            request: RequestId(self.requests),
            sandbox: key(pod, life),
            pod: pod_ref(pod),
            started: Time::from_ms(self.now),
            deadline: Time::from_ms(self.now + 75_000),
        });
    }

    fn del(&mut self, pod: usize, life: u32) {
        self.requests += 1;
        self.input(Input::Release {
            request: RequestId(self.requests),
            sandbox: key(pod, life),
            started: Time::from_ms(self.now),
        });
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.pool.next_deadline().filter(|at| at.as_ms() <= end) {
            self.now = at.as_ms();
            self.input(Input::Timer);
        }
        self.now = end;
    }
}

/// Measures pods that come and go on a node that holds `pods` others meanwhile.
#[must_use]
pub fn measure(pods: usize, rounds: u32) -> Spread {
    let settings = large();
    let limits = settings.limits;
    let slots = usize::try_from(limits.ipv4_per_eni).unwrap_or(1) - 1;
    let mut ec2 = Ec2::new(usize::try_from(limits.enis).unwrap_or(1), slots, 100_000);
    ec2.recycle = false;
    let mut bench = Bench {
        pool: Pool::new(settings),
        ec2,
        host: Host::default(),
        now: 1_000_000,
        requests: 0,
        times: Vec::new(),
        measuring: false,
    };
    let enis = bench.ec2.metadata(bench.now);
    let as_of = podwire_pool::OpId(u64::MAX);
    bench.input(Input::Observed(Snapshot { source: SnapshotSource::Metadata, as_of, enis }));
    for pod in 0..pods {
        bench.add(pod, 0);
    }
    bench.measuring = true;
    for round in 0..rounds {
        for pod in 0..4 {
            bench.add(10_000 + pod, round);
        }
        bench.pass(1_500);
        for pod in 0..4 {
            bench.del(10_000 + pod, round);
        }
        bench.pass(1_500);
    }
    bench.times.sort_unstable();
    let at = |share: usize| bench.times.get(bench.times.len() * share / 1_000).copied().unwrap_or(0);
    let max = bench.times.last().copied().unwrap_or(0);
    Spread { p50: at(500), p99: at(990), max, calls: bench.times.len() }
}
