use super::*;

const QUIET: Duration = Duration::from_secs(30);
const GAP: Duration = Duration::from_millis(20);

fn at(ms: u64) -> Time {
    Time::from_ms(1_000_000 + ms)
}

fn seconds(s: u64) -> Time {
    at(s * 1_000)
}

fn over(singles: u32) -> Verdict {
    Verdict { over: singles, over_eni: singles, ..Verdict::default() }
}

fn short() -> Verdict {
    Verdict { short: 1, ..Verdict::default() }
}

/// After how many seconds an excess that begins now may go.
fn lasts(demand: &mut Demand, now: u64) -> u64 {
    (now..now + 1_000)
        .find(|s| demand.note(seconds(*s), &over(1), false, QUIET).is_some())
        .expect("an excess that lasts goes at some time")
        - now
}

#[test]
fn arrivals_count_within_their_window_and_up_to_their_bound() {
    let mut demand = Demand::default();
    demand.arrived(at(0), GAP);
    demand.arrived(at(1), GAP);
    assert_eq!(demand.arrivals(at(9_999)), 2);
    assert_eq!(demand.arrivals(at(10_000)), 1, "the first one came ten seconds ago");
    for _ in 0..100 {
        demand.arrived(at(10_000), GAP);
    }
    assert_eq!(demand.arrivals(at(10_000)), 64);
    assert_eq!(demand.arrivals(at(20_000)), 0);
}

/// A pod that comes when a burst counts as complete is the first of the next one, which is waited for in full.
#[test]
fn pod_after_a_complete_burst_begins_the_next_one() {
    let mut demand = Demand::default();
    for n in 0..=5 {
        demand.arrived(at(n * 20), GAP);
    }
    assert_eq!(demand.gathers(at(100), GAP), Some(at(120)));
    assert_eq!(demand.gathers(at(120), GAP), None);
}

#[test]
fn excess_goes_once_it_has_lasted_without_a_break() {
    let mut demand = Demand::default();
    assert_eq!(demand.note(seconds(0), &over(3), false, QUIET), None);
    assert_eq!(demand.note(seconds(10), &over(2), false, QUIET), None);
    let least = Surplus { singles: 2, prefixes: 0, with_enis: 2 };
    assert_eq!(
        demand.note(seconds(30), &over(5), false, QUIET),
        Some(least),
        "no more than was idle all along"
    );
    demand.note(seconds(31), &short(), false, QUIET);
    assert_eq!(demand.note(seconds(32), &over(3), false, QUIET), None);
    assert_eq!(demand.next_deadline(QUIET), Some(seconds(62)));
}

/// L5: what was given back and is wanted again soon is given back more reluctantly from then on, up to sixteen times.
#[test]
fn demand_soon_after_a_giving_back_doubles_the_time_of_the_next_one() {
    let mut demand = Demand::default();
    let mut now = 0;
    for expected in [30, 60, 120, 240, 480, 480] {
        let waited = lasts(&mut demand, now);
        assert_eq!(waited, expected);
        now += waited;
        demand.gave(seconds(now));
        now += 1;
        demand.note(seconds(now), &short(), false, QUIET);
    }
}

#[test]
fn demand_long_after_a_giving_back_changes_nothing() {
    let mut demand = Demand::default();
    demand.gave(seconds(0));
    demand.note(seconds(60), &short(), false, QUIET);
    assert_eq!(lasts(&mut demand, 61), 30);
    let mut demand = Demand::default();
    demand.gave(seconds(0));
    demand.note(seconds(59), &short(), false, QUIET);
    assert_eq!(lasts(&mut demand, 61), 60);
}

/// A calm of eight times the present time halves it, and never below what the settings say.
#[test]
fn long_calm_shrinks_the_time_again() {
    let mut demand = Demand::default();
    for now in [0, 1] {
        demand.gave(seconds(now));
        demand.note(seconds(now), &short(), false, QUIET);
    }
    assert_eq!(lasts(&mut demand, 2), 120);
    demand.gave(seconds(200));
    let calm = Verdict::default();
    let ends = |demand: &Demand, now: u64| {
        let mut demand = demand.clone();
        demand.note(seconds(now), &over(1), false, QUIET);
        demand.next_deadline(QUIET).expect("an excess ends").since(seconds(now)).as_secs()
    };
    let first = 200 + 8 * 120;
    demand.note(seconds(first - 1), &calm, false, QUIET);
    assert_eq!(ends(&demand, first - 1), 120, "not yet");
    demand.note(seconds(first), &calm, false, QUIET);
    assert_eq!(ends(&demand, first), 60);
    let second = first + 8 * 60;
    demand.note(seconds(second - 1), &calm, false, QUIET);
    assert_eq!(ends(&demand, second - 1), 60, "not yet");
    demand.note(seconds(second), &calm, false, QUIET);
    assert_eq!(ends(&demand, second), 30);
    demand.note(seconds(100_000), &calm, false, QUIET);
    assert_eq!(ends(&demand, 100_000), 30);
}

/// An excess of the wrong shape wakes the pool ever more rarely, and as often as at first once something went.
#[test]
fn excess_that_cannot_go_is_looked_at_less_and_less_often() {
    let mut demand = Demand::default();
    let waits = |demand: &mut Demand, now: u64| {
        demand.postpone(seconds(now), &over(1), QUIET);
        let next = demand.next_deadline(QUIET).expect("it is looked at again");
        next.since(seconds(now)).as_secs()
    };
    let all: Vec<u64> = (0..7).map(|n| waits(&mut demand, n * 1_000)).collect();
    assert_eq!(all, [30, 60, 120, 240, 270, 270, 270]);
    demand.gave(seconds(10_000));
    assert_eq!(demand.next_deadline(QUIET), None, "what is left has to be in excess anew");
    assert_eq!(waits(&mut demand, 10_001), 30);
}
