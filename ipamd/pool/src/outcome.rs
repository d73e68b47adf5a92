//! What EC2 answered, and what follows: the grant, the refusal, and not knowing (design D3, D10, D13).

use ipnetwork::IpNetwork;

use crate::adopt::{nets_of, size_of};
use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::cause::Cause;
use crate::effect::{Effect, GrowBy};
use crate::eni::{Eni, Role, Slot, Stage};
use crate::ids::{OpId, SubnetId};
use crate::input::{Ec2Answer, Ec2Failure, FailureClass, ObservedEni};
use crate::machine::Pool;
use crate::ops::{About, Op, addresses_of, places_of};
use crate::planted::Bug;
use crate::record::Record;
use crate::time::Time;
use crate::tuning::{DESCRIBE_LAG, FRAGMENTED_MEMORY, LIMIT_MEMORY, OP_PATIENCE};

impl Pool {
    /// The intent is on disk: send the call, unless the daemon is stopping, or has heard meanwhile that the new ENI's
    /// subnet keeps pods out.
    pub(crate) fn issue_held(&mut self, now: Time, op: OpId, out: &mut Vec<Effect>) {
        let about = self.ops.get(op).map(|op| &op.about);
        let kept_out = matches!(about, Some(About::Create { subnet, .. }) if self.kept_out(subnet));
        if self.stopping || kept_out {
            // Nothing goes back to that subnet's count: the list that told so came after the draw, and replaced it.
            self.cancel_held(op);
            return;
        }
        if let Some(call) = self.ops.unhold(op, now) {
            out.push(Effect::Ec2 { op, call });
        }
    }

    /// A call that was never sent has a known outcome: nothing.
    fn cancel_held(&mut self, op: OpId) {
        let Some(cancelled) = self.ops.cancel(op) else { return };
        if let About::Unassign { slot, nets } = cancelled.about {
            self.keep(&nets);
            self.call_over(self.now, slot);
        }
        self.settle_intent(op);
    }

    /// Operations nobody answered: their outcome is unknown.
    pub(crate) fn give_up_on_lost(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some((asked, op)) = self.ops.oldest() {
            if now < asked.after(OP_PATIENCE) {
                return;
            }
            let lost = Ec2Failure {
                class: FailureClass::Unknown,
                code: "lost".into(),
                message: "no answer came".into(),
            };
            self.ec2_ended(now, op, Err(lost), out);
            self.host_ended(now, op, Err("no answer came".into()), out);
        }
    }

