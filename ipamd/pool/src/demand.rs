//! What is known of demand over time: arrivals, and for how long something has been in excess.

use std::collections::VecDeque;
use std::time::Duration;

use crate::targets::Verdict;
use crate::time::Time;
use crate::tuning::{ARRIVAL_WINDOW, ARRIVALS_MAX, QUIET_STRETCH_MAX, count};

/// By how many give-back times an excess is put off at most that could not be given back. *Source*: our choice.
const POSTPONED: u32 = 8;

/// How many times the quiet gap a burst of pods may last before EC2 is asked all the same. *Source*: our choice.
const BURST_MOST: u32 = 5;

/// Pods that come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Burst {
    first: Time,
    last: Time,
}

crate::text::fields!(Burst { first, last });

impl Burst {
    /// When it counts as complete.
    fn over(self, gap: Duration) -> Time {
        self.last.after(gap).min(self.first.after(gap.saturating_mul(BURST_MOST)))
    }
}

/// What may be given back now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Surplus {
    pub(crate) singles: u32,
    pub(crate) prefixes: u32,
    pub(crate) with_enis: u32,
}

crate::text::fields!(Surplus { singles, prefixes, with_enis });

impl Surplus {
    const fn of(verdict: &Verdict) -> Self {
        Self { singles: verdict.over, prefixes: verdict.over_prefixes, with_enis: verdict.over_eni }
    }

    fn least(self, other: Self) -> Self {
        Self {
            singles: self.singles.min(other.singles),
            prefixes: self.prefixes.min(other.prefixes),
            with_enis: self.with_enis.min(other.with_enis),
        }
    }
}

/// Demand over time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Demand {
    /// Pods that should have an address here, when known.
    pub(crate) bound: Option<u32>,
    arrivals: VecDeque<Time>,
    burst: Option<Burst>,
    /// The least excess seen since then.
    quiet: Option<(Time, Surplus)>,
    stretch: u32,
    gave: Option<Time>,
    /// How often in a row nothing could be given back although it was time.
    futile: u32,
}

crate::text::fields!(Demand { bound, arrivals, burst, quiet, stretch, gave, futile });

impl Default for Demand {
    fn default() -> Self {
        Self {
            bound: None,
            arrivals: VecDeque::new(),
            burst: None,
            quiet: None,
            stretch: 1,
            gave: None,
            futile: 0,
        }
    }
}

impl Demand {
    /// A pod came.
    pub(crate) fn arrived(&mut self, now: Time, gap: Duration) {
        self.expect(now, gap);
        self.arrivals.push_back(now);
        if self.arrivals.len() > ARRIVALS_MAX {
            self.arrivals.pop_front();
        }
    }

    /// Pods may come together from now on: one just did.
    pub(crate) fn expect(&mut self, now: Time, gap: Duration) {
        let first = self.burst.filter(|burst| now < burst.over(gap)).map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    /// The daemon begins: pods that waited for it come as soon as their plugins notice, so the whole time of a burst is given
    /// them; the first that comes shortens it to the gap.
    pub(crate) fn begin(&mut self, now: Time, gap: Duration) {
        self.burst = Some(Burst { first: now, last: now.after(gap.saturating_mul(BURST_MOST - 1)) });
    }

    /// Until when more pods of the same burst are expected.
    pub(crate) fn gathers(&self, now: Time, gap: Duration) -> Option<Time> {
        self.burst.map(|burst| burst.over(gap)).filter(|over| *over > now)
    }

    /// How many came lately.
    pub(crate) fn arrivals(&mut self, now: Time) -> u32 {
        while self.arrivals.pop_front_if(|at| now.since(*at) >= ARRIVAL_WINDOW).is_some() {}
        count(self.arrivals.len())
    }

    /// Notes the verdict of now; gives what has been in excess for `quiet` without a break. Demand that comes back
    /// soon after something was given back stretches that time (no flapping, L5); a long calm shrinks it again.
    pub(crate) fn note(
        &mut self,
        now: Time,
        verdict: &Verdict,
        empty_enis: bool,
        quiet: Duration,
    ) -> Option<Surplus> {
        let span = quiet.saturating_mul(self.stretch);
        if verdict.short > 0 {
            self.quiet = None;
            self.futile = 0;
            if self.gave.take_if(|gave| now.since(*gave) < span.saturating_mul(2)).is_some() {
                self.stretch = self.stretch.saturating_mul(2).min(QUIET_STRETCH_MAX);
            }
            return None;
        }
        if self.stretch > 1 && self.gave.is_some_and(|gave| now.since(gave) >= span.saturating_mul(8)) {
            self.stretch /= 2;
            self.gave = Some(now);
        }
        let surplus = Surplus::of(verdict);
        if surplus == Surplus::default() && !empty_enis {
            self.quiet = None;
            return None;
        }
        let (since, least) =
            self.quiet.map_or((now, surplus), |(since, least)| (since, least.least(surplus)));
        if least == Surplus::default() && !empty_enis {
            self.quiet = Some((now, surplus));
            return None;
        }
        self.quiet = Some((since, least));
        (now >= since.after(span)).then_some(least)
    }

    /// Something was given back: what is left has to be in excess for as long again.
    pub(crate) fn gave(&mut self, now: Time) {
        self.gave = Some(now);
        self.futile = 0;
        self.quiet = None;
    }

    /// Nothing could be given back although it was time: what is in excess now has to last once more, and ever longer, so
    /// that an excess of the wrong shape does not keep the timer busy. *Why not longer at once*: the least of a time in
    /// which addresses were cooling is often too little for an ENI that is wholly idle by now.
    pub(crate) fn postpone(&mut self, now: Time, verdict: &Verdict, quiet: Duration) {
        let longer = 1u32.checked_shl(self.futile).map_or(POSTPONED, |times| (times - 1).min(POSTPONED));
        self.futile = self.futile.saturating_add(1).min(POSTPONED);
        self.quiet = Some((now.after(quiet.saturating_mul(longer)), Surplus::of(verdict)));
    }

    /// When the excess will have lasted long enough.
    pub(crate) fn next_deadline(&self, quiet: Duration) -> Option<Time> {
        self.quiet.map(|(since, _)| since.after(quiet.saturating_mul(self.stretch)))
    }
}

#[cfg(test)]
mod tests;
