//! Giving back: what nobody needed for a while goes, whole ENIs first (design D8; issue "packing and giving back").

use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::address::BlockState;
use crate::backoff::Action;
use crate::budget::Urgency;
use crate::demand::Surplus;
use crate::effect::Ec2Call;
use crate::eni::{Eni, Role, Slot, Stage};
use crate::ids::EniId;
use crate::machine::{Intent, Pool};
use crate::ops::About;
use crate::planted::Bug;
use crate::targets::Verdict;
use crate::time::Time;
use crate::tuning::DESCRIBE_LAG;

impl Pool {
    /// Gives back what was in excess long enough, and what no pod can ever use.
    pub(crate) fn give_back(&mut self, now: Time, verdict: &Verdict) {
        if self.cordoned && !self.planted(Bug::DetachesCordoned) {
            return;
        }
        self.vacate(now);
        let empty = |(_, e): (Slot, &Eni)| e.counts.slots == 0 && self.may_leave_now(e, now);
        let empty = verdict.short == 0 && self.ledger.enis().any(empty);
        let quiet = if self.planted(Bug::NoPatience) { Duration::ZERO } else { self.tuning.quiet };
        let Some(mut surplus) = self.demand.note(now, verdict, empty, quiet) else { return };
        if self.planted(Bug::KeepsEverything) {
            return;
        }
        let mut gave = false;
        for (slot, _, free) in self.leavers(now) {
            let mut rest = surplus;
            self.take_from(&mut rest, slot, free);
            if free <= surplus.with_enis && self.mark_leaving(slot) {
                surplus = rest;
                gave = true;
            }
        }
        for slot in self.emptiest_first() {
            gave |= self.unassign_some(now, slot, &mut surplus);
        }
        if gave { self.demand.gave(now) } else { self.demand.postpone(now, verdict, self.tuning.quiet) }
    }

    /// Takes what is idle off ENIs that carry no pods (any more): because of their subnet's tags, or because pods are kept
    /// off the primary one.
    fn vacate(&mut self, now: Time) {
        let useless = |e: &Eni| e.ours() && e.stage == Stage::Attached && !e.carries_pods(&self.settings);
        let excluded = self.ledger.enis().filter(|(_, e)| useless(e));
        for slot in excluded.map(|(slot, _)| slot).collect::<Vec<_>>() {
            if self.ledger.eni(slot).is_some_and(|eni| self.may_leave_now(eni, now)) {
                self.mark_leaving(slot);
            } else {
                let mut all = Surplus { singles: u32::MAX, prefixes: u32::MAX, with_enis: u32::MAX };
                self.unassign_some(now, slot, &mut all);
            }
        }
    }

    /// Secondary ENIs that nobody uses, last device first, with their number of blocks and free addresses.
    fn leavers(&self, now: Time) -> Vec<(Slot, u32, u32)> {
        let mut found: Vec<_> = self
            .ledger
            .enis()
            .filter(|(_, e)| self.may_leave_now(e, now))
            .map(|(slot, e)| (std::cmp::Reverse(e.device), (slot, e.counts.slots, e.counts.free)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, leaver)| leaver).collect()
    }

    fn may_leave_now(&self, eni: &Eni, now: Time) -> bool {
        eni.role == Role::Secondary
            && eni.counts.idle()
            && eni.stage == Stage::Attached
            && eni.ec2_op.is_none()
            && eni.host_op.is_none()
            && eni.doubt.is_none()
            && now >= self.idle_from(eni)
    }

    /// When an ENI of which nothing is used counts as idle.
    fn idle_from(&self, eni: &Eni) -> Time {
        eni.since.after(self.tuning.quiet)
    }

    /// When an ENI that carries nothing may go. What carries something is told by its excess.
    pub(crate) fn empty_from(&self, eni: &Eni) -> Option<Time> {
        (eni.role == Role::Secondary && eni.counts.slots == 0).then(|| self.idle_from(eni))
    }