    /// An EC2 call ended. An answer of another kind than the question is as good as none.
    pub(crate) fn ec2_ended(
        &mut self,
        now: Time,
        id: OpId,
        outcome: Result<Ec2Answer, Ec2Failure>,
        out: &mut Vec<Effect>,
    ) {
        if self.ops.get(id).is_none_or(|op| Action::about(&op.about).is_none()) {
            return;
        }
        let Some(op) = self.ops.close(id) else { return };
        let asked = op.asked;
        self.note_budget(now, &op.about, &outcome);
        match (op, outcome) {
            (Op { about: About::Assign { slot, by }, .. }, Ok(Ec2Answer::Assigned(nets)))
                if !nets.is_empty() =>
            {
                self.call_over(now, slot);
                self.gates.action(Action::Assign).clear();
                self.undrawn(slot, by, &nets);
                self.assigned(now, slot, &nets, out);
            }
            (Op { about: About::Unassign { slot, nets }, .. }, Ok(Ec2Answer::Unassigned)) => {
                self.call_over(now, slot);
                self.gates.action(Action::Unassign).clear();
                for net in nets {
                    self.unassigned(now, slot, net);
                }
                self.settle_intent(id);
                self.settle_doubts(slot);
            }
            (Op { about: About::Create { .. }, .. }, Ok(Ec2Answer::Created(seen))) => {
                self.gates.action(Action::Create).clear();
                self.created(now, id, &seen, out);
            }
            (Op { about: About::Attach { slot }, .. }, Ok(Ec2Answer::Attached(attachment))) => {
                self.call_over(now, slot);
                self.attached(now, slot, Some(attachment));
            }
            (Op { about: About::Terminate { slot }, .. }, Ok(Ec2Answer::Modified)) => {
                self.termination_told(now, slot, None, out);
            }
            (Op { about: About::Detach { slot }, .. }, Ok(Ec2Answer::Detached)) => {
                self.call_over(now, slot);
                self.detached(now, slot);
            }
            (Op { about: About::Delete { slot }, .. }, Ok(Ec2Answer::Deleted)) => self.deleted(now, slot),
            (Op { about: About::Describe { also }, .. }, Ok(Ec2Answer::Described(enis))) => {
                self.describing.retry.clear();
                self.see_described(now, asked, id, &enis, Some(&also), out);
            }
            (Op { about: About::DescribeSubnets, .. }, Ok(Ec2Answer::Subnets(seen))) => {
                self.see_subnets(asked, &seen);
            }
            (Op { about: About::SetGroups { slot, groups }, .. }, Ok(Ec2Answer::Modified)) => {
                self.call_over(now, slot);
                self.groups_set(slot, groups);
            }
            (Op { about: About::Tag { slot }, .. }, Ok(Ec2Answer::Tagged)) => self.tagged(now, slot),
            (Op { about: About::FindDetached, .. }, Ok(Ec2Answer::Described(enis))) => {
                self.see_detached(now, &enis, out);
            }
            (Op { about: About::DescribeInstances { ids }, .. }, Ok(Ec2Answer::Instances(alive))) => {
                self.see_owners(now, &ids, &alive, out);
            }
            (Op { about: About::DeleteLeak { eni }, .. }, Ok(Ec2Answer::Deleted)) => self.leak_deleted(&eni),
            (op, Ok(_)) => {
                let odd = Ec2Failure {
                    class: FailureClass::Unknown,
                    code: "odd-answer".into(),
                    message: "the answer is not of the kind asked for".into(),
                };
                self.ec2_failed(now, id, op, &odd, out);
            }
            (op, Err(failure)) => self.ec2_failed(now, id, op, &failure, out),
        }
    }

    /// Until when a call must wait, and why: for the account's budget, or after failures of its action.
    pub(crate) fn closed(&self, action: Action, urgency: Urgency, now: Time) -> Option<(Time, Cause)> {
        self.gates.closed(action, now).or_else(|| self.budget.closed(action, urgency, now))
    }

    /// What an answer says of the account's budget. A call that got no answer says nothing.
    fn note_budget(&mut self, now: Time, about: &About, outcome: &Result<Ec2Answer, Ec2Failure>) {
        let Some(action) = Action::about(about) else { return };
        match outcome {
            Err(failure) if failure.class == FailureClass::Throttled => {
                if !self.planted(Bug::IgnoresBudget) {
                    self.budget.throttled(action, now, &mut self.jitter);
                }
            }
            Err(failure) if failure.class == FailureClass::Unknown => {}
            Err(_) => self.budget.worked(action, now),
            Ok(_) => {
                self.budget.worked(action, now);
                self.action_works(action);
            }
        }
    }

    fn ec2_failed(&mut self, now: Time, id: OpId, op: Op, failure: &Ec2Failure, out: &mut Vec<Effect>) {
        match op.about {
            About::Assign { slot, by } => {
                self.call_over(now, slot);
                self.assign_failed(now, slot, by, failure, out);
            }
            About::Unassign { slot, nets } => {
                self.call_over(now, slot);
                self.unassign_failed(now, id, slot, &nets, failure, out);
            }
            About::Create { subnet, with } => self.create_failed(now, id, &subnet, with, failure, out),
            About::Attach { slot } => {
                self.call_over(now, slot);
                self.attach_failed(now, slot, failure, out);
            }
            About::Terminate { slot } => self.termination_told(now, slot, Some(failure), out),
            About::Detach { slot } => {
                self.call_over(now, slot);
                self.exit_failed(now, slot, Action::Detach, failure, out);
            }
            About::Delete { slot } => {
                self.call_over(now, slot);
                self.exit_failed(now, slot, Action::Delete, failure, out);
            }
            About::SetGroups { slot, .. } => {
                self.call_over(now, slot);
                self.setting_failed(now, slot, Action::Modify, failure, out);
            }
            About::Tag { slot } => {
                self.call_over(now, slot);
                self.setting_failed(now, slot, Action::Tag, failure, out);
            }
            About::FindDetached | About::DescribeInstances { .. } | About::DeleteLeak { .. } => {
                self.leak_failed(now, &op.about, failure, out);
            }
            About::DescribeSubnets => {
                let cause = self.subnets_unseen(now, failure);
                self.complain(cause, out);
            }
            About::Describe { .. } => {
                let cause = self.describe_failed(now, failure);
                self.complain(cause, out);
            }
            About::Configure { .. }
            | About::AddSources { .. }
            | About::RemoveSources { .. }
            | About::RemoveEni { .. }
            | About::Forget { .. }
            | About::Flush { .. } => {}
        }
    }

