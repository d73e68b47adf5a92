//! Wanted against present: the next EC2 calls that add addresses (design D7, D10, D13).

use crate::backoff::Action;
use crate::cause::Cause;
use crate::effect::{Ec2Call, Effect, GrowBy};
use crate::eni::{Eni, Exit, Role, Slot, Stage};
use crate::ids::{GroupId, NetworkCard, SubnetId};
use crate::machine::{Growth, Pool};
use crate::ops::{About, unit};
use crate::planted::Bug;
use crate::settings::Mode;
use crate::targets::{Census, Verdict, verdict};
use crate::time::Time;
use crate::tuning::{DOUBT_COUNTS, PREFIX_SIZE, count};

/// Host failures in a row after which an ENI's addresses no longer count as about to help. *Source*: our choice.
const HOST_PATIENCE: u32 = 3;
/// EC2 failures in a row after which an ENI's room no longer counts. *Source*: our choice.
const ENI_PATIENCE: u32 = 3;

impl Pool {
    /// Everything that may call EC2.
    pub(crate) fn tend_ec2(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.stopping || self.journal.failing().is_some() {
            self.growth = Growth::Halted;
            return;
        }
        self.describing.first_look(now, self.observed);
        self.tend_lives(now, out);
        if self.observed {
            let census = self.census(now);
            let verdict = verdict(&self.settings, &census);
            self.growth = self.grow(now, &verdict, out);
            self.give_back(now, &verdict);
        } else {
            self.growth = Growth::Blind;
        }
        self.tend_describe(now, out);
    }

    /// Counts what the targets look at.
    pub(crate) fn census(&mut self, now: Time) -> Census {
        let mut census = Census {
            coming: self.ops.coming(),
            waiting: self.requests.waiting(),
            bound: self.demand.bound,
            arrivals: self.demand.arrivals(now),
            ..Census::default()
        };
        for (_, eni) in self.ledger.enis() {
            census.held += eni.counts.held;
            if !eni.carries_pods(&self.settings) || !eni.staying() {
                continue;
            }
            census.resting += eni.counts.cooling + eni.counts.releasing;
            if !supplies(eni, now) {
                // What is of no use does not count against what may be held.
                census.total += eni.counts.held;
            } else {
                census.total += eni.counts.total;
                census.prefixes += eni.counts.prefixes;
                census.free += eni.counts.free;
                census.idle_prefixes += eni.counts.idle_prefixes;
            }
        }
        census
    }

    /// ENIs the instance may have.
    pub(crate) fn most_enis(&self, now: Time) -> u32 {
        if self.planted(Bug::IgnoresLimits) {
            return u32::MAX;
        }
        let mut most = self.settings.limits.enis.min(self.settings.max_eni.unwrap_or(u32::MAX));
        if let Some((learned, until)) = self.learned_enis
            && until > now
        {
            most = most.min(learned);
        }
        most
    }

    /// ENIs that take a place, or are about to.
    fn enis_taken(&self) -> u32 {
        let known = self
            .ledger
            .enis()
            .filter(|(_, e)| e.card == NetworkCard(0) && e.stage != Stage::Leaving(Exit::Delete));
        count(known.count()).saturating_add(u32::from(self.ops.creating()))
    }

    /// Places of one new ENI.
    const fn places(&self) -> u32 {
        self.settings.limits.ipv4_per_eni.saturating_sub(1)
    }

    /// Addresses the node can hold for pods.
    pub(crate) fn capacity(&self) -> u32 {
        let unit = unit(self.settings.mode);
        let carrying = self.ledger.enis().filter(|(_, e)| e.carries_pods(&self.settings) && e.staying());
        let present = count(carrying.count()).saturating_mul(self.places()).saturating_mul(unit);
        let more = self.most_enis(self.now).saturating_sub(self.enis_taken());
        let possible = present.saturating_add(more.saturating_mul(self.places()).saturating_mul(unit));
        possible.min(self.settings.max_pods)
    }

