//! When to ask EC2 what there is: only on evidence (design D11). The daily look for leaks is `leaks`' business.

use std::collections::BTreeMap;

use crate::backoff::{Action, Backoff};
use crate::budget::Urgency;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{Slot, Stage};
use crate::ids::EniId;
use crate::input::{Ec2Failure, FailureClass};
use crate::machine::Pool;
use crate::ops::About;
use crate::planted::Bug;
use crate::time::Time;
use crate::tuning::{DESCRIBE_LAG, METADATA_PATIENCE};

/// What is planned, and what was lately deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Describing {
    wanted: Option<Time>,
    /// Wait after failures.
    pub(crate) retry: Backoff,
    /// Until then metadata may have the first word; `None` once somebody had it.
    patience: Option<Time>,
    /// When metadata last gave a reason.
    pub(crate) metadata_doubted: Option<Time>,
    /// When the last Describe that was answered was asked.
    pub(crate) asked: Time,
    /// ENIs that are gone: a Describe that still lists one may be old.
    pub(crate) lately_gone: BTreeMap<EniId, Time>,
}

crate::text::fields!(Describing { wanted, retry, patience, metadata_doubted, asked, lately_gone });

impl Describing {
    /// Asks for a Describe not before `at`; an earlier wish stands.
    pub(crate) fn want(&mut self, at: Time) {
        self.wanted = Some(self.wanted.map_or(at, |w| w.min(at)));
    }

    /// Whether one is due.
    fn due(&self, now: Time) -> bool {
        self.planned().is_some_and(|at| at <= now) && self.retry.open(now)
    }

    fn planned(&self) -> Option<Time> {
        self.wanted.into_iter().chain(self.patience).min()
    }

    /// When the next one will be.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let planned = self.planned()?;
        Some(self.retry.wait(planned).unwrap_or(planned))
    }

    fn asked(&mut self, now: Time) {
        for plan in [&mut self.wanted, &mut self.patience] {
            plan.take_if(|at| *at <= now);
        }
    }

    /// Without word from metadata EC2 itself is asked, after a while.
    pub(crate) fn first_look(&mut self, now: Time, observed: bool) {
        if observed {
            self.patience = None;
        } else if self.patience.is_none() {
            self.patience = Some(now.after(METADATA_PATIENCE));
        }
    }

    /// Forgets what was deleted long enough ago. Before anything is compared with it: an input may come long after the
    /// last one.
    pub(crate) fn forget_old(&mut self, now: Time) {
        self.lately_gone.retain(|_, at| now.since(*at) < DESCRIBE_LAG.saturating_mul(6));
    }
}

impl Pool {
    /// Sends the Describe that is due.
    pub(crate) fn tend_describe(&mut self, now: Time, out: &mut Vec<Effect>) {
        let closed = || self.closed(Action::Describe, Urgency::Minimum, now).is_some();
        let blind = self.planted(Bug::FollowsMetadata);
        if blind || !self.describing.due(now) || self.ops.describing() || closed() {
            return;
        }
        let also: Vec<EniId> = self
            .ledger
            .enis()
            .filter(|(_, eni)| eni.ours() && (eni.stage != Stage::Attached || eni.missing.is_some()))
            .map(|(_, eni)| eni.id.clone())
            .collect();
        self.describing.asked(now);
        self.budget.take(Action::Describe, now);
        let op = self.ops.open(About::Describe { also: also.clone() }, now, None);
        out.push(Effect::Ec2 { op, call: Ec2Call::Describe { also } });
    }

    /// Nothing is asked of EC2 for this ENI until a Describe, asked from then on, answers (design D3).
    pub(crate) fn doubt(&mut self, slot: Slot, now: Time, asked_from: Time) {
        if let Some(eni) = self.ledger.eni_mut(slot) {
            let (since, withholds, asked_from) = eni.doubt.map_or((now, false, asked_from), |d| {
                // The stricter of two reasons counts.
                (d.since, d.withholds, d.asked_from.max(asked_from))
            });
            eni.doubt = Some(crate::eni::Doubt { since, asked_from, withholds });
            self.describing.want(asked_from);
        }
    }

    /// As [`Pool::doubt`], and nothing it carries is handed out meanwhile: what is about to go from it is not known.
    pub(crate) fn doubt_and_withhold(&mut self, slot: Slot, now: Time, asked_from: Time) {
        self.doubt(slot, now, asked_from);
        if let Some(doubt) = self.ledger.eni_mut(slot).and_then(|eni| eni.doubt.as_mut()) {
            doubt.withholds = true;
        }
    }

    /// A Describe failed: the wish stands.
    pub(crate) fn describe_failed(&mut self, now: Time, failure: &Ec2Failure) -> crate::Cause {
        let cause = crate::backoff::cause_of(Action::Describe, failure, None);
        if failure.class != FailureClass::Throttled {
            self.describing.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
        }
        self.describing.want(now);
        cause
    }
}
