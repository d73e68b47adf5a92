//! The three engines, in the size that fits every change. Longer runs: the program `sim`.

use podwire_sim::exhaustive::{Budget, explore, suite};
use podwire_sim::random::{Report, run, run_with};
use podwire_sim::tape::play;
use proptest::prelude::*;

/// Rare states that the fixed seeds must reach, or the search is vacuous.
const SOMETIMES: [&str; 34] = [
    "a dead plugin's ADD arrives",
    "a key comes back",
    "answer lost, call done",
    "attach",
    "call done after it was given up",
    "compacted",
    "cordoned",
    "cooling address used early",
    "crash between effects",
    "create",
    "delete",
    "delete on termination",
    "describe instances",
    "describe subnets",
    "detach",
    "find detached",
    "foreign ENI attached",
    "gc",
    "host not ready",
    "leak proven",
    "ledger unwritable",
    "metadata left an ENI out",
    "no subnet",
    "quarantined",
    "reboot",
    "recovered with an open intent",
    "release kept pending",
    "set groups",
    "subnet exhausted",
    "subnet floor",
    "subnet fragmented",
    "throttled",
    "ENI in another subnet",
    "leak deleted",
];

#[test]
fn fixed_seeds_break_no_invariant_and_reach_every_rare_state() {
    let mut report = Report::default();
    for seed in 1..=600 {
        match run(seed, 1_400) {
            Ok(one) => report.merge(&one),
            Err(failure) => panic!("{failure}"),
        }
    }
    for mark in SOMETIMES {
        assert!(report.marks.times(mark) > 0, "never reached: {mark}");
    }
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in [3, 8, 21] {
        let (one, other) = (run_with(seed, 800, true).unwrap(), run_with(seed, 800, true).unwrap());
        assert_eq!(one.tally, other.tally);
        assert!(one.diary.len() > 500, "{} lines", one.diary.len());
        assert!(one.diary == other.diary, "seed {seed} took another way the second time");
    }
}

#[test]
fn every_order_of_events_in_a_small_world_is_safe() {
    for (name, world, budget) in suite() {
        match explore(world, budget, 8, 2_000_000) {
            Ok(explored) => assert!(explored.states > 1_000, "{name} was hardly explored: {explored:?}"),
            Err(finding) => panic!("{name}: {finding}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_tape_is_safe(which in 0usize..3, tape in prop::collection::vec(any::<u16>(), 0..120)) {
        let (_, world, _) = suite().swap_remove(which);
        let budget = Budget { lives: 12, crashes: 2, lost: 2, waits: 12, kills: 3 };
        if let Err(finding) = play(world, budget, &tape) {
            panic!("{finding}");
        }
    }
}
