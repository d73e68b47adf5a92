//! Traces of simulated lives, faults and crashes included, play again with equal effects (issue 3, point 6).

use podwire_sim::random::run_recorded;
use podwire_trace::{Bounds, Outcome, Trace};

/// Small rings, so that most begin in the middle of a life: with operations in flight, callers waiting, back-offs running.
#[test]
fn recorded_lives_replay_with_equal_effects() {
    let (mut lives, mut inputs, mut begun_in_the_middle) = (0, 0, 0);
    for seed in 1..=40 {
        let bounds = Bounds { bytes: 1 << 20, inputs: 20 + usize::try_from(seed).unwrap() };
        let report = run_recorded(seed, 1_400, bounds).unwrap_or_else(|failure| panic!("{failure}"));
        for recording in report.recordings {
            let text = recording.to_text();
            let trace = Trace::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            begun_in_the_middle += usize::from(trace.start.stats().in_flight > 0);
            let replay = trace.replay();
            assert_eq!(replay.outcome, Outcome::Same, "seed {seed}, life {lives}");
            lives += 1;
            inputs += replay.inputs;
        }
    }
    assert!(
        begun_in_the_middle > 20,
        "{begun_in_the_middle} of {lives} traces begin with something in flight"
    );
    println!(
        "{lives} lives, {inputs} inputs replayed; {begun_in_the_middle} begun with operations in flight"
    );
}
