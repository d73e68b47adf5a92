//! Merging what somebody saw. Describe decides about attachment; metadata adds doubt, never removes (design D1).

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use crate::address::{BlockState, State};
use crate::adopt::{listed_twice, nets_of};
use crate::cause::Cause;
use crate::effect::Effect;
use crate::eni::{Eni, Exit, Missing, Role, Slot, Stage, is_primary, role_of};
use crate::ids::{EniId, OpId};
use crate::input::ObservedEni;
use crate::machine::Pool;
use crate::planted::Bug;
use crate::record::Record;
use crate::time::Time;
use crate::tuning::{BOOTED_LATELY, DESCRIBE_LAG, GONE_AFTER, METADATA_DOUBT_EVERY};

/// How old the eyes are that saw something.
#[derive(Debug, Clone, Copy)]
struct Sight<'a> {
    now: Time,
    /// When it was asked for: it may show an even earlier state, by EC2's lag.
    asked: Time,
    /// Results of later operations are not in it.
    as_of: OpId,
    /// What it lists on two ENIs.
    twice: &'a BTreeSet<IpNetwork>,
}

impl Sight<'_> {
    /// Whether it surely shows everything up to `moment`.
    fn shows(&self, moment: Time) -> bool {
        self.asked >= moment.after(DESCRIBE_LAG)
    }
}

impl Pool {
    /// A Describe. `also`: ENIs asked for by id, so that absence says something about them even when detached.
    pub(crate) fn see_described(
        &mut self,
        now: Time,
        asked: Time,
        as_of: OpId,
        enis: &[ObservedEni],
        also: Option<&[EniId]>,
        out: &mut Vec<Effect>,
    ) {
        let sight = Sight { now, asked, as_of, twice: &listed_twice(enis) };
        let first = !self.observed && self.first_boot;
        for seen in enis {
            match self.ledger.slot_of(&seen.id) {
                Some(slot) => self.merge(sight, slot, seen, out),
                None => {
                    let state = match (first, self.intent_of(seen)) {
                        (false, None) => State::Cooling { since: now, sandbox: None },
                        (true, _) | (_, Some(_)) => State::Free { since: now },
                    };
                    self.meet(now, seen, &state, out);
                }
            }
            if let Some(op) = self.intent_of(seen)
                && let Some(slot) = self.ledger.slot_of(&seen.id)
            {
                self.found_created(op, slot);
            }
        }
        let seen: BTreeSet<&EniId> = enis.iter().map(|e| &e.id).collect();
        for slot in self.ledger.slots() {
            if self.ledger.eni(slot).is_some_and(|eni| !seen.contains(&eni.id)) {
                self.miss(sight, slot, also, out);
            }
        }
        self.lift_doubts(sight);
        self.settle_creates(sight);
        if enis.iter().any(|e| is_primary(e.card, e.device)) {
            self.begins_to_see(sight.now);
        }
    }

    /// An ENI the ledger does not know.
    pub(crate) fn meet(&mut self, now: Time, seen: &ObservedEni, state: &State, out: &mut Vec<Effect>) {
        let mut role = role_of(seen, &self.settings);
        if self.planted(Bug::TakesForeign) && role == Role::Foreign {
            role = Role::Secondary;
        }
        let stage = if seen.attached { Stage::Attached } else { Stage::Created };
        let lost = self.planted(Bug::LosesCreated) && !seen.attached;
        let gone = lost || self.describing.lately_gone.contains_key(&seen.id);
        let detached = stage == Stage::Created;
        if gone || (detached && role != Role::Secondary) {
            return;
        }
        let mut eni = Eni::observed(seen, role, stage, now);
        eni.changed = now;
        eni.subnet_cidr = eni.subnet_cidr.or_else(|| self.cidr_of(&eni.subnet));
        eni.excluded = self.kept_out(&eni.subnet);
        let record = Record::Eni(eni.record());
        let ours = eni.ours();
        let past = matches!(state, State::Cooling { .. });
        eni.wants_termination = past && role == Role::Secondary;
        let slot = self.ledger.add_eni(eni);
        if role == Role::Unverified {
            self.describing.want(now);
        }
        if ours && past {
            self.mistrust(now, slot);
        }
        if ours {
            self.journal.note(record);
            for net in nets_of(seen) {
                self.adopt(now, slot, net, state, out);
            }
        }
    }