    fn take_from(&self, surplus: &mut Surplus, slot: Slot, free: u32) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        surplus.with_enis = surplus.with_enis.saturating_sub(free);
        surplus.prefixes = surplus.prefixes.saturating_sub(eni.counts.prefixes);
        surplus.singles = surplus.singles.saturating_sub(eni.counts.slots - eni.counts.prefixes);
    }

    /// ENIs that stay, least used first; the primary last, because it can never be emptied away.
    fn emptiest_first(&self) -> Vec<Slot> {
        let mut slots: Vec<_> = self
            .ledger
            .enis()
            .filter(|(_, e)| e.ours() && e.stage == Stage::Attached)
            .map(|(slot, e)| (e.role == Role::Primary, e.counts.held, std::cmp::Reverse(e.device), slot))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, _, _, slot)| slot).collect()
    }

    /// Unassigns idle blocks of one ENI, the longest idle ones, as far as the surplus goes: prefixes or single addresses,
    /// because EC2 takes one kind in a call. What is left of the surplus goes another time.
    fn unassign_some(&mut self, now: Time, slot: Slot, surplus: &mut Surplus) -> bool {
        let Some(eni) = self.ledger.eni(slot) else { return false };
        let ready = eni.configured && eni.ec2_op.is_none() && eni.doubt.is_none() && eni.missing.is_none();
        if !ready || !eni.retry.open(now) || self.closed(Action::Unassign, Urgency::GiveBack, now).is_some() {
            return false;
        }
        let mut nets: Vec<IpNetwork> = Vec::new();
        for (_, size, _, net) in &eni.ready {
            let idle = self.ledger.block(*net).is_some_and(|b| {
                let careless = self.planted(Bug::GivesBackCooling) && b.held == 0 && b.releasing == 0;
                (b.idle() || careless) && b.state == BlockState::Ready
            });
            let left = if *size > 1 { &mut surplus.prefixes } else { &mut surplus.singles };
            if idle && *left > 0 && nets.first().is_none_or(|first| first.prefix() == net.prefix()) {
                *left -= 1;
                nets.push(*net);
            }
        }
        if nets.is_empty() || self.tags_first(slot) {
            return false;
        }
        let freed = nets.iter().filter_map(|net| self.ledger.block(*net)).map(|b| b.size).sum::<u32>();
        surplus.with_enis = surplus.with_enis.saturating_sub(freed);
        self.unassign(now, slot, nets);
        true
    }

    /// Marks blocks and, once that is on disk, unassigns them: after a crash in between the intent keeps them out of
    /// use until a Describe has told which of them are still there.
    fn unassign(&mut self, now: Time, slot: Slot, nets: Vec<IpNetwork>) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let id = eni.id.clone();
        let call = Ec2Call::Unassign { eni: id.clone(), nets: nets.clone() };
        self.budget.take(Action::Unassign, now);
        let op = self.ops.open(About::Unassign { slot, nets: nets.clone() }, now, Some(call));
        for net in nets {
            self.ledger.set_block(net, BlockState::Unassigning(op));
        }
        if let Some(eni) = self.ledger.eni_mut(slot) {
            eni.ec2_op = Some(op);
            eni.touched = op;
            eni.changed = now;
        }
        if self.planted(Bug::IntentNotAwaited) {
            self.intents.insert(op, Intent { create: None, eni: Some(id), doubted: None });
            self.journal.note(crate::Record::OpsUsed { next: op });
            self.journal.then(crate::journal::Then::Issue(op));
        } else {
            self.intend(op, None, Some(id));
        }
    }

    /// Blocks whose unassignment has an unknown outcome: EC2 is asked again until it is known, for one kind at a time.
    pub(crate) fn unassign_again(&mut self, now: Time, slot: Slot) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let Some(first) = eni.stuck.first().copied().filter(|_| eni.missing.is_none()) else { return };
        if self.closed(Action::Unassign, Urgency::GiveBack, now).is_some() {
            return;
        }
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        let same = |net: &IpNetwork| net.prefix() == first.prefix();
        let nets = eni.stuck.iter().copied().filter(same).collect();
        eni.stuck.retain(|net| !same(net));
        self.unassign(now, slot, nets);
    }

    /// EC2 confirmed: it is off the ENI.
    pub(crate) fn unassigned(&mut self, now: Time, slot: Slot, net: IpNetwork) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.lately_gone.retain(|_, at| now.since(*at) < DESCRIBE_LAG.saturating_mul(2));
        eni.lately_gone.insert(net, now);
        eni.dropping.insert(net);
        let id = eni.id.clone();
        let subnet = eni.subnet.clone();
        self.subnets.gave(&subnet, crate::adopt::size_of(&net));
        self.ledger.remove_block(net);
        self.journal.note(crate::Record::Unassigned { eni: id, net, at: now });
    }

    /// Doubts about an ENI are settled on disk once nothing of it is doubtful: no block on its way out with an unknown
    /// outcome, none that EC2 does not list, and EC2 was told that it goes with the instance.
    pub(crate) fn settle_doubts(&mut self, slot: Slot) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let unclear = |net: &IpNetwork| {
            let block = self.ledger.block(*net);
            block.is_some_and(|b| matches!(b.state, BlockState::Unassigning(_)) || b.suspect.is_some())
        };
        let of_it = |i: &Intent| i.eni.as_ref() == Some(&eni.id);
        let reminded = self.intents.values().any(|i| i.create.is_some() && of_it(i));
        let untold = eni.wants_termination && eni.role == Role::Secondary && !reminded;
        if untold || eni.doubt.is_some() || eni.missing.is_some() || eni.blocks.iter().any(unclear) {
            return;
        }
        let id = &eni.id;
        // An answer to an earlier question may show the time before.
        let told = |since: Time| self.describing.asked >= since.after(DESCRIBE_LAG);
        let over =
            self.intents.iter().filter(|(_, i)| i.doubted.is_some_and(told) && i.eni.as_ref() == Some(id));
        let over: Vec<_> = over.map(|(op, _)| *op).collect();
        for op in over {
            self.settle_intent(op);
        }
    }

    /// Whether the ledger knows of a doubt about this ENI.
    pub(crate) fn doubted(&self, id: &EniId) -> bool {
        self.intents.values().any(|i| i.eni.as_ref() == Some(id) && i.doubted.is_some())
    }

    /// Notes on disk that something of an ENI is doubtful, so that a crash does not forget it.
    pub(crate) fn note_doubt(&mut self, now: Time, slot: Slot) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let id = eni.id.clone();
        if self.doubted(&id) {
            return;
        }
        let op = self.ops.name();
        self.journal.note(crate::Record::Intent { op, create: None, eni: Some(id.clone()) });
        self.intents.insert(op, Intent { create: None, eni: Some(id), doubted: Some(now) });
    }

    /// Blocks that were about to go and stay after all.
    pub(crate) fn keep(&mut self, nets: &[IpNetwork]) {
        for net in nets {
            self.ledger.set_block(*net, BlockState::Ready);
        }
    }
}
