//! Untagged ENIs that `MANAGE_UNTAGGED_ENI` lends to us: before anything of one is changed it gets our tags, so that
//! whoever looks at it, this daemon after a restart included, knows whose it is (design D6). From then on it is ours.

use crate::backoff::Action;
use crate::budget::Urgency;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{Role, Slot, Stage};
use crate::machine::Pool;
use crate::ops::About;
use crate::planted::Bug;
use crate::record::Record;
use crate::time::Time;

impl Pool {
    /// Whether an ENI must be tagged before it is changed; if so, that is done next.
    pub(crate) fn tags_first(&mut self, slot: Slot) -> bool {
        if self.planted(Bug::ChangesUntagged) {
            return false;
        }
        let Some(eni) = self.ledger.eni_mut(slot).filter(|eni| eni.role == Role::Borrowed) else {
            return false;
        };
        eni.wants_tags = true;
        true
    }

    /// Tags what is to be changed.
    pub(crate) fn tend_tags(&mut self, now: Time, out: &mut Vec<Effect>) {
        let wanted = self.ledger.enis().find(|(_, eni)| {
            let free = eni.ec2_op.is_none() && eni.doubt.is_none() && eni.missing.is_none();
            let borrowed = eni.role == Role::Borrowed && eni.stage == Stage::Attached;
            eni.wants_tags && borrowed && free && eni.retry.open(now)
        });
        let Some((slot, id)) = wanted.map(|(slot, eni)| (slot, eni.id.clone())) else { return };
        if self.closed(Action::Tag, Urgency::Minimum, now).is_none() {
            self.call(now, slot, About::Tag { slot }, Ec2Call::Tag { eni: id }, out);
        }
    }

    /// EC2 tagged it.
    pub(crate) fn tagged(&mut self, now: Time, slot: Slot) {
        self.call_over(now, slot);
        self.gates.action(Action::Tag).clear();
        self.becomes_ours(now, slot);
    }

    /// It carries our tags: it may be changed, given back and deleted like one that we made.
    pub(crate) fn becomes_ours(&mut self, now: Time, slot: Slot) {
        let Some(eni) = self.ledger.eni_mut(slot).filter(|eni| eni.role == Role::Borrowed) else { return };
        eni.role = Role::Secondary;
        eni.confirmed = true;
        eni.since = now;
        eni.wants_tags = false;
        eni.wants_termination = true;
        eni.retry.clear();
        let record = eni.record();
        self.journal.note(Record::Eni(record));
        // So that a crash does not forget to tell EC2 that it goes with the instance.
        self.note_doubt(now, slot);
    }
}