    /// The ENI is free for the next call.
    pub(crate) fn call_over(&mut self, now: Time, slot: Slot) {
        let forgets = self.planted(Bug::ForgetsAnswers);
        if let Some(eni) = self.ledger.eni_mut(slot).filter(|_| !forgets) {
            eni.ec2_op = None;
            eni.changed = now;
        }
    }

    /// What was asked for and not granted is the subnet's again.
    fn undrawn(&mut self, slot: Slot, by: GrowBy, granted: &[IpNetwork]) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let granted = granted.iter().map(size_of).fold(0, u32::saturating_add);
        self.subnets.gave(&eni.subnet, addresses_of(by).saturating_sub(granted));
    }

    fn assign_failed(
        &mut self,
        now: Time,
        slot: Slot,
        by: GrowBy,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let forever = self.planted(Bug::WaitsForever);
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        let subnet = eni.subnet.clone();
        if failure.class != FailureClass::Unknown {
            self.subnets.gave(&subnet, addresses_of(by));
        }
        let cause = cause_of(Action::Assign, failure, Some(&subnet));
        match failure.class {
            FailureClass::Throttled if !forever => {}
            FailureClass::Throttled | FailureClass::Denied => {
                let gate = self.gates.action(Action::Assign);
                gate.fail(now, failure.class, cause.clone(), &mut self.jitter);
                if forever {
                    gate.pause(Time::from_ms(u64::MAX));
                }
            }
            FailureClass::SubnetExhausted | FailureClass::SubnetFragmented => {
                self.subnet_short(now, &subnet, by, failure.class, cause.clone());
            }
            FailureClass::LimitExceeded => {
                let fits = eni.counts.slots.saturating_add(places_of(by) / 2);
                eni.learned_slots = Some((fits, now.after(LIMIT_MEMORY)));
                self.describing.want(now.after(DESCRIBE_LAG));
            }
            FailureClass::QuotaExceeded => {
                // Another ENI would be refused just so: where it is to be filled, or attached.
                for action in [Action::Assign, Action::Create] {
                    self.gates.action(action).fail(now, failure.class, cause.clone(), &mut self.jitter);
                }
            }
            FailureClass::Unknown => {
                eni.expects = eni.expects.saturating_add(places_of(by));
                eni.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
                self.doubt(slot, now, now);
            }
            FailureClass::NotFound | FailureClass::Busy | FailureClass::Invalid => {
                eni.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
                self.describing.want(now);
            }
        }
        self.complain(cause, out);
    }

    /// A subnet that has less than was asked for: ask for less, then for single addresses, then wait (design D13).
    fn subnet_short(&mut self, now: Time, subnet: &SubnetId, by: GrowBy, class: FailureClass, cause: Cause) {
        let memory = self.gates.subnet(subnet);
        match by {
            GrowBy::Addresses(n) | GrowBy::Prefixes(n) if n > 1 => memory.at_most = Some(n / 2),
            GrowBy::Prefixes(_) => {
                memory.fragmented_until = Some(now.after(FRAGMENTED_MEMORY));
                memory.at_most = None;
            }
            GrowBy::Addresses(_) => memory.exhausted.fail(now, class, cause, &mut self.jitter),
        }
    }

    fn unassign_failed(
        &mut self,
        now: Time,
        id: OpId,
        slot: Slot,
        nets: &[IpNetwork],
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let cause = cause_of(Action::Unassign, failure, None);
        // An earlier try with an unknown outcome may have taken them although this one did not.
        let again = self.ledger.eni(slot).is_some_and(|e| self.doubted(&e.id));
        if self.planted(Bug::UnknownTrusted) {
            self.keep(nets);
            self.settle_intent(id);
            return;
        }
        match failure.class {
            FailureClass::Throttled | FailureClass::Denied => {
                if failure.class == FailureClass::Denied {
                    let gate = self.gates.action(Action::Unassign);
                    gate.fail(now, failure.class, cause.clone(), &mut self.jitter);
                }
                if again {
                    self.stick(slot, nets);
                } else {
                    self.keep(nets);
                }
                self.settle_intent(id);
            }
            FailureClass::Unknown
            | FailureClass::NotFound
            | FailureClass::Busy
            | FailureClass::Invalid
            | FailureClass::LimitExceeded
            | FailureClass::QuotaExceeded
            | FailureClass::SubnetExhausted
            | FailureClass::SubnetFragmented => {
                if let Some(eni) = self.ledger.eni_mut(slot) {
                    eni.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
                    // EC2 may still do it after the answer was given up on; another try before that could hit the
                    // addresses in their next life.
                    eni.retry.pause(now.after(DESCRIBE_LAG));
                }
                self.stick(slot, nets);
                // Settled only when it is known what became of the blocks: by a later try, or by a Describe.
                if let Some(intent) = self.intents.get_mut(&id) {
                    intent.doubted = Some(now);
                }
                self.doubt(slot, now, now.after(DESCRIBE_LAG));
            }
        }
        self.complain(cause, out);
    }

    fn stick(&mut self, slot: Slot, nets: &[IpNetwork]) {
        if let Some(eni) = self.ledger.eni_mut(slot) {
            eni.stuck.extend(nets.iter().copied());
        }
    }

    fn created(&mut self, now: Time, id: OpId, seen: &ObservedEni, out: &mut Vec<Effect>) {
        let slot = if let Some(known) = self.ledger.slot_of(&seen.id) {
            known
        } else {
            let mut eni = Eni::observed(seen, Role::Secondary, Stage::Created, now);
            eni.touched = id;
            eni.changed = now;
            eni.confirmed = true;
            eni.subnet_cidr = eni.subnet_cidr.or_else(|| self.cidr_of(&eni.subnet));
            eni.excluded = self.kept_out(&eni.subnet);
            self.journal.note(Record::Eni(eni.record()));
            self.ledger.add_eni(eni)
        };
        self.found_created(id, slot);
        let nets = nets_of(seen);
        self.assigned(now, slot, &nets, out);
    }

    /// A subnet's CIDR, as far as any ENI or EC2 told it.
    pub(crate) fn cidr_of(&self, subnet: &SubnetId) -> Option<IpNetwork> {
        let known = self.ledger.enis().find(|(_, e)| e.subnet == *subnet && e.subnet_cidr.is_some());
        known.and_then(|(_, e)| e.subnet_cidr).or_else(|| self.subnets.cidr(subnet))
    }

    fn create_failed(
        &mut self,
        now: Time,
        id: OpId,
        subnet: &SubnetId,
        with: GrowBy,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        if failure.class != FailureClass::Unknown {
            self.subnets.gave(subnet, addresses_of(with));
        }
        let cause = cause_of(Action::Create, failure, Some(subnet));
        match failure.class {
            FailureClass::SubnetExhausted | FailureClass::SubnetFragmented => {
                self.subnet_short(now, subnet, with, failure.class, cause.clone());
                self.settle_intent(id);
            }
            FailureClass::Unknown => {
                self.gates.action(Action::Create).fail(now, failure.class, cause.clone(), &mut self.jitter);
                if let Some(intent) = self.intents.get_mut(&id) {
                    intent.doubted = Some(now);
                }
                self.describing.want(now);
            }
            FailureClass::Throttled => self.settle_intent(id),
            FailureClass::LimitExceeded
            | FailureClass::QuotaExceeded
            | FailureClass::Denied
            | FailureClass::NotFound
            | FailureClass::Busy
            | FailureClass::Invalid => {
                self.gates.action(Action::Create).fail(now, failure.class, cause.clone(), &mut self.jitter);
                self.settle_intent(id);
            }
        }
        self.complain(cause, out);
    }
}
