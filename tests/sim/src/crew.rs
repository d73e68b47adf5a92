//! Many seeds at once, one thread for each processor. Which thread runs a seed changes nothing of what it does.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::random::{Failure, Report, run};

/// Failures kept; more tell nothing new. *Source*: our choice.
const FAILURES: usize = 20;

/// Which seeds to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// The first one.
    pub first: u64,
    /// How many at most.
    pub count: u64,
    /// Start none after this time.
    pub time: Duration,
    /// Steps of each, with faults.
    pub steps: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Everything the sound runs did.
    pub report: Report,
    /// The seeds that broke something, the first ones of them.
    pub failures: Vec<Failure>,
    /// How many there were.
    pub failed: u64,
    /// Seeds whose run asked EC2 for more changes than it took steps.
    pub busy: Vec<(u64, u64)>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Harvest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = self.report.tally;
        write!(
            f,
            "random seeds={} violations={} steps={} crashes={} adds={} refused={} dels={} ec2_changes={} \
             describes={} marks={} seconds={}",
            self.report.seeds + self.failed,
            self.failed,
            tally.steps,
            tally.crashes,
            tally.adds,
            tally.refused,
            tally.dels,
            tally.changes,
            tally.describes,
            self.report.marks.iter().count(),
            self.took.as_secs()
        )
    }
}

/// Runs seeds on all processors.
#[must_use]
pub fn sow(seeds: Seeds) -> Harvest {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let all = Mutex::new(Harvest::default());
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                let mine = work(seeds, &next, began);
                if let Ok(mut all) = all.lock() {
                    all.report.merge(&mine.report);
                    all.failures.extend(mine.failures);
                    all.failed += mine.failed;
                    all.busy.extend(mine.busy);
                }
            });
        }
    });
    let mut harvest = all.into_inner().unwrap_or_default();
    harvest.failures.sort_by_key(|f| f.seed);
    harvest.failures.truncate(FAILURES);
    harvest.took = began.elapsed();
    harvest
}

fn work(seeds: Seeds, next: &AtomicU64, began: Instant) -> Harvest {
    let mut mine = Harvest::default();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= seeds.count || began.elapsed() >= seeds.time {
            return mine;
        }
        let seed = seeds.first.wrapping_add(n);
        match run(seed, seeds.steps) {
            Ok(one) => {
                if one.tally.changes > seeds.steps {
                    mine.busy.push((seed, one.tally.changes));
                }
                mine.report.merge(&one);
            }
            Err(failure) => {
                mine.failed += 1;
                if mine.failures.len() < FAILURES {
                    mine.failures.push(*failure);
                }
            }
        }
    }
}

/// Threads to use: all processors.
#[must_use]
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
