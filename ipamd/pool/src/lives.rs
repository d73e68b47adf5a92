//! ENIs coming: attach and delete-on-termination. The way out is `leaving`'s.

use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::cause::Cause;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{Eni, Exit, Role, Slot, Stage, TAG_OP, tag};
use crate::ids::{AttachmentId, DeviceIndex, EniId, NetworkCard, OpId};
use crate::input::{Ec2Failure, FailureClass, ObservedEni};
use crate::journal::Then;
use crate::machine::{Intent, Pool};
use crate::ops::About;
use crate::record::Record;
use crate::time::Time;
use crate::tuning::{ATTACH_TRIES, DESCRIBE_LAG, LIMIT_MEMORY};

impl Pool {
    /// The next EC2 step in the life of each ENI.
    pub(crate) fn tend_lives(&mut self, now: Time, out: &mut Vec<Effect>) {
        let settled = |e: &Eni| e.stage == Stage::Attached && !e.wants_termination && e.stuck.is_empty();
        let busy: Vec<Slot> = self.ledger.enis().filter(|(_, e)| !settled(e)).map(|(slot, _)| slot).collect();
        for slot in busy {
            let Some(eni) = self.ledger.eni(slot) else { continue };
            if !eni.ours() || !eni.retry.open(now) {
                continue;
            }
            let free = eni.ec2_op.is_none() && eni.doubt.is_none();
            match eni.stage {
                Stage::Created if free => self.attach(now, slot, out),
                Stage::Attached => {
                    self.tell_termination(now, slot, out);
                    if free {
                        self.unassign_again(now, slot);
                    }
                }
                Stage::Leaving(Exit::Detach) if free => self.detach(now, slot, out),
                Stage::Leaving(Exit::Delete) if free => self.delete(now, slot, out),
                Stage::Created | Stage::Leaving(_) => {}
            }
        }
    }

    /// Sends an EC2 call about one ENI.
    pub(crate) fn call(&mut self, now: Time, slot: Slot, about: About, call: Ec2Call, out: &mut Vec<Effect>) {
        self.budget.take(Action::of(&call), now);
        let op = self.ops.open(about, now, None);
        if let Some(eni) = self.ledger.eni_mut(slot) {
            eni.ec2_op = Some(op);
            eni.touched = op;
            eni.changed = now;
        }
        out.push(Effect::Ec2 { op, call });
    }

