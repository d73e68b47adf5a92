//! Wanted against present: the next EC2 calls that add addresses (design D7, D10, D13).

use crate::backoff::Action;
use crate::budget::Urgency;
use crate::cause::Cause;
use crate::effect::{Ec2Call, Effect, GrowBy};
use crate::eni::{Eni, Role, Slot, Stage};
use crate::ids::{GroupId, SubnetId};
use crate::machine::{Growth, Pool};
use crate::ops::{About, addresses_of};
use crate::planted::Bug;
use crate::settings::{Mode, Warm};
use crate::targets::{Census, Verdict, verdict};
use crate::time::Time;
use crate::tuning::{DOUBT_COUNTS, PREFIX_SIZE};

/// Host failures in a row after which an ENI's addresses no longer count as about to help. *Source*: our choice.
const HOST_PATIENCE: u32 = 3;
/// EC2 failures in a row after which an ENI's room no longer counts. *Source*: our choice.
const ENI_PATIENCE: u32 = 3;

impl Pool {
    /// Everything that may call EC2.
    pub(crate) fn tend_ec2(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.stopping || self.journal.failing().is_some() {
            self.growth = Growth::Halted;
            let unwritable = |reason: &str| Cause::LedgerUnwritable { reason: reason.into() };
            let cause = self.journal.failing().map_or(Cause::Stopping, unwritable);
            self.refuse_leak_askers(&cause, out);
            return;
        }
        self.budget.begin(now, &mut self.jitter);
        self.describing.first_look(now, self.observed);
        self.tend_lives(now, out);
        if self.observed {
            let census = self.census(now);
            let verdict = verdict(&self.settings, &census);
            let growth = self.grow(now, &census, &verdict, out);
            self.tell_limit(&growth, out);
            self.growth = growth;
            self.give_back(now, &verdict);
        } else {
            self.growth = Growth::Blind;
        }
        self.tend_groups(now, out);
        self.tend_tags(now, out);
        self.tend_describe(now, out);
        self.tend_leaks(now, out);
    }