    /// Adds what is short, as far as limits and back-offs allow.
    fn grow(&mut self, now: Time, verdict: &Verdict, out: &mut Vec<Effect>) -> Growth {
        if verdict.short == 0 {
            return self.not_short(now);
        }
        let mut short = verdict.short;
        let mut waits: Option<(Time, Cause)> = None;
        let mut flying = self.ops.coming() > 0;
        for slot in self.fullest_first() {
            if short == 0 {
                break;
            }
            match self.grow_eni(now, slot, short, verdict.fill, out) {
                Step::Nothing => {}
                Step::Asked(n) => {
                    flying = true;
                    short = short.saturating_sub(n);
                }
                Step::Busy(n) => {
                    flying = true;
                    short = short.saturating_sub(n);
                }
                Step::Waits(n, until, cause) => {
                    short = short.saturating_sub(n);
                    sooner(&mut waits, until, cause);
                }
            }
        }
        if short > 0 {
            match self.grow_by_eni(now, short, verdict.fill) {
                Step::Nothing => {}
                Step::Asked(_) | Step::Busy(_) => flying = true,
                Step::Waits(_, until, cause) => sooner(&mut waits, until, cause),
            }
        }
        match waits {
            _ if flying => Growth::InFlight,
            Some((until, cause)) => Growth::Waiting(until, cause),
            None => Growth::Full,
        }
    }

    /// Nothing more is to be asked for: because there is enough, or because there may not be more.
    fn not_short(&mut self, now: Time) -> Growth {
        let starving = self.requests.queued() > 0;
        if !starving {
            return Growth::Satisfied;
        }
        let census = self.census(now);
        if census.coming > 0 {
            return Growth::InFlight;
        }
        if census.free == 0 {
            return Growth::Full;
        }
        self.life_waits(now).map_or(Growth::InFlight, |(until, cause)| Growth::Waiting(until, cause))
    }

