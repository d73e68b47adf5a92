//! ENIs going: detach and delete, and what is refused of it.

use std::time::Duration;

use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{Eni, Exit, Role, Slot, Stage};
use crate::ids::DeviceIndex;
use crate::input::{Ec2Failure, FailureClass};
use crate::journal::Then;
use crate::machine::Pool;
use crate::ops::About;
use crate::planted::Bug;
use crate::record::Record;
use crate::time::Time;

/// How long a detached ENI needs until it can be deleted. *Source*: design §7 (EC2 model: 2 to 3 s).
const DETACH_TAKES: Duration = Duration::from_secs(3);
/// Busy deletes before the attachment is looked at again. *Source*: our choice.
const DELETE_TRIES: u32 = 5;

impl Pool {
    /// Decides that an ENI leaves, once nothing on it is in use or cools; nothing is done before that is on disk. False
    /// when it stays, for now at least.
    pub(crate) fn mark_leaving(&mut self, slot: Slot) -> bool {
        let Some(eni) = self.ledger.eni_mut(slot) else { return false };
        if !eni.staying() || eni.role != Role::Secondary || !eni.counts.idle() {
            return false;
        }
        // One that others detached has no place to come back to.
        let here = eni.stage == Stage::Attached && eni.ever_attached;
        if here && self.must_stay() {
            return false;
        }
        let Some(eni) = self.ledger.eni_mut(slot) else { return false };
        if here && !eni.confirmed {
            self.describing.want(self.now);
            return false;
        }
        eni.for_nothing = eni.stage == Stage::Created;
        eni.stage = Stage::Leaving(Exit::Marked);
        if !eni.ever_attached {
            // No place of its own: after a crash nobody must take the host's device at that place for this ENI's.
            eni.device = DeviceIndex(0);
        }
        eni.retry.clear();
        eni.host_retry.clear();
        let record = eni.record();
        self.journal.note(Record::Eni(record));
        self.journal.then(Then::Leave(slot));
        true
    }

    /// Whether no attached ENI may begin to leave, because EC2 refused what that needs: it would come back, or, where it
    /// cannot be deleted, be left behind in each cycle of demand. The ENI that waits to be deleted is tried from time to time,
    /// and so is one detachment: they tell when it is allowed.
    fn must_stay(&self) -> bool {
        let refused = |action| self.gates.refused(action).is_some();
        let any = |stages: &[Exit]| {
            let among = |e: &Eni| stages.iter().any(|exit| e.stage == Stage::Leaving(*exit));
            self.ledger.enis().any(|(_, e)| e.ours() && among(e))
        };
        let tried = || self.gates.closed(Action::Detach, self.now).is_some();
        (refused(Action::Detach) && (tried() || any(&[Exit::Marked, Exit::Unhost, Exit::Detach])))
            || (refused(Action::Delete) && any(&[Exit::Delete]))
    }

    /// EC2 does not let an ENI go: pods use it again, rather than that it takes a place for nothing.
    fn stay(&mut self, slot: Slot) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.stage = Stage::Attached;
        let record = eni.record();
        self.journal.note(Record::Eni(record));
    }

    /// That is on disk.
    pub(crate) fn may_leave(&mut self, slot: Slot) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if eni.stage == Stage::Leaving(Exit::Marked) {
            eni.stage = Stage::Leaving(if eni.ever_attached { Exit::Unhost } else { Exit::Delete });
        }
    }

    pub(crate) fn detach(&mut self, now: Time, slot: Slot, out: &mut Vec<Effect>) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let cordoned = self.cordoned && !self.planted(Bug::DetachesCordoned);
        if cordoned
            || eni.host_op.is_some()
            || self.closed(Action::Detach, self.urgency_of_leaving(eni), now).is_some()
        {
            return;
        }
        let id = eni.id.clone();
        if let Some(attachment) = eni.attachment.clone() {
            let call = Ec2Call::Detach { eni: id, attachment };
            self.call(now, slot, About::Detach { slot }, call, out);
        } else {
            self.doubt(slot, now, now);
            if let Some(eni) = self.ledger.eni_mut(slot) {
                eni.retry.pause(now.after(DETACH_TAKES));
            }
        }
    }

    pub(crate) fn delete(&mut self, now: Time, slot: Slot, out: &mut Vec<Effect>) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        if self.closed(Action::Delete, self.urgency_of_leaving(eni), now).is_some() {
            return;
        }
        let call = Ec2Call::Delete { eni: eni.id.clone() };
        self.call(now, slot, About::Delete { slot }, call, out);
    }

    /// Pods that wait may be waiting for the place it takes.
    pub(crate) fn urgency_of_leaving(&self, eni: &Eni) -> Urgency {
        if eni.occupies() && self.requests.queued() > 0 { Urgency::Minimum } else { Urgency::GiveBack }
    }

    /// EC2 detaches it.
    pub(crate) fn detached(&mut self, now: Time, slot: Slot) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.attachment = None;
        eni.stage = Stage::Leaving(Exit::Delete);
        eni.retry.clear();
        eni.retry.pause(now.after(DETACH_TAKES));
        self.gates.action(Action::Detach).clear();
    }

    /// EC2 deleted it.
    pub(crate) fn deleted(&mut self, now: Time, slot: Slot) {
        self.gates.action(Action::Delete).clear();
        self.eni_gone(now, slot);
    }

    /// A detach or a delete failed.
    pub(crate) fn exit_failed(
        &mut self,
        now: Time,
        slot: Slot,
        action: Action,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        let cause = cause_of(action, failure, None);
        match failure.class {
            FailureClass::NotFound if action == Action::Detach => {
                eni.attachment = None;
                eni.stage = Stage::Leaving(Exit::Delete);
                return;
            }
            FailureClass::Throttled => {
                if eni.occupies() && self.requests.queued() > 0 {
                    // It may be free by now, whatever becomes of the rest.
                    self.describing.want(now.after(DETACH_TAKES));
                }
            }
            FailureClass::Denied => {
                let takes_place = eni.occupies();
                self.gates.action(action).fail(now, failure.class, cause.clone(), &mut self.jitter);
                if action == Action::Detach {
                    self.stay(slot);
                } else if takes_place {
                    // It is detached, most likely: then others may have its place.
                    self.describing.want(now);
                }
            }
            FailureClass::NotFound
            | FailureClass::Busy
            | FailureClass::Invalid
            | FailureClass::Unknown
            | FailureClass::LimitExceeded
            | FailureClass::QuotaExceeded
            | FailureClass::SubnetExhausted
            | FailureClass::SubnetFragmented => {
                eni.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
                let unclear = matches!(failure.class, FailureClass::Unknown | FailureClass::NotFound);
                if unclear || eni.retry.tries() >= DELETE_TRIES {
                    // A Describe tells whether it is gone, or still attached.
                    self.doubt(slot, now, now);
                }
            }
        }
        if failure.class != FailureClass::Busy {
            self.complain(cause, out);
        }
    }

    /// It does not exist any more.
    pub(crate) fn eni_gone(&mut self, now: Time, slot: Slot) {
        let Some(eni) = self.ledger.eni(slot) else { return };
        let id = eni.id.clone();
        if !eni.staying() {
            // Whoever did it: nothing is left to do of what may have failed.
            self.action_works(Action::Detach);
            self.action_works(Action::Delete);
        }
        self.journal.note(Record::EniGone { eni: id.clone() });
        self.settle_all(&id);
        self.describing.lately_gone.insert(id, now);
        self.ledger.remove_eni(slot);
    }
}