    /// Tells people once why growth stops at a limit that somebody set.
    fn tell_limit(&self, growth: &Growth, out: &mut Vec<Effect>) {
        let Growth::Waiting(_, cause) = growth else { return };
        let set = matches!(cause, Cause::SubnetFloor { .. } | Cause::NoSubnet | Cause::NoEniConfig);
        let told = matches!(&self.growth, Growth::Waiting(_, before) if before.name() == cause.name());
        if set && !told {
            out.push(Effect::Explain(cause.clone()));
        }
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

    /// What growth is for, and how badly it is wanted.
    fn want(&self, census: &Census, verdict: &Verdict) -> Want {
        let waiting = census.waiting.saturating_sub(census.free.saturating_add(census.coming));
        let bound = census.bound.is_some_and(|bound| bound > census.held.saturating_add(census.waiting));
        let minimum = match self.settings.warm {
            Warm::DemandDriven => 0,
            Warm::Targets { minimum, .. } => minimum,
        };
        let urgency = match waiting {
            0 if bound || census.total.saturating_add(census.coming) < minimum => Urgency::Minimum,
            0 => Urgency::Warm,
            _ => Urgency::Waiting,
        };
        // Without any address the node is not ready, and no pod can come and wait.
        let none = census.coming == 0 && self.ledger.enis().all(|(_, eni)| eni.counts.slots == 0);
        let first = u32::from(none);
        Want { fill: verdict.fill, ahead: verdict.ahead, urgency, urgent: waiting.max(first) }
    }

    /// Adds what is short, as far as limits and back-offs allow: prefixes on what is there, then on a new ENI, which may
    /// be in another subnet; single addresses only where no prefix is to be had anywhere (design D13). *Why* another
    /// subnet first: an ENI's places are what a node runs out of, and a prefix brings sixteen addresses to one place.
    fn grow(&mut self, now: Time, census: &Census, verdict: &Verdict, out: &mut Vec<Effect>) -> Growth {
        if verdict.short == 0 {
            return self.not_short(now);
        }
        let want = self.want(census, verdict);
        if let Growth::Waiting(_, Cause::SubnetFloor { .. }) = &self.growth {
            self.doubt_floor();
        }
        // Pods that come when their burst is over begin the next one; those before them have waited long enough.
        let over = matches!(self.growth, Growth::Gathering(until) if until <= now);
        if !over && let Some(until) = self.demand.gathers(now, self.settings.gather) {
            return Growth::Gathering(until);
        }
        if want.urgency != Urgency::Waiting && self.look_at_subnets(now, false, want.urgency, out) {
            return Growth::InFlight;
        }
        let mut tally = Tally { short: verdict.short, waits: None, flying: self.ops.coming() > 0 };
        let units: &[u32] = match self.settings.mode {
            Mode::Prefix => &[PREFIX_SIZE, 1],
            Mode::SecondaryIp => &[1],
        };
        for unit in units {
            for slot in self.fullest_first() {
                if tally.short > 0 {
                    let step = self.grow_eni(now, slot, want, *unit, tally.short, out);
                    tally.add(step);
                }
            }
            if tally.short > 0 {
                let step = self.grow_by_eni(now, want, *unit, tally.short, out);
                tally.add(step);
            }
        }
        match tally.waits {
            _ if tally.flying => Growth::InFlight,
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

    fn grow_eni(
        &mut self,
        now: Time,
        slot: Slot,
        want: Want,
        unit: u32,
        short: u32,
        out: &mut Vec<Effect>,
    ) -> Step {
        let Some(eni) = self.ledger.eni(slot) else { return Step::Nothing };
        let in_flight = self.places_in_flight(slot);
        let mut room = eni.room(&self.settings, now).saturating_sub(in_flight);
        if self.planted(Bug::IgnoresLimits) {
            room = room.saturating_add(1);
        }
        let subnet = eni.subnet.clone();
        if room == 0 || !supplies(eni, now) || long_doubtful(eni, now) || self.unit_in(&subnet, now) != unit {
            return Step::Nothing;
        }
        if let Some((until, cause)) = self.gates.exhausted(&subnet, now) {
            // Others may have room in another subnet.
            return Step::Waits(0, until, cause);
        }
        let helps = room.saturating_mul(unit).min(short);
        let ready = eni.stage == Stage::Attached && eni.ec2_op.is_none() && eni.doubt.is_none();
        if !ready {
            return Step::Busy(helps);
        }
        if eni.role == Role::Borrowed
            && let Some((until, cause)) = self.closed(Action::Tag, want.urgency, now)
        {
            // Where tagging is not allowed the others have to grow.
            return Step::Waits(0, until, cause);
        }
        if let Some((until, cause)) = self.closed(Action::Assign, want.urgency, now) {
            return Step::Waits(helps, until, cause);
        }
        if let Some((until, cause)) = eni.retry.wait(now).zip(eni.retry.cause().cloned()) {
            let patient = eni.retry.tries() < ENI_PATIENCE;
            return Step::Waits(if patient { helps } else { 0 }, until, cause);
        }
        let most = short.saturating_add(want.ahead);
        let wanted = match self.places_wanted(&subnet, now, want, unit, (most, room)) {
            Ok(wanted) => wanted,
            Err((until, cause)) => return Step::Waits(0, until, cause),
        };
        let id = eni.id.clone();
        if self.tags_first(slot) {
            return Step::Busy(helps);
        }
        let by = self.growth_of(wanted, unit);
        let call = Ec2Call::Assign { eni: id, by };
        self.subnets.drew(&subnet, addresses_of(by));
        self.call(now, slot, About::Assign { slot, by }, call, out);
        Step::Asked(helps)
    }

    /// Places to fill at once: what is short, as far as there is room, and as the subnet's floor and memory allow.
    fn places_wanted(
        &self,
        subnet: &SubnetId,
        now: Time,
        want: Want,
        unit: u32,
        (short, room): (u32, u32),
    ) -> Result<u32, (Time, Cause)> {
        let whole = room.saturating_mul(unit);
        let aim = if want.fill { whole } else { short.min(whole) };
        let drawn = self.may_draw(subnet, now, (aim, want.urgent.min(whole)), unit)?;
        Ok(drawn.div_ceil(unit).min(room).min(self.gates.at_most(subnet)))
    }

    /// When nothing fits any more on what is there.
    fn grow_by_eni(&mut self, now: Time, want: Want, unit: u32, short: u32, out: &mut Vec<Effect>) -> Step {
        if self.places() == 0 || self.home().is_none() {
            return Step::Nothing;
        }
        if self.enis_taken() >= self.most_enis(now) {
            return if self.place_comes(now) { Step::Busy(0) } else { Step::Nothing };
        }
        if self.ops.creating() {
            return Step::Busy(short);
        }
        if let Some(step) = self.undeletable(now) {
            return step;
        }
        if self.intents.values().any(|i| i.create.is_some() && i.doubted.is_some()) {
            // One with an unknown outcome: not another before a Describe has told.
            return Step::Busy(short);
        }
        for action in [Action::Create, Action::Attach] {
            if let Some((until, cause)) = self.closed(action, want.urgency, now) {
                return Step::Waits(0, until, cause);
            }
        }
        if self.look_at_subnets(now, true, want.urgency, out) {
            return Step::Busy(short);
        }
        let places = match self.new_eni_goes(now) {
            Ok(places) => places,
            Err((until, cause)) => return Step::Waits(0, until, cause),
        };
        let mut waits = None;
        for subnet in places.subnets {
            if self.unit_in(&subnet, now) != unit {
                continue;
            }
            if let Some((until, cause)) = self.gates.exhausted(&subnet, now) {
                sooner(&mut waits, until, cause);
                continue;
            }
            match self.places_wanted(&subnet, now, want, unit, (short, self.places())) {
                Ok(wanted) => {
                    let with = self.growth_of(wanted, unit);
                    self.create_eni(now, subnet, places.groups, with);
                    return Step::Asked(short);
                }
                Err((until, cause)) => sooner(&mut waits, until, cause),
            }
        }
        waits.map_or(Step::Nothing, |(until, cause)| Step::Waits(0, until, cause))
    }

    fn create_eni(&mut self, now: Time, subnet: SubnetId, groups: Vec<GroupId>, with: GrowBy) {
        self.budget.take(Action::Create, now);
        self.subnets.drew(&subnet, addresses_of(with));
        let call = Ec2Call::Create { subnet: subnet.clone(), groups, with };
        let op = self.ops.open(About::Create { subnet, with }, now, Some(call));
        self.intend(op, Some(with), None);
    }

    /// Places that calls in flight will take on an ENI.
    fn places_in_flight(&self, slot: Slot) -> u32 {
        let calls = self.ops.iter().filter_map(|(_, op)| {
            if let About::Assign { slot: s, by } = &op.about {
                return (*s == slot).then(|| crate::ops::places_of(*by));
            }
            None
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

    /// Subnet and groups of the primary ENI: those of new ENIs unless something else is known.
    pub(crate) fn home(&self) -> Option<(SubnetId, Vec<GroupId>)> {
        let (_, primary) = self.ledger.enis().find(|(_, e)| e.role == Role::Primary)?;
        Some((primary.subnet.clone(), primary.groups.clone()))
    }
}

/// What growth is for.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// Whatever ENI is asked is filled.
    fill: bool,
    /// Addresses to ask for beside what is short, where that costs no other call and no other ENI.
    ahead: u32,
    urgency: Urgency,
    /// Addresses that pods wait for, or the one that makes the node ready.
    urgent: u32,
}

/// How far one round of growth has come.
struct Tally {
    short: u32,
    waits: Option<(Time, Cause)>,
    flying: bool,
}

impl Tally {
    fn add(&mut self, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Asked(n) | Step::Busy(n) => {
                self.flying = true;
                self.short = self.short.saturating_sub(n);
            }
            Step::Waits(n, until, cause) => {
                self.short = self.short.saturating_sub(n);
                sooner(&mut self.waits, until, cause);
            }
        }
    }
}

/// What became of one attempt; the number is how many addresses it will bring.
pub(crate) enum Step {
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

/// Whether an ENI's free addresses may be counted on: not when they are long withheld, it is missing, or the host
/// cannot configure it.
fn supplies(eni: &Eni, now: Time) -> bool {
    let clear = !long_doubtful(eni, now) || eni.doubt.is_none_or(|doubt| !doubt.withholds);
    let host = eni.configured || eni.host_retry.tries() < HOST_PATIENCE;
    clear && host && eni.missing.is_none() && eni.staying()
}

/// Whether an ENI has been in doubt for so long that the others should grow instead.
fn long_doubtful(eni: &Eni, now: Time) -> bool {
    eni.doubt.is_some_and(|doubt| now >= doubt.since.after(DOUBT_COUNTS))
}
