//! Runs seeds: `sim FIRST COUNT [STEPS]`, or `sim --minutes N` with fresh seeds. Prints what was reached.
#![allow(clippy::print_stdout, reason = "this program's output is its result")]

use std::process::ExitCode;
use std::time::Instant;

use podwire_sim::random::{Report, run, run_with};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "trace") {
        let seed = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(1);
        let steps = args.get(2).and_then(|a| a.parse().ok()).unwrap_or(1_400);
        let (diary, verdict) = match run_with(seed, steps, true) {
            Ok(report) => (report.diary, "no violation".to_owned()),
            Err(failure) => (failure.diary, failure.violation.to_string()),
        };
        for line in &diary {
            println!("{line}");
        }
        println!("{verdict}");
        return ExitCode::SUCCESS;
    }
    if args.first().is_some_and(|a| a == "explore") {
        return explore_all(args.get(1).and_then(|a| a.parse().ok()).unwrap_or(10));
    }
    if args.first().is_some_and(|a| a == "perf") {
        for pods in [0, 100, 400, 690] {
            println!("{pods:>4} pods: {:?}", podwire_sim::perf::measure(pods, 2_000));
        }
        return ExitCode::SUCCESS;
    }
    let number = |n: usize, or: u64| args.get(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (first, count, steps) = (number(0, 1), number(1, 100), number(2, 1_400));
    let mut report = Report::default();
    let mut failures = 0;
    for seed in first..first + count {
        match run(seed, steps) {
            Ok(one) => {
                if one.tally.changes > 600 {
                    println!("seed {seed} made {} changes", one.tally.changes);
                }
                report.merge(&one);
            }
            Err(failure) => {
                failures += 1;
                if failures == 1 {
                    println!("{failure}");
                } else {
                    println!("seed {}: {}", failure.seed, failure.violation);
                }
            }
        }
    }
    println!("{} seeds without a violation, {failures} with: {:?}", report.seeds, report.tally);
    for (name, times) in report.marks.iter() {
        println!("  {times:>9} {name}");
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explore_all(depth: usize) -> ExitCode {
    for (name, world, budget) in podwire_sim::exhaustive::suite() {
        let from = Instant::now();
        match podwire_sim::exhaustive::explore(world, budget, depth, 4_000_000) {
            Ok(explored) => println!("{name}: {explored:?} in {} ms", from.elapsed().as_millis()),
            Err(finding) => {
                println!("{name}: {finding}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