    /// An ENI of ours with a past the ledger does not know (it was lost, or others attached the ENI): a call made then
    /// may not show yet. Within the time of a boot that is certainly over, as long as no pod waits for its address.
    fn mistrust(&mut self, now: Time, slot: Slot) {
        let again = now.after(DESCRIBE_LAG);
        self.describing.want(again);
        if now >= Time::default().after(BOOTED_LATELY) || self.ledger.homeless() {
            self.doubt_and_withhold(slot, now, again);
        }
        self.note_doubt(now, slot);
    }

    /// A known ENI as EC2 describes it.
    fn merge(&mut self, sight: Sight<'_>, slot: Slot, seen: &ObservedEni, out: &mut Vec<Effect>) {
        self.merge_role(sight, slot, seen, out);
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if !eni.ours() {
            return;
        }
        let before = eni.record();
        if eni.role == Role::Primary {
            // Never changed by a call of ours, so none can be ahead of what is seen.
            eni.groups.clone_from(&seen.groups);
        }
        if sight.as_of < eni.touched {
            if eni.record() != before {
                self.journal.note(Record::Eni(eni.record()));
            }
            return;
        }
        if seen.attachment.is_some() {
            eni.attachment.clone_from(&seen.attachment);
        }
        eni.groups.clone_from(&seen.groups);
        let away = !seen.attached && seen.attachment.is_none();
        if seen.attached || eni.stage != Stage::Attached {
            eni.missing = None;
        } else if let Some(missing) = &mut eni.missing {
            missing.exists = true;
        }
        match eni.stage {
            Stage::Created if seen.attached => {
                eni.card = seen.card;
                eni.device = seen.device;
                self.attached(sight.now, slot, seen.attachment.clone());
            }
            // Not `changed`: calls about addresses, repeated every few seconds, say nothing of the attachment.
            Stage::Attached if away && sight.shows(eni.attached_at) => {
                self.suspect_eni(sight, slot, true, out);
                return;
            }
            Stage::Leaving(Exit::Delete)
                if seen.attached && eni.ec2_op.is_none() && sight.shows(eni.changed) =>
            {
                // An attach that was given up on came through after all.
                eni.card = seen.card;
                eni.device = seen.device;
                eni.stage = Stage::Leaving(Exit::Detach);
            }
            Stage::Leaving(Exit::Detach | Exit::Delete) if away && eni.ec2_op.is_none() => {
                eni.stage = Stage::Leaving(Exit::Delete);
                eni.attachment = None;
                // Its place is free.
                eni.ever_attached &= !sight.shows(eni.attached_at);
            }
            Stage::Created | Stage::Attached | Stage::Leaving(_) => {}
        }
        if let Some(eni) = self.ledger.eni(slot)
            && eni.record() != before
        {
            let record = Record::Eni(eni.record());
            self.journal.note(record);
        }
        if self.ledger.eni(slot).is_some_and(Eni::staying) {
            self.merge_blocks(sight, slot, seen, out);
        }
    }

    /// What the tags say of its owner.
    fn merge_role(&mut self, sight: Sight<'_>, slot: Slot, seen: &ObservedEni, out: &mut Vec<Effect>) {
        if self.planted(Bug::TakesForeign) {
            return;
        }
        let role = role_of(seen, &self.settings);
        let elsewhere = seen.instance.as_ref().is_some_and(|instance| *instance != self.settings.instance);
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if !eni.ours() {
            // One that was met before its address was to be seen.
            eni.primary = seen.primary;
        }
        match (eni.role, role) {
            (Role::Unverified, Role::Secondary | Role::Borrowed) => {
                eni.role = role;
                eni.since = sight.now;
                eni.confirmed = role == Role::Secondary;
                let record = Record::Eni(eni.record());
                self.journal.note(record);
            }
            // Tagged by a call whose answer was lost, or by somebody else.
            (Role::Borrowed, Role::Secondary) => self.becomes_ours(sight.now, slot),
            (Role::Unverified, Role::Foreign) => eni.role = role,
            (Role::Secondary, Role::Secondary) => eni.confirmed = true,
            (Role::Secondary, Role::Borrowed) if !eni.confirmed => {
                eni.role = role;
                let record = Record::Eni(eni.record());
                self.journal.note(record);
            }
            // One that others attached elsewhere is theirs on its way out, too: neither detached there nor deleted.
            (Role::Secondary | Role::Borrowed, Role::Foreign)
                if elsewhere || (seen.attached && eni.staying()) =>
            {
                eni.role = role;
                // After a restart whatever is in the ledger counts as ours.
                self.journal.note(Record::EniGone { eni: eni.id.clone() });
                let what = format!("{}, which is no longer ours to manage,", eni.id).into();
                self.complain(Cause::Quarantined { what }, out);
            }
            (Role::Foreign, Role::Secondary) if eni.ever_attached && seen.attached => {
                eni.role = role;
                eni.confirmed = true;
                self.journal.note(Record::Eni(eni.record()));
                for net in &eni.blocks {
                    self.journal.note(Record::Assigned { eni: eni.id.clone(), net: *net, at: sight.now });
                }
            }
            (
                Role::Primary | Role::Secondary | Role::Borrowed | Role::Unverified | Role::Foreign,
                Role::Primary | Role::Secondary | Role::Borrowed | Role::Unverified | Role::Foreign,
            ) => {}
        }
    }

