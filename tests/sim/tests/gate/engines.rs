//! The three engines, in the size that fits every change. Longer runs: the program `sim`.

use std::time::Duration;

use podwire_sim::crew::{Seeds, sow};
use podwire_sim::exhaustive::{Budget, End, explore, suite};
use podwire_sim::marks::SOMETIMES;
use podwire_sim::random::run_with;
use podwire_sim::tape::play;
use proptest::prelude::*;

#[test]
fn fixed_seeds_break_no_invariant_and_reach_every_rare_state() {
    let seeds = Seeds { first: 1, count: 600, time: Duration::from_secs(600), steps: 1_400 };
    let harvest = sow(seeds);
    if let Some(failure) = harvest.failures.first() {
        panic!("{failure}");
    }
    for mark in SOMETIMES {
        assert!(harvest.report.marks.times(mark) > 0, "never reached: {mark}");
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
        match explore(world, budget, End::at_depth(7, 2_000_000)) {
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
