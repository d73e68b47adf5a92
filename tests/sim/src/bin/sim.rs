//! The simulator by hand:
//! `sim FIRST COUNT [STEPS]` runs seeds, `sim --minutes N` fresh ones until the time is over, `sim trace SEED [STEPS]`
//! prints every input and effect of one, `sim storm NODES SEED` lets many nodes loose on one account,
//! `sim explore DEPTH` explores the small worlds.
#![allow(clippy::print_stdout, reason = "this program's output is its result")]

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use podwire_pool::settings::Share;
use podwire_sim::exhaustive::{explore, suite};
use podwire_sim::random::{Report, run, run_with};
use podwire_sim::storm::{naive, storm};

/// States kept at most while exploring. *Source*: our choice; about 4 GiB.
const STATES: usize = 4_000_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize, or: u64| args.get(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    match args.first().map(String::as_str) {
        Some("trace") => trace(number(1, 1), number(2, 1_400)),
        Some("explore") => explore_all(usize::try_from(number(1, 8)).unwrap_or(8)),
        Some("storm") => storms(usize::try_from(number(1, 200)).unwrap_or(200), number(2, 1)),
        Some("--minutes") => {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let first = since_epoch.as_secs().saturating_mul(1_000_000);
            let end = Instant::now() + Duration::from_secs(60 * number(1, 1));
            seeds(first, |_| Instant::now() < end, 1_400)
        }
        _ => {
            let (first, count) = (number(0, 1), number(1, 100));
            seeds(first, |seed| seed < first.saturating_add(count), number(2, 1_400))
        }
    }
}

fn storms(nodes: usize, seed: u64) -> ExitCode {
    let known = Share { nodes: u32::try_from(nodes).ok(), percent: 100 };
    for (name, share) in [("known", known), ("unknown", Share::default())] {
        match storm(nodes, share, seed) {
            Ok(storm) => {
                println!(
                    "{name}: {:.3} rejected, {:.2} × arithmetic, {storm:?}",
                    storm.rejected_share(),
                    storm.over_arithmetic()
                );
            }
            Err(violation) => println!("{name}: {violation}"),
        }
    }
    let plain = naive(nodes, seed);
    println!(
        "naive: {:.3} rejected, {:.2} × arithmetic, {plain:?}",
        plain.rejected_share(),
        plain.over_arithmetic()
    );
    ExitCode::SUCCESS
}

fn seeds(first: u64, more: impl Fn(u64) -> bool, steps: u64) -> ExitCode {
    let mut report = Report::default();
    let mut failures = 0;
    let mut seed = first;
    while more(seed) {
        match run(seed, steps) {
            Ok(one) => {
                if one.tally.changes > steps {
                    println!("seed {seed} made {} EC2 changes", one.tally.changes);
                }
                report.merge(&one);
            }
            Err(failure) => {
                failures += 1;
                println!("seed {}: {}", failure.seed, failure.violation);
            }
        }
        seed += 1;
    }
    println!("{} seeds without a violation, {failures} with: {:?}", report.seeds, report.tally);
    for (name, times) in report.marks.iter() {
        println!("  {times:>9} {name}");
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trace(seed: u64, steps: u64) -> ExitCode {
    let (diary, verdict) = match run_with(seed, steps, true) {
        Ok(report) => (report.diary, "no violation".to_owned()),
        Err(failure) => (failure.diary, failure.violation.to_string()),
    };
    for line in &diary {
        println!("{line}");
    }
    println!("{verdict}");
    ExitCode::SUCCESS
}

fn explore_all(depth: usize) -> ExitCode {
    for (name, world, budget) in suite() {
        let from = Instant::now();
        match explore(world, budget, depth, STATES) {
            Ok(explored) => println!("{name}: {explored:?} in {} ms", from.elapsed().as_millis()),
            Err(finding) => {
                println!("{name}: {finding}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
