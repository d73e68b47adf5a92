//! Runs the bug zoo: every planted bug, by both engines. `zoo [SEEDS] [DEPTH]`.
#![allow(clippy::print_stdout, reason = "this program's output is its result")]

fn main() {
    #[cfg(feature = "planted")]
    zoo();
}

#[cfg(feature = "planted")]
fn zoo() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seeds = args.first().and_then(|a| a.parse().ok()).unwrap_or(500u64);
    let depth = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(0usize);
    for bug in podwire_pool::Bug::ALL {
        let mut found: std::collections::BTreeMap<&str, (u64, u64)> = std::collections::BTreeMap::new();
        for seed in 1..=seeds {
            let outcome = std::panic::catch_unwind(|| podwire_sim::random::run_planted(seed, 1_400, bug));
            let id = match outcome {
                Ok(Ok(_)) => continue,
                Ok(Err(failure)) => failure.violation.id,
                Err(_) => "assert",
            };
            let entry = found.entry(id).or_insert((seed, 0));
            entry.1 += 1;
        }
        println!("{bug:?}: {found:?} (id: first seed, seeds of {seeds})");
        if depth > 0 {
            for (name, mut world, budget) in podwire_sim::exhaustive::suite() {
                world.plant(bug);
                let found = podwire_sim::exhaustive::explore(world, budget, depth, 1_000_000);
                match found {
                    Ok(explored) => println!("    {name}: not found, {explored:?}"),
                    Err(finding) => {
                        println!("    {name}: {} in {} actions", finding.violation, finding.path.len())
                    }
                }
            }
        }
    }
}