    /// The blocks of a known ENI of ours, compared by content.
    fn merge_blocks(&mut self, sight: Sight<'_>, slot: Slot, seen: &ObservedEni, out: &mut Vec<Effect>) {
        let listed: BTreeSet<IpNetwork> = nets_of(seen).into_iter().collect();
        let Some(eni) = self.ledger.eni(slot) else { return };
        let known: Vec<IpNetwork> = eni.blocks.iter().copied().collect();
        let busy = eni.ec2_op.is_some();
        for net in known {
            if listed.contains(&net) {
                if !sight.twice.contains(&net) && self.ledger.block(net).is_some_and(|b| b.suspect.is_some())
                {
                    self.ledger.change_block(net, |b| b.suspect = None);
                }
            } else {
                self.miss_block(sight, slot, net, out);
            }
        }
        for net in listed {
            let Some(eni) = self.ledger.eni(slot) else { return };
            if eni.blocks.contains(&net) || busy {
                continue;
            }
            if let Some(at) = eni.lately_gone.get(&net)
                && !sight.shows(*at)
            {
                let again = at.after(DESCRIBE_LAG);
                self.describing.want(again);
                continue;
            }
            // What an assignment of ours may have brought is new; anything else may have been somebody's.
            let state = if eni.expects > 0 {
                State::Free { since: sight.now }
            } else {
                State::Cooling { since: sight.now, sandbox: None }
            };
            if self.adopt(sight.now, slot, net, &state, out) {
                let Some(eni) = self.ledger.eni_mut(slot) else { return };
                eni.expects = eni.expects.saturating_sub(1);
            } else {
                self.describing.want(sight.now.after(METADATA_DOUBT_EVERY));
            }
        }
    }

    /// A Describe does not list a block: out of use at once, forgotten only when a later one misses it too and nobody
    /// uses it.
    fn miss_block(&mut self, sight: Sight<'_>, slot: Slot, net: IpNetwork, out: &mut Vec<Effect>) {
        let Some(block) = self.ledger.block(net) else { return };
        if !sight.shows(block.since) {
            self.describing.want(block.since.after(DESCRIBE_LAG));
            return;
        }
        let (idle, since) = (block.idle(), block.suspect);
        if let BlockState::Unassigning(op) = block.state {
            if self.ops.get(op).is_none() {
                self.unassigned(sight.now, slot, net);
            }
            return;
        }
        match since {
            None => {
                self.ledger.change_block(net, |b| b.suspect = Some(sight.now));
                self.note_doubt(sight.now, slot);
                self.describing.want(sight.now.after(GONE_AFTER));
                let eni = self.ledger.eni(slot).map_or_else(String::new, |e| format!(" of {}", e.id));
                let what = format!("{net}{eni}, which EC2 does not list,").into();
                self.complain(Cause::Quarantined { what }, out);
            }
            Some(since) if sight.asked >= since.after(GONE_AFTER) && idle => {
                self.unassigned(sight.now, slot, net);
            }
            Some(since) if sight.asked < since.after(GONE_AFTER) => {
                self.describing.want(since.after(GONE_AFTER));
            }
            Some(_) => self.describing.want(sight.now.after(METADATA_DOUBT_EVERY)),
        }
    }

