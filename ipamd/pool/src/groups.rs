//! Security groups of secondary ENIs follow the primary ENI's (incumbent-behaviour §5.8), compared before they are set.
//! Under custom networking they are the ENIConfig's, given at Create and left alone afterwards, as the incumbent does.

use std::collections::BTreeSet;

use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{Eni, Role, Slot, Stage};
use crate::ids::{EniId, GroupId};
use crate::input::{Ec2Failure, FailureClass};
use crate::machine::Pool;
use crate::ops::About;
use crate::record::Record;
use crate::time::Time;

/// Whether two lists name the same groups.
pub(crate) fn same_groups(one: &[GroupId], other: &[GroupId]) -> bool {
    if one == other {
        return true;
    }
    let set = |groups: &[GroupId]| groups.iter().cloned().collect::<BTreeSet<_>>();
    set(one) == set(other)
}

impl Pool {
    /// Sets the groups of ENIs that differ from the primary's, as EC2 or the first metadata showed them.
    pub(crate) fn tend_groups(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.settings.primary_excluded {
            return;
        }
        let Some((slot, id, groups)) = self.regrouped(now) else { return };
        if self.tags_first(slot) {
            return;
        }
        if self.closed(Action::Modify, Urgency::Minimum, now).is_some() {
            return;
        }
        let call = Ec2Call::SetGroups { eni: id, groups: groups.clone() };
        self.call(now, slot, About::SetGroups { slot, groups }, call, out);
    }

    /// An ENI whose groups differ from the primary ENI's, with the groups it should have.
    fn regrouped(&self, now: Time) -> Option<(Slot, EniId, Vec<GroupId>)> {
        let (_, primary) = self.ledger.enis().find(|(_, e)| e.role == Role::Primary)?;
        let wanted = &primary.groups;
        let differs = |eni: &Eni| {
            matches!(eni.role, Role::Secondary | Role::Borrowed)
                && eni.stage == Stage::Attached
                && !eni.groups.is_empty()
                && !same_groups(&eni.groups, wanted)
        };
        let settled = |eni: &Eni| {
            eni.ec2_op.is_none() && eni.doubt.is_none() && eni.missing.is_none() && eni.retry.open(now)
        };
        let (slot, eni) = self.ledger.enis().find(|(_, e)| differs(e) && settled(e))?;
        (!wanted.is_empty()).then(|| (slot, eni.id.clone(), wanted.clone()))
    }

    /// EC2 set them.
    pub(crate) fn groups_set(&mut self, slot: Slot, groups: Vec<GroupId>) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.groups = groups;
        eni.retry.clear();
        let record = eni.record();
        self.journal.note(Record::Eni(record));
    }

    /// EC2 did not set what an ENI is to have, groups or tags: it goes on with what it has, and another try does no harm.
    pub(crate) fn setting_failed(
        &mut self,
        now: Time,
        slot: Slot,
        action: Action,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let cause = cause_of(action, failure, None);
        match failure.class {
            FailureClass::Throttled => {}
            FailureClass::Denied => {
                self.gates.action(action).fail(now, failure.class, cause.clone(), &mut self.jitter);
            }
            FailureClass::SubnetExhausted
            | FailureClass::SubnetFragmented
            | FailureClass::LimitExceeded
            | FailureClass::QuotaExceeded
            | FailureClass::NotFound
            | FailureClass::Busy
            | FailureClass::Invalid
            | FailureClass::Unknown => {
                if let Some(eni) = self.ledger.eni_mut(slot) {
                    eni.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
                }
                self.describing.want(now);
            }
        }
        self.complain(cause, out);
    }
}
