//! When to ask EC2 what there is. Only on evidence, and once a day (design D11, §7).

use std::collections::BTreeMap;

use crate::backoff::{Action, Backoff};
use crate::effect::{Ec2Call, Effect};
use crate::eni::{Slot, Stage};
use crate::ids::EniId;
use crate::machine::Pool;
use crate::ops::About;
use crate::time::Time;
use crate::tuning::{DESCRIBE_LAG, METADATA_PATIENCE, SCAN_EVERY};

/// What is planned, and what was lately deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Describing {
    wanted: Option<Time>,
    /// Wait after failures.
    pub(crate) retry: Backoff,
    next_scan: Option<Time>,
    patience: Option<Time>,
    /// When metadata last gave a reason.
    pub(crate) metadata_doubted: Option<Time>,
    /// ENIs that are gone: a Describe that still lists one may be old.
    pub(crate) lately_gone: BTreeMap<EniId, Time>,
}

impl Describing {
    /// Asks for a Describe not before `at`; an earlier wish stands.
    pub(crate) fn want(&mut self, at: Time) {
        self.wanted = Some(self.wanted.map_or(at, |w| w.min(at)));
    }

    /// Whether one is due.
    fn due(&self, now: Time) -> bool {
        let planned = self.wanted.is_some_and(|at| at <= now) || self.next_scan.is_some_and(|at| at <= now);
        planned && self.retry.open(now)
    }

    /// When the next one will be.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let planned = match (self.wanted, self.next_scan) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }?;
        Some(self.retry.wait(planned).unwrap_or(planned))
    }

    fn asked(&mut self, now: Time) {
        if self.wanted.is_some_and(|at| at <= now) {
            self.wanted = None;
        }
        self.next_scan = Some(now.after(SCAN_EVERY));
    }

    /// Without word from metadata EC2 itself is asked, after a while.
    pub(crate) fn first_look(&mut self, now: Time, observed: bool) {
        if !observed && self.patience.is_none() {
            let until = now.after(METADATA_PATIENCE);
            self.patience = Some(until);
            self.want(until);
        }
    }

    /// Plans the first routine scan.
    pub(crate) fn begin(&mut self, now: Time) {
        if self.next_scan.is_none() {
            self.next_scan = Some(now.after(SCAN_EVERY));
        }
        self.lately_gone.retain(|_, at| now.since(*at) < DESCRIBE_LAG.saturating_mul(6));
    }
}

impl Pool {
    /// Sends the Describe that is due.
    pub(crate) fn tend_describe(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.describing.begin(now);
        if !self.describing.due(now) || self.ops.describing() {
            return;
        }
        let also: Vec<EniId> = self
            .ledger
            .enis()
            .filter(|(_, eni)| eni.ours() && (eni.stage != Stage::Attached || eni.missing.is_some()))
            .map(|(_, eni)| eni.id.clone())
            .collect();
        self.describing.asked(now);
        let op = self.ops.open(About::Describe { also: also.clone() }, now, None);
        out.push(Effect::Ec2 { op, call: Ec2Call::Describe { also } });
    }

    /// Nothing is given or taken on this ENI until a Describe, asked from now on, answers (design D3).
    pub(crate) fn doubt(&mut self, slot: Slot, now: Time, asked_from: Time) {
        if let Some(eni) = self.ledger.eni_mut(slot) {
            let since = eni.doubt.map_or(now, |d| d.since);
            eni.doubt = Some(crate::eni::Doubt { since, asked_from });
            self.describing.want(asked_from);
        }
    }

    /// A Describe failed: the wish stands.
    pub(crate) fn describe_failed(&mut self, now: Time, failure: &crate::input::Ec2Failure) -> crate::Cause {
        let cause = crate::backoff::cause_of(Action::Describe, failure, None);
        self.describing.retry.fail(now, failure.class, cause.clone(), &mut self.jitter);
        self.describing.want(now);
        cause
    }
}
