#![allow(clippy::unwrap_used, reason = "a test that finds what it did not expect has to stop")]

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Time {
    Time::from_ms(1_000_000 + ms)
}

fn known(nodes: u32) -> Share {
    Share { nodes: Some(nodes), percent: 100 }
}

#[test]
fn lone_node_calls_at_once_and_as_often_as_the_bucket_holds() {
    let mut budget = Budget::new(Share::default());
    budget.begin(at(0), &mut Jitter::new(1));
    let mut made = 0;
    while budget.closed(Action::Assign, Urgency::Warm, at(0)).is_none() {
        budget.take(Action::Assign, at(0));
        made += 1;
    }
    assert_eq!(made, 50);
    let (until, cause) = budget.closed(Action::Assign, Urgency::Waiting, at(0)).unwrap();
    assert_eq!((until, cause), (at(200), Cause::Paced { action: "AssignPrivateIpAddresses" }));
    assert_eq!(budget.closed(Action::Create, Urgency::Waiting, at(0)), None, "a bucket for each action");
}

/// A share of no nodes, which nobody can mean, is as good as none that is known.
#[test]
fn no_nodes_are_as_good_as_an_unknown_number() {
    let part = |nodes| {
        let part = Part::of(Share { nodes, percent: 100 }, Action::Assign);
        (part.capacity, part.rate, part.fair)
    };
    assert_eq!(part(Some(0)), part(None));
}

/// A throttle halves the pace and closes the action for a window that grows by half with every one in a row.
#[test]
fn throttle_halves_the_pace_and_widens_the_window() {
    let windows = [0, 1, 2].map(|strikes| window(Duration::from_secs(10), strikes).as_millis());
    assert_eq!(windows, [10_000, 15_000, 22_500]);
    let mut budget = Budget::new(known(1));
    let mut jitter = Jitter::new(1);
    budget.begin(at(0), &mut jitter);
    budget.throttled(Action::Assign, at(0), &mut jitter);
    let mut made = 0;
    for ms in (0..30_000).step_by(100) {
        if budget.closed(Action::Assign, Urgency::Waiting, at(ms)).is_none() {
            budget.take(Action::Assign, at(ms));
            made += 1;
        }
    }
    // Five a second without it, after what the bucket holds: two hundred in these thirty seconds.
    assert!((20..=76).contains(&made), "{made}");
}

/// The pool is woken when a call may be made that may not now, and for nothing else.
#[test]
fn next_deadline_is_when_something_opens() {
    let mut budget = Budget::new(Share::default());
    budget.begin(at(0), &mut Jitter::new(1));
    assert_eq!(budget.next_deadline(at(0)), None);
    for _ in 0..50 {
        budget.take(Action::Assign, at(0));
    }
    assert_eq!(budget.next_deadline(at(0)), Some(at(200)));
    assert_eq!(budget.next_deadline(at(200)), None);
}

/// The account's bucket is divided among the nodes that share it; nobody gets less than a few calls, nor more than its part.
#[test]
fn bucket_is_divided_among_the_nodes() {
    let (burst, rate) = bucket(Action::Assign);
    for (nodes, percent) in [(1, 100), (3, 100), (3, 50), (40, 100), (100_000, 1)] {
        let part = Part::of(Share { nodes: Some(nodes), percent }, Action::Assign);
        let (n, percent) = (u64::from(nodes), u64::from(percent));
        assert_eq!(
            part.capacity,
            (burst * CALL * percent / 100 / n).max(QUIET_CALLS * CALL),
            "{nodes} {percent}"
        );
        assert_eq!(
            (part.rate, part.fair),
            ((rate * percent / 100 / n).max(1), part.rate),
            "{nodes} {percent}"
        );
    }
    let alone = Part::of(Share { nodes: None, percent: 100 }, Action::Assign);
    assert_eq!((alone.capacity, alone.rate, alone.fair), (burst * CALL, rate, rate / ASSUMED_NODES));
}

/// One busy node of 5,000, and EC2 is idle: what pods wait for is not put off for a quarter of an hour; what nobody waits for
/// keeps to the fair part.
#[test]
fn busy_node_of_many_is_not_paced_to_a_standstill() {
    for (urgency, most) in
        [(Urgency::Waiting, 120_000), (Urgency::Minimum, 120_000), (Urgency::Warm, u64::MAX)]
    {
        let mut budget = Budget::new(known(5_000));
        let mut now = at(0);
        for _ in 0..20 {
            while let Some((until, _)) = budget.closed(Action::Create, urgency, now) {
                assert_eq!(budget.next_deadline(now).map(|next| next <= until), Some(true));
                now = until;
            }
            budget.take(Action::Create, now);
            now = now.after(Duration::from_millis(500));
            budget.worked(Action::Create, now);
        }
        let took = now.since(at(0)).as_millis();
        assert!(took <= u128::from(most), "{urgency:?}: {took} ms");
        assert!(urgency < Urgency::Warm || took > 600_000, "{urgency:?}: {took} ms");
    }
}