    fn attach(&mut self, now: Time, slot: Slot, out: &mut Vec<Effect>) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        if self.closed(Action::Attach, Urgency::Minimum, now).is_some() {
            return;
        }
        let (id, refused) = (eni.id.clone(), eni.refused);
        let taken: Vec<u32> = self
            .ledger
            .enis()
            .filter(|(other, e)| *other != slot && e.card == NetworkCard(0) && e.occupies())
            .map(|(_, e)| e.device.0)
            .collect();
        let most = self.most_enis(now);
        if crate::tuning::count(taken.len()) >= most {
            self.mark_leaving(slot);
            return;
        }
        let free = |mut places: std::ops::Range<u32>| places.find(|d| !taken.contains(d));
        // One that EC2 refused may be taken by what we do not see: the ones behind it first.
        let next = refused.and_then(|d| free(d.0.saturating_add(1)..self.settings.limits.enis));
        let Some(device) = next.or_else(|| free(1..u32::MAX)) else { return };
        if let Some(eni) = self.ledger.eni_mut(slot) {
            eni.device = DeviceIndex(device);
            eni.card = NetworkCard(0);
        }
        let call = Ec2Call::Attach { eni: id, card: NetworkCard(0), device: DeviceIndex(device) };
        self.call(now, slot, About::Attach { slot }, call, out);
    }

    /// EC2 attached it.
    pub(crate) fn attached(&mut self, now: Time, slot: Slot, attachment: Option<AttachmentId>) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if eni.stage != Stage::Created {
            return;
        }
        eni.stage = Stage::Attached;
        eni.ever_attached = true;
        eni.attachment = attachment;
        eni.retry.clear();
        eni.refused = None;
        eni.changed = now;
        eni.attached_at = now;
        // Whoever did not see it asked before this.
        eni.missing = None;
        eni.wants_termination = true;
        let record = eni.record();
        self.gates.action(Action::Attach).clear();
        self.journal.note(Record::Eni(record));
    }

    /// An attach failed; the new ENI is tried again or given up.
    pub(crate) fn attach_failed(
        &mut self,
        now: Time,
        slot: Slot,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let cause = cause_of(Action::Attach, failure, None);
        let here = |e: &Eni| e.card == NetworkCard(0) && e.occupies();
        let others = self.ledger.enis().filter(|(s, e)| *s != slot && here(e)).count();
        // The place of one that is being detached: that says nothing of the limit.
        let moving = self.ledger.enis().any(|(_, e)| e.being_detached());
        let full = failure.class == FailureClass::LimitExceeded;
        let class = if full && moving { FailureClass::Busy } else { failure.class };
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if class != FailureClass::Throttled {
            eni.retry.fail(now, class, cause.clone(), &mut self.jitter);
        }
        let hopeless = eni.retry.tries() >= ATTACH_TRIES;
        match class {
            // Not the gate of Create: the next create works and would open it, and make the next ENI for nothing.
            FailureClass::Denied | FailureClass::QuotaExceeded => {
                self.gates.action(Action::Attach).fail(now, class, cause.clone(), &mut self.jitter);
                self.mark_leaving(slot);
            }
            FailureClass::LimitExceeded => {
                self.learned_enis = Some((crate::tuning::count(others), now.after(LIMIT_MEMORY)));
                // What is counted here may change at once; another ENI is not made for that.
                let gate = self.gates.action(Action::Attach);
                gate.fail(now, class, cause.clone(), &mut self.jitter);
                // Somebody else may have taken the place.
                self.describing.want(now);
                self.mark_leaving(slot);
            }
            FailureClass::Unknown => self.doubt(slot, now, now),
            FailureClass::Busy | FailureClass::NotFound | FailureClass::Invalid => {
                if class == FailureClass::Invalid {
                    eni.refused = Some(eni.device);
                }
                self.doubt(slot, now, now);
                if hopeless {
                    // Whatever the class: what did not pass in so many tries will not in seconds.
                    let gate = self.gates.action(Action::Attach);
                    gate.fail(now, FailureClass::Invalid, cause.clone(), &mut self.jitter);
                    self.mark_leaving(slot);
                }
            }
            FailureClass::Throttled | FailureClass::SubnetExhausted | FailureClass::SubnetFragmented => {}
        }
        self.complain(cause, out);
    }

    /// EC2 should delete it with the instance; nobody waits for that.
    fn tell_termination(&mut self, now: Time, slot: Slot, out: &mut Vec<Effect>) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let here = eni.doubt.is_none() && eni.missing.is_none();
        let wanted = eni.wants_termination && here && eni.role == Role::Secondary;
        let idle = wanted && eni.termination_op.is_none() && eni.termination_retry.open(now);
        if !idle
            || self.requests.queued() > 0
            || self.closed(Action::Modify, Urgency::GiveBack, now).is_some()
        {
            return;
        }
        let id = eni.id.clone();
        let Some(attachment) = eni.attachment.clone() else {
            let at = eni.changed.after(DESCRIBE_LAG);
            if eni.doubt.is_none() && at > now {
                self.describing.want(at);
            }
            return;
        };
        let op = self.ops.open(About::Terminate { slot }, now, None);
        self.budget.take(Action::Modify, now);
        if let Some(eni) = self.ledger.eni_mut(slot) {
            eni.termination_op = Some(op);
        }
        out.push(Effect::Ec2 { op, call: Ec2Call::DeleteOnTermination { eni: id, attachment } });
    }

    /// EC2 was told, or refused.
    pub(crate) fn termination_told(
        &mut self,
        now: Time,
        slot: Slot,
        failure: Option<&Ec2Failure>,
        out: &mut Vec<Effect>,
    ) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.termination_op = None;
        let Some(failure) = failure else {
            eni.wants_termination = false;
            eni.termination_retry.clear();
            let id = eni.id.clone();
            self.settle_created(&id);
            self.settle_doubts(slot);
            return;
        };
        let cause = cause_of(Action::Modify, failure, None);
        if failure.class != FailureClass::Throttled {
            eni.termination_retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
        }
        if failure.class == FailureClass::NotFound {
            // Perhaps somebody detached it.
            self.describing.want(now.after(DESCRIBE_LAG));
        }
        self.complain(cause, out);
    }

    /// An intent's outcome is known.
    pub(crate) fn settle_intent(&mut self, op: OpId) {
        if self.intents.remove(&op).is_some() {
            self.journal.note(Record::Settled { op });
        }
    }

    /// Notes that a call with lasting consequences is about to be made; it is sent once that is on disk.
    pub(crate) fn intend(&mut self, op: OpId, create: Option<crate::GrowBy>, eni: Option<EniId>) {
        self.journal.note(Record::Intent { op, create, eni: eni.clone() });
        self.journal.then(Then::Issue(op));
        self.intents.insert(op, Intent { create, eni, doubted: None });
    }

    /// A create came out well. Its intent stays open until EC2 knows that the ENI goes with the instance: a crash
    /// before that must not forget to tell it.
    pub(crate) fn found_created(&mut self, op: OpId, slot: Slot) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.wants_termination = true;
        let id = eni.id.clone();
        let Some(intent) = self.intents.get_mut(&op) else { return };
        intent.doubted = None;
        if intent.eni.as_ref() != Some(&id) {
            intent.eni = Some(id.clone());
            let create = intent.create;
            self.journal.note(Record::Intent { op, create, eni: Some(id) });
        }
    }

    /// Settles the creates of an ENI.
    fn settle_created(&mut self, id: &EniId) {
        self.settle_where(|intent| intent.create.is_some() && intent.eni.as_ref() == Some(id));
    }

    /// Nothing is in doubt any more about an ENI that is no longer known.
    pub(crate) fn settle_all(&mut self, id: &EniId) {
        self.settle_where(|intent| intent.eni.as_ref() == Some(id));
    }

    fn settle_where(&mut self, fits: impl Fn(&Intent) -> bool) {
        let over = self.intents.iter().filter(|(_, intent)| fits(intent));
        for op in over.map(|(op, _)| *op).collect::<Vec<_>>() {
            self.settle_intent(op);
        }
    }

    /// The operation whose tag an ENI carries, when it is one that we do not know the outcome of.
    pub(crate) fn intent_of(&self, seen: &ObservedEni) -> Option<OpId> {
        let op = OpId(tag(seen, TAG_OP)?.parse().ok()?);
        self.intents.get(&op).filter(|i| i.create.is_some()).map(|_| op)
    }

    /// Why the lives of ENIs keep growth waiting, and until when.
    pub(crate) fn life_waits(&self, now: Time) -> Option<(Time, Cause)> {
        let waits = self.ledger.enis().filter(|(_, e)| e.ours() && e.staying()).filter_map(|(_, e)| {
            let ec2 = e.retry.wait(now).zip(e.retry.cause().cloned());
            let host = e.host_retry.wait(now).zip(e.host_retry.cause().cloned());
            ec2.or(host)
        });
        waits.min_by_key(|(until, _)| *until)
    }
}

impl Eni {
    /// Whether it takes one of the instance's places.
    pub(crate) fn occupies(&self) -> bool {
        match self.stage {
            Stage::Created => self.ec2_op.is_some() || self.doubt.is_some(),
            Stage::Attached => true,
            // Also after EC2 has said that it detaches: it keeps the place for seconds.
            Stage::Leaving(_) => self.ever_attached,
        }
    }

    /// Whether EC2 is asked to detach it, or has been and may not have done it yet.
    fn being_detached(&self) -> bool {
        self.occupies() && matches!(self.stage, Stage::Leaving(Exit::Detach | Exit::Delete))
    }
}
