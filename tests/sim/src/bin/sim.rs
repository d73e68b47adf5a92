//! The simulator by hand; `sim help` tells its commands.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program's output is its result")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use podwire_pool::settings::Share;
use podwire_sim::crew::{Harvest, Seeds, sow};
use podwire_sim::exhaustive::search;
use podwire_sim::marks::SOMETIMES;
use podwire_sim::random::run_with;
use podwire_sim::storm::{naive, storm};

/// Steps of a seed with faults, unless said otherwise. *Source*: our choice.
const STEPS: u64 = 1_400;
/// Far longer than any run.
const EVER: Duration = Duration::from_secs(1 << 32);

const USAGE: &str = "usage:
  sim gate [SEEDS] [SECONDS]   what every change must pass: SEEDS random seeds (20000), then SECONDS (60) of the explorer
  sim run FIRST COUNT [STEPS]  these seeds
  sim --minutes N              fresh seeds for so long
  sim explore SECONDS          all states of the small worlds, as deep as the time allows
  sim trace SEED [STEPS]       every input and effect of one seed
  sim zoo [SEEDS [SECONDS]]    every planted bug, by seeds and by the explorer (with the feature `planted`)
  sim storm [NODES [SEED]]     many nodes let loose on one account at once";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize, or: u64| args.get(n).map_or(Ok(or), |a| a.parse::<u64>());
    let command = args.first().map_or("", String::as_str);
    let (Ok(one), Ok(two), Ok(three)) = (number(1, 0), number(2, 0), number(3, STEPS)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match (command, args.len()) {
        ("gate", 1..=3) => {
            let seeds = Seeds {
                first: 1,
                count: if args.len() > 1 { one } else { 20_000 },
                time: EVER,
                steps: STEPS,
            };
            let sound = told(&sow(seeds), true);
            let seconds = if args.len() > 2 { two } else { 60 };
            all(&[sound, explored(seconds)])
        }
        ("run", 3..=4) => {
            all(&[told(&sow(Seeds { first: one, count: two, time: EVER, steps: three }), false)])
        }
        ("--minutes", 2) => {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let first = since_epoch.as_secs().saturating_mul(1_000_000);
            let time = Duration::from_secs(one.saturating_mul(60));
            println!("fresh seeds from {first}");
            all(&[told(&sow(Seeds { first, count: u64::MAX, time, steps: STEPS }), false)])
        }
        ("explore", 2) => all(&[explored(one)]),
        ("trace", 2..=3) => trace(one, if args.len() > 2 { two } else { STEPS }),
        ("storm", 1..=3) => storms(
            if args.len() > 1 { usize::try_from(one).unwrap_or(200) } else { 200 },
            if args.len() > 2 { two } else { 1 },
        ),
        #[cfg(feature = "planted")]
        ("zoo", 1..=3) => zoo(if args.len() > 1 { one } else { 500 }, if args.len() > 2 { two } else { 0 }),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(if command == "help" { 0 } else { 2 })
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

fn all(sound: &[bool]) -> ExitCode {
    if sound.iter().all(|s| *s) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what seeds did; true when nothing broke and, where it is asked for, every rare state was reached.
fn told(harvest: &Harvest, everything: bool) -> bool {
    for (name, times) in harvest.report.marks.iter() {
        println!("  {times:>9} {name}");
    }
    for (seed, changes) in &harvest.busy {
        println!("seed {seed} asked EC2 for {changes} changes");
    }
    for failure in &harvest.failures {
        println!("seed {}: {}; replay: sim trace {}", failure.seed, failure.violation, failure.seed);
    }
    println!("{harvest}");
    let missing: Vec<_> = SOMETIMES.iter().filter(|m| harvest.report.marks.times(m) == 0).collect();
    if everything && !missing.is_empty() {
        println!("never reached: {missing:?}");
        return false;
    }
    harvest.failed == 0
}

fn explored(seconds: u64) -> bool {
    let mut sound = true;
    for (name, outcome) in search(Duration::from_secs(seconds)) {
        match outcome {
            Ok(explored) => println!("explorer world={name:?} violations=0 {explored}"),
            Err(finding) => {
                println!("explorer world={name:?} violations=1 {finding}");
                sound = false;
            }
        }
    }
    sound
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

/// Runs every planted bug by the random engine, and by the explorer where it gets time.
#[cfg(feature = "planted")]
fn zoo(seeds: u64, seconds: u64) -> ExitCode {
    use std::collections::BTreeMap;

    use podwire_sim::exhaustive::{End, explore, suite};
    use podwire_sim::random::run_planted;

    for bug in podwire_pool::Bug::ALL {
        let mut found: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for seed in 1..=seeds {
            let id = match std::panic::catch_unwind(|| run_planted(seed, STEPS, bug)) {
                Ok(Ok(_)) => continue,
                Ok(Err(failure)) => failure.violation.id,
                Err(_) => "assert",
            };
            found.entry(id).or_insert((seed, 0)).1 += 1;
        }
        println!("{bug:?}: {found:?} (id: first seed, seeds of {seeds})");
        for (name, mut world, budget) in suite() {
            if seconds == 0 {
                break;
            }
            world.plant(bug);
            let at = std::time::Instant::now() + Duration::from_secs(seconds);
            match explore(world, budget, End { depth: usize::MAX, states: 1_000_000, at: Some(at) }) {
                Ok(explored) => println!("    {name}: not found, {explored}"),
                Err(finding) => {
                    println!("    {name}: {} in {} actions", finding.violation, finding.path.len())
                }
            }
        }
    }
    ExitCode::SUCCESS
}