    /// ENIs by number of taken places, most first; equal ones by device index.
    fn fullest_first(&self) -> Vec<Slot> {
        let mut slots: Vec<(u32, u32, Slot)> = self
            .ledger
            .enis()
            .filter(|(_, e)| e.ours())
            .map(|(slot, e)| (u32::MAX - e.counts.slots, e.device.0, slot))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, _, slot)| slot).collect()
    }

    fn grow_eni(&mut self, now: Time, slot: Slot, short: u32, fill: bool, out: &mut Vec<Effect>) -> Step {
        let Some(eni) = self.ledger.eni(slot) else { return Step::Nothing };
        let in_flight = self.places_in_flight(slot);
        let mut room = eni.room(&self.settings, now).saturating_sub(in_flight);
        if self.planted(Bug::IgnoresLimits) {
            room = room.saturating_add(1);
        }
        if room == 0 || !supplies(eni, now) {
            return Step::Nothing;
        }
        let subnet = eni.subnet.clone();
        let unit = self.unit_in(&subnet, now);
        let helps = room.saturating_mul(unit).min(short);
        let ready = eni.stage == Stage::Attached && eni.ec2_op.is_none() && eni.doubt.is_none();
        if !ready {
            return Step::Busy(helps);
        }
        if let Some((until, cause)) = self.gates.exhausted(&subnet, now) {
            return Step::Waits(helps, until, cause);
        }
        if let Some((until, cause)) = self.gates.closed(Action::Assign, now) {
            return Step::Waits(helps, until, cause);
        }
        if let Some((until, cause)) = eni.retry.wait(now).zip(eni.retry.cause().cloned()) {
            let patient = eni.retry.tries() < ENI_PATIENCE;
            return Step::Waits(if patient { helps } else { 0 }, until, cause);
        }
        let wanted = if fill { room } else { short.div_ceil(unit).min(room) };
        let by = self.growth_of(wanted.min(self.gates.at_most(&subnet)), unit);
        let call = Ec2Call::Assign { eni: eni.id.clone(), by };
        self.call(now, slot, About::Assign { slot, by }, call, out);
        Step::Asked(helps)
    }

    /// When nothing fits any more on what is there.
    fn grow_by_eni(&mut self, now: Time, short: u32, fill: bool) -> Step {
        let Some((subnet, groups)) = self.home() else { return Step::Nothing };
        if self.enis_taken() >= self.most_enis(now) || self.places() == 0 {
            return Step::Nothing;
        }
        if self.ops.creating() {
            return Step::Busy(short);
        }
        if self.intents.values().any(|i| i.create.is_some() && i.doubted.is_some()) {
            // One with an unknown outcome: not another before a Describe has told.
            return Step::Busy(short);
        }
        if let Some((until, cause)) = self.gates.exhausted(&subnet, now) {
            return Step::Waits(short, until, cause);
        }
        for action in [Action::Create, Action::Attach] {
            if let Some((until, cause)) = self.gates.closed(action, now) {
                return Step::Waits(short, until, cause);
            }
        }
        let unit = self.unit_in(&subnet, now);
        let wanted = if fill { self.places() } else { short.div_ceil(unit).min(self.places()) };
        let with = self.growth_of(wanted.min(self.gates.at_most(&subnet)), unit);
        let call = Ec2Call::Create { subnet, groups, with };
        let op = self.ops.open(About::Create { with }, now, Some(call));
        self.intend(op, Some(with), None);
        Step::Asked(short)
    }

    /// Places that calls in flight will take on an ENI.
    fn places_in_flight(&self, slot: Slot) -> u32 {
        let calls = self.ops.iter().filter_map(|(_, op)| match &op.about {
            About::Assign { slot: s, by } if *s == slot => Some(crate::ops::places_of(*by)),
            About::Assign { .. }
            | About::Unassign { .. }
            | About::Create { .. }
            | About::Attach { .. }
            | About::Terminate { .. }
            | About::Detach { .. }
            | About::Delete { .. }
            | About::Describe { .. }
            | About::Configure { .. }
            | About::AddSources { .. }
            | About::RemoveSources { .. }
            | About::RemoveEni { .. }
            | About::Flush { .. } => None,
        });
        calls.fold(0, u32::saturating_add)
    }

    /// Addresses one place brings in this subnet now: a whole prefix, or one where no /28 is to be had (design D13).
    fn unit_in(&self, subnet: &SubnetId, now: Time) -> u32 {
        match self.settings.mode {
            Mode::Prefix if !self.gates.fragmented(subnet, now) => PREFIX_SIZE,
            Mode::Prefix | Mode::SecondaryIp => 1,
        }
    }

    fn growth_of(&self, places: u32, unit: u32) -> GrowBy {
        if unit > 1 { GrowBy::Prefixes(places) } else { GrowBy::Addresses(places) }
    }

    /// Subnet and groups of the primary ENI: those of every ENI we make.
    pub(crate) fn home(&self) -> Option<(SubnetId, Vec<GroupId>)> {
        let (_, primary) = self.ledger.enis().find(|(_, e)| e.role == Role::Primary)?;
        Some((primary.subnet.clone(), primary.groups.clone()))
    }
}

/// What became of one attempt; the number is how many addresses it will bring.
enum Step {
    Nothing,
    Asked(u32),
    Busy(u32),
    Waits(u32, Time, Cause),
}

fn sooner(waits: &mut Option<(Time, Cause)>, until: Time, cause: Cause) {
    if waits.as_ref().is_none_or(|(other, _)| until < *other) {
        *waits = Some((until, cause));
    }
}

/// Whether an ENI's free addresses and room may be counted on: not when it is long in doubt, missing, or the host
/// cannot configure it.
fn supplies(eni: &Eni, now: Time) -> bool {
    let clear = eni.doubt.is_none_or(|doubt| now < doubt.since.after(DOUBT_COUNTS));
    let host = eni.configured || eni.host_retry.tries() < HOST_PATIENCE;
    clear && host && eni.missing.is_none() && eni.staying()
}