    /// A Describe does not list a known ENI.
    fn miss(&mut self, sight: Sight<'_>, slot: Slot, also: Option<&[EniId]>, out: &mut Vec<Effect>) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        if sight.as_of < eni.touched || eni.ec2_op.is_some() || !sight.shows(eni.changed.max(eni.since)) {
            if eni.ours() {
                let again = eni.changed.max(eni.since).after(DESCRIBE_LAG);
                if again > sight.now {
                    self.describing.want(again);
                }
            }
            return;
        }
        let eni_id = eni.id.clone();
        let asked_for = also.is_some_and(|ids| ids.contains(&eni_id));
        match (eni.role, eni.stage) {
            (Role::Foreign | Role::Unverified, _) => {
                if eni.counts.idle() {
                    self.forget_on_host(sight.now, slot, out);
                }
                self.settle_all(&eni_id);
                self.ledger.remove_eni(slot);
            }
            (_, Stage::Created | Stage::Leaving(Exit::Delete)) if asked_for => {
                let since = self.missing_since(sight, slot, false);
                if let Some(eni) = self.ledger.eni_mut(slot) {
                    eni.ever_attached = false;
                }
                if sight.asked < since.after(GONE_AFTER) {
                    self.describing.want(since.after(GONE_AFTER));
                } else {
                    self.eni_gone(sight.now, slot);
                }
            }
            (_, Stage::Created | Stage::Leaving(Exit::Delete)) => {}
            (Role::Primary | Role::Secondary | Role::Borrowed, Stage::Attached | Stage::Leaving(_)) => {
                self.suspect_eni(sight, slot, false, out);
            }
        }
    }

    /// EC2 says that an ENI is not attached here: out of use at once; forgotten only when nobody uses it and a later Describe
    /// still does not list it (design D1: never forget, never erase evidence). Once shown as detached it is somewhere, so that
    /// an answer without it begins the wait anew.
    fn suspect_eni(&mut self, sight: Sight<'_>, slot: Slot, exists: bool, out: &mut Vec<Effect>) {
        let known = self.ledger.eni(slot).is_some_and(|eni| eni.missing.is_some());
        let since = self.missing_since(sight, slot, exists);
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        let idle = eni.counts.idle();
        if !known {
            let what = format!("{}, which EC2 does not show as attached here,", eni.id).into();
            self.describing.want(since.after(GONE_AFTER));
            self.note_doubt(sight.now, slot);
            self.complain(Cause::Quarantined { what }, out);
        } else if sight.asked < since.after(GONE_AFTER) {
            self.describing.want(since.after(GONE_AFTER));
        } else if idle && exists && eni.role == Role::Secondary && eni.staying() {
            // Somebody detached it: what is left of it goes.
            eni.missing = None;
            eni.attachment = None;
            self.forget_on_host(sight.now, slot, out);
            if let Some(eni) = self.ledger.eni_mut(slot) {
                eni.ever_attached = false;
            }
            self.mark_leaving(slot);
        } else if idle && !exists && eni.role != Role::Primary {
            self.forget_on_host(sight.now, slot, out);
            self.eni_gone(sight.now, slot);
        } else {
            self.describing.want(sight.now.after(METADATA_DOUBT_EVERY));
        }
    }

    /// Notes that EC2 does not show an ENI as attached here. Returns since when what it says of it has been so.
    fn missing_since(&mut self, sight: Sight<'_>, slot: Slot, exists: bool) -> Time {
        let Some(eni) = self.ledger.eni_mut(slot) else { return sight.now };
        let since = match eni.missing {
            Some(missing) if exists || !missing.exists => missing.since,
            _ => sight.now,
        };
        eni.missing = Some(Missing { since, exists });
        since
    }

    /// ENIs whose doubt this Describe is young enough to end.
    fn lift_doubts(&mut self, sight: Sight<'_>) {
        self.describing.asked = self.describing.asked.max(sight.asked);
        for slot in self.ledger.slots() {
            let Some(eni) = self.ledger.eni_mut(slot) else { continue };
            let Some(doubt) = eni.doubt else {
                self.settle_doubts(slot);
                continue;
            };
            if sight.asked < doubt.asked_from || sight.as_of < eni.touched {
                self.describing.want(doubt.asked_from.max(sight.now));
                continue;
            }
            eni.doubt = None;
            if sight.shows(doubt.since) {
                eni.expects = 0;
            } else {
                // EC2 may still show the time before: look once more.
                self.describing.want(doubt.since.after(DESCRIBE_LAG));
            }
            self.settle_doubts(slot);
        }
    }

    /// ENIs that may have been created: found by now, or not made.
    fn settle_creates(&mut self, sight: Sight<'_>) {
        let doubted = self.intents.iter().filter(|(_, i)| i.create.is_some());
        let doubted: Vec<(OpId, Time)> = doubted.filter_map(|(op, i)| Some((*op, i.doubted?))).collect();
        for (op, since) in doubted {
            if sight.shows(since) || self.planted(Bug::LosesCreated) {
                self.settle_intent(op);
            } else {
                self.describing.want(since.after(DESCRIBE_LAG));
            }
        }
    }
}