#[test]
fn two_hundred_starts_are_spread_over_what_the_bucket_refills() {
    let mut first: Vec<u64> = (0..200)
        .map(|seed| {
            let mut budget = Budget::new(known(200));
            budget.begin(at(0), &mut Jitter::new(seed));
            let closed = budget.closed(Action::Assign, Urgency::Waiting, at(0));
            closed.map_or(0, |(until, _)| until.as_ms() - at(0).as_ms())
        })
        .collect();
    first.sort_unstable();
    let at_once = first.iter().filter(|ms| **ms == 0).count();
    assert!((15..=50).contains(&at_once), "{at_once} at once");
    assert!((30_000..36_500).contains(first.last().unwrap()), "{first:?}");
    for (served, ms) in first.iter().enumerate() {
        let bucket = 50 + usize::try_from(ms / 200).unwrap();
        assert!(served <= bucket, "{served} calls after {ms} ms");
    }
}

#[test]
fn throttle_closes_within_a_growing_window_and_halves_the_rate() {
    let mut budget = Budget::new(Share::default());
    let mut jitter = Jitter::new(3);
    let mut now = at(0);
    for strikes in 0..8u32 {
        budget.take(Action::Assign, now);
        budget.throttled(Action::Assign, now, &mut jitter);
        let (until, cause) = budget.closed(Action::Assign, Urgency::Waiting, now).unwrap();
        let window = window(BLIND_WINDOW, strikes);
        assert!(until.since(now) <= window && until.since(now) >= LEAST, "{strikes}: {until:?}");
        assert_eq!(cause.name(), "ec2-throttled");
        now = until;
    }
    assert!(budget.limiters[&Action::Assign].rate <= 5_000 / ASSUMED_NODES / 64);
    budget.take(Action::Assign, now);
    budget.worked(Action::Assign, now);
    assert!(budget.limiters[&Action::Assign].rate >= 5_000 / ASSUMED_NODES, "additive increase");
}

#[test]
fn low_urgency_rests_while_any_action_is_throttled() {
    let mut budget = Budget::new(Share::default());
    budget.take(Action::Assign, at(0));
    budget.throttled(Action::Assign, at(0), &mut Jitter::new(3));
    assert_eq!(budget.closed(Action::Modify, Urgency::Minimum, at(0)), None);
    for urgency in [Urgency::Warm, Urgency::GiveBack, Urgency::Leaks] {
        assert_eq!(budget.closed(Action::Modify, urgency, at(0)).unwrap().0, at(30_000));
        assert_eq!(budget.closed(Action::Modify, urgency, at(30_000)), None);
    }
}

/// However many throttles came before: a call that gets no answer, which tells nothing of the budget, closes its action no
/// longer than the longest window.
#[test]
fn unanswered_call_after_throttles_closes_no_longer_than_a_window() {
    for share in [Share::default(), known(200), known(5_000)] {
        for strikes in 1..20 {
            let (mut budget, mut jitter) = (Budget::new(share), Jitter::new(3));
            let mut now = at(0);
            for _ in 0..strikes {
                budget.take(Action::Assign, now);
                budget.throttled(Action::Assign, now, &mut jitter);
                now = budget.closed(Action::Assign, Urgency::Waiting, now).unwrap().0;
            }
            budget.take(Action::Assign, now);
            let asked = now;
            if let Some((until, _)) = budget.closed(Action::Assign, Urgency::Waiting, asked) {
                let wait = until.since(asked);
                assert!(wait <= LONGEST_WINDOW, "{share:?}, {strikes} strikes: {wait:?}");
                assert_eq!(budget.closed(Action::Assign, Urgency::Waiting, until), None);
            }
        }
    }
}

#[test]
fn throttle_is_forgotten_after_a_calm_time() {
    let mut budget = Budget::new(Share::default());
    let mut jitter = Jitter::new(3);
    for _ in 0..12 {
        budget.throttled(Action::Assign, at(0), &mut jitter);
    }
    let later = at(900_000);
    let mut made = 0;
    while budget.closed(Action::Assign, Urgency::Waiting, later).is_none() {
        budget.take(Action::Assign, later);
        made += 1;
    }
    assert_eq!(made, 50);
}

proptest! {
    /// Whatever EC2 answers: no more calls in any time than the part of the bucket allows, and every wait has an end
    /// that `next_deadline` tells.
    #[test]
    fn calls_stay_within_the_part(
        nodes in prop::option::of(1u32..10_000),
        percent in 1u32..=100,
        seed: u64,
        answers in prop::collection::vec((0u64..20_000, any::<bool>()), 1..200),
    ) {
        let share = Share { nodes, percent };
        let (mut budget, mut jitter) = (Budget::new(share), Jitter::new(seed));
        budget.begin(at(0), &mut jitter);
        let part = Part::of(share, Action::Assign);
        let most_rate = part.rate.max(part.fair * 20).max(part.least);
        let (mut now, mut made, mut begun) = (at(0), 0u64, at(0));
        for (pause, throttled) in answers {
            now = now.after(Duration::from_millis(pause));
            if let Some((until, _)) = budget.closed(Action::Assign, Urgency::Waiting, now) {
                prop_assert!(until > now);
                prop_assert!(budget.next_deadline(now).unwrap() <= until);
                continue;
            }
            budget.take(Action::Assign, now);
            made += 1;
            if throttled {
                budget.throttled(Action::Assign, now, &mut jitter);
                (made, begun) = (0, now);
            } else {
                budget.worked(Action::Assign, now);
            }
            let span = u64::try_from(now.since(begun).as_millis()).unwrap();
            let allowed = (2 * part.capacity + CALL + span * most_rate) / CALL;
            prop_assert!(made <= allowed, "{made} calls in {span} ms, {allowed} allowed");
        }
    }
}
