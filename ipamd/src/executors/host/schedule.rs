//! When to look at what drifted: at once the first times, ever more slowly where somebody keeps undoing it. Pure: the
//! caller says what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use podwire_hostnet::Part;

/// Repairs of one part, or failures, in a row that cost nothing. *Source*: our choice; an operator who tries things out makes
/// a few.
const PATIENT: u32 = 5;
/// Repairs in a row from which on it is a quarrel, and somebody has to hear of it. *Source*: our choice; by then back-off
/// has stretched them over some seconds.
const QUARREL: u32 = 8;
/// The first pause. *Source*: our choice.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause. *Source*: our choice; short enough that the quarrel's end is noticed within a minute.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long after a repair and its pause a part must stay right to be forgiven. *Source*: our choice.
const CALM: Duration = Duration::from_secs(10);
/// Pause after a failed repair. *Source*: our choice.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// What has been noticed and not yet been looked at, and how often it had to be repaired lately.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    parts: BTreeMap<Part, Track>,
}

/// *Why failures count apart*: one ENI whose device is gone fails at every look, and must not delay the repair of others,
/// which share the part.
#[derive(Debug, Default)]
struct Track {
    due: Option<Instant>,
    by: BTreeSet<String>,
    repairs: Pace,
    failures: Pace,
}

/// How often something happened in a row, and what that costs.
#[derive(Debug, Default)]
struct Pace {
    streak: u32,
    last: Option<Instant>,
}

impl Pace {
    fn count(&mut self, now: Instant) {
        let calm = self.pause() * 2 + CALM;
        let again = self.last.is_some_and(|last| now.saturating_duration_since(last) < calm);
        self.streak = if again { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(now);
    }

    fn pause(&self) -> Duration {
        match self.streak.checked_sub(PATIENT) {
            None => Duration::ZERO,
            Some(over) => PAUSE.saturating_mul(1 << over.min(16)).min(PAUSE_MAX),
        }
    }
}

impl Track {
    fn look_at(&mut self, when: Instant) {
        self.due = Some(self.due.map_or(when, |due| due.min(when)));
    }
}

/// Somebody keeps undoing repairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quarrel {
    pub(super) part: Part,
    pub(super) repairs: u32,
    pub(super) pause: Duration,
}

impl Schedule {
    /// These parts may have drifted.
    pub(super) fn notice(&mut self, now: Instant, parts: &BTreeSet<Part>, by: &BTreeSet<String>) {
        for part in parts {
            let track = self.parts.entry(*part).or_default();
            track.look_at(track.repairs.last.map_or(now, |last| now.max(last + track.repairs.pause())));
            if track.by.len() < 8 {
                track.by.extend(by.iter().cloned());
            }
        }
    }

    /// What is to be looked at now, and who is said to have changed it.
    pub(super) fn take_due(&mut self, now: Instant) -> (BTreeSet<Part>, BTreeSet<String>) {
        let (mut parts, mut by) = (BTreeSet::new(), BTreeSet::new());
        for (part, track) in self.parts.iter_mut().filter(|(_, t)| t.due.is_some_and(|due| due <= now)) {
            track.due = None;
            parts.insert(*part);
            by.append(&mut track.by);
        }
        (parts, by)
    }

    /// When something is to be looked at next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.parts.values().filter_map(|track| track.due).min()
    }

    /// Something was put right in these parts.
    pub(super) fn repaired(&mut self, now: Instant, parts: &BTreeSet<Part>) -> Vec<Quarrel> {
        let mut quarrels = Vec::new();
        for part in parts {
            let repairs = &mut self.parts.entry(*part).or_default().repairs;
            repairs.count(now);
            if repairs.streak >= QUARREL {
                quarrels.push(Quarrel { part: *part, repairs: repairs.streak, pause: repairs.pause() });
            }
        }
        quarrels
    }

    /// Something could not be put right in these parts. Nobody will tell when what was missing is there: it is tried again,
    /// ever more slowly.
    pub(super) fn failed(&mut self, now: Instant, parts: &BTreeSet<Part>) {
        for part in parts {
            let track = self.parts.entry(*part).or_default();
            track.failures.count(now);
            track.look_at(now + track.failures.pause().max(FAILURE_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    fn only(part: Part) -> BTreeSet<Part> {
        BTreeSet::from([part])
    }

    /// An opponent who undoes every repair within 10 ms, for as long; returns the moments of repair.
    fn fight(schedule: &mut Schedule, from: Instant, long: Duration) -> (Vec<Duration>, Vec<Quarrel>) {
        let (mut repairs, mut quarrels) = (Vec::new(), Vec::new());
        let mut now = from;
        while now < from + long {
            schedule.notice(now, &only(Part::Rule), &BTreeSet::new());
            if !schedule.take_due(now).0.is_empty() {
                repairs.push(now - from);
                quarrels.extend(schedule.repaired(now, &only(Part::Rule)));
            }
            now += TICK;
        }
        (repairs, quarrels)
    }

    #[test]
    fn drift_is_due_at_once() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        assert_eq!(schedule.next(), None);
        schedule.notice(now, &only(Part::Route), &BTreeSet::from(["x".to_owned()]));
        assert_eq!(schedule.next(), Some(now));
        assert_eq!(schedule.take_due(now), (only(Part::Route), BTreeSet::from(["x".to_owned()])));
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.take_due(now), (BTreeSet::new(), BTreeSet::new()));
    }

    #[test]
    fn quarrel_ends_in_back_off_and_alarm() {
        let mut schedule = Schedule::default();
        let (repairs, quarrels) = fight(&mut schedule, Instant::now(), Duration::from_secs(600));
        assert!(repairs.len() < 25, "{} repairs in ten minutes", repairs.len());
        assert!(repairs[4] < Duration::from_millis(100), "the first ones come at once: {repairs:?}");
        assert_eq!(quarrels.first().map(|q| (q.part, q.repairs)), Some((Part::Rule, QUARREL)));
        assert_eq!(quarrels.last().map(|q| q.pause), Some(PAUSE_MAX));
        assert!(repairs.windows(2).all(|w| w[1] - w[0] <= PAUSE_MAX + TICK), "{repairs:?}");
    }

    #[test]
    fn quarrel_about_one_part_delays_no_other() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        fight(&mut schedule, start, Duration::from_secs(60));
        let now = start + Duration::from_secs(60);
        schedule.notice(now, &only(Part::Ruleset), &BTreeSet::new());
        assert_eq!(schedule.take_due(now).0, only(Part::Ruleset));
    }

    #[test]
    fn calm_is_forgiven() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        fight(&mut schedule, start, Duration::from_secs(60));
        let now = start + Duration::from_secs(60) + PAUSE_MAX * 3 + CALM;
        schedule.take_due(now);
        assert!(schedule.repaired(now, &only(Part::Rule)).is_empty());
        schedule.notice(now, &only(Part::Rule), &BTreeSet::new());
        assert_eq!(schedule.next(), Some(now));
    }

    /// The device of one ENI is gone for good; what is noticed of another one is looked at at once all the same.
    #[test]
    fn failures_slow_down_themselves_only() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let (mut now, mut tries) = (start, Vec::new());
        schedule.failed(now, &only(Part::Link));
        while let Some(next) = schedule.next().filter(|next| *next < start + Duration::from_secs(600)) {
            tries.push(next - now);
            now = next;
            assert_eq!(schedule.take_due(now).0, only(Part::Link));
            schedule.failed(now, &only(Part::Link));
        }
        assert_eq!(tries.first(), Some(&FAILURE_PAUSE));
        assert_eq!(tries.last(), Some(&PAUSE_MAX));
        assert!(tries.is_sorted() && tries.len() < 25, "{tries:?}");
        for _ in 0..PATIENT {
            now += TICK;
            schedule.notice(now, &only(Part::Link), &BTreeSet::new());
            assert_eq!(schedule.take_due(now).0, only(Part::Link));
            assert_eq!(schedule.repaired(now, &only(Part::Link)), []);
            schedule.failed(now, &only(Part::Link));
            assert_eq!(schedule.next(), Some(now + PAUSE_MAX), "the other one is tried as slowly as before");
        }
    }
}
