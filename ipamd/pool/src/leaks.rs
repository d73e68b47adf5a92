//! ENIs that dead nodes left behind (pain-points C36 to C38). Deleted only with proof: this cluster's tag, an owner that
//! EC2 does not know any more, and both seen twice some time apart. Own ENIs that hang in the air are found by the same
//! look and go the usual way.
//!
//! *Why* seen twice, and not an age by the tag `createdAt`: an ENI that was left behind is as old as the time between the
//! two looks at least, whatever anybody's wall clock says.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::State;
use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::cause::Cause;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{TAG_CREATED_AT, TAG_INSTANCE, tag};
use crate::ids::{EniId, InstanceId, RequestId, SubnetId};
use crate::input::{Ec2Failure, FailureClass, ObservedEni};
use crate::jitter::Jitter;
use crate::machine::{Growth, Pool};
use crate::ops::About;
use crate::planted::Bug;
use crate::settings::LeakPolicy;
use crate::time::Time;

mod order;
mod verdict;

pub use order::LeakReport;
pub use verdict::LeakVerdict;
pub(crate) use verdict::leak_verdict;

/// The routine look. *Source*: design §7 (daily); never two within a day.
const EVERY: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(90_000));
/// The first one of a life: anywhere in this span, so that daemons that start together do not look together.
/// *Source*: our choice.
const FIRST: (Duration, Duration) = (Duration::from_secs(43_200), Duration::from_secs(86_400));
/// After a look that failed. *Source*: our choice.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1_800), Duration::from_secs(7_200));
/// Owners asked for at once. *Source*: EC2 user guide, "Filter API results": 200 values in a request; half of them.
const OWNERS_MAX: usize = 100;

/// A detached ENI, as the newest looks show it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeakRow {
    /// Which.
    pub eni: EniId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its own address.
    pub address: IpAddr,
    /// When it was made, as its tag says: for people, nothing rests on it.
    pub created_at: Option<Box<str>>,
    /// What is to be said of it; `None` while EC2 has not told whether its owner exists.
    pub verdict: Option<LeakVerdict>,
    /// Since when it is known to have no living owner.
    pub since: Option<Time>,
    /// Seen so twice, long enough apart.
    pub proven: bool,
    /// It was deleted since.
    pub deleted: bool,
    /// Why it could not be deleted.
    pub failure: Option<Cause>,
}

crate::text::fields!(LeakRow { eni, subnet, address, created_at, verdict, since, proven, deleted, failure });

impl LeakRow {
    fn of(seen: &ObservedEni) -> Self {
        Self {
            eni: seen.id.clone(),
            subnet: seen.subnet.clone(),
            address: seen.primary,
            created_at: tag(seen, TAG_CREATED_AT).map(Into::into),
            verdict: None,
            since: None,
            proven: false,
            deleted: false,
            failure: None,
        }
    }

    /// Left behind beyond doubt, and still there.
    fn to_delete(&self) -> bool {
        self.proven && !self.deleted && matches!(self.verdict, Some(LeakVerdict::Leaked(_)))
    }

    /// What was learned of it counts no longer: it is proven anew, or not at all.
    fn begin_anew(&mut self) {
        (self.since, self.proven) = (None, false);
    }
}

/// What the looks found, and who asked for one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Leaks {
    next: Option<Time>,
    /// What the newest look showed.
    rows: BTreeMap<EniId, LeakRow>,
    /// Owners of these rows that EC2 is to be asked for.
    to_judge: BTreeMap<EniId, InstanceId>,
    /// People who wait for a look.
    askers: Vec<RequestId>,
    /// They came after the last look had begun.
    fresh: bool,
    /// How many proven leaks may still be deleted by their order.
    ordered: u32,
}

crate::text::fields!(Leaks { next, rows, to_judge, askers, fresh, ordered });

impl Leaks {
    /// Plans the first look.
    pub(crate) fn begin(&mut self, now: Time, jitter: &mut Jitter) {
        if self.next.is_none() {
            self.next = Some(now.after(jitter.between(FIRST.0, FIRST.1)));
        }
    }

    /// When the next look is due.
    pub(crate) const fn next_deadline(&self) -> Option<Time> {
        self.next
    }

    fn next_to_delete(&self) -> Option<EniId> {
        self.rows.values().find(|row| row.to_delete()).map(|row| row.eni.clone())
    }
}

impl Pool {
    /// The next step of the search: look, ask for the owners, delete what is proven. One call at a time.
    pub(crate) fn tend_leaks(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.leaks.begin(now, &mut self.jitter);
        if self.ops.any(About::seeks_leaks) {
            return;
        }
        // Pods go first, as long as anything can be done for them. *Why* not for ever: where a subnet is full of what
        // dead nodes left behind, pods wait for the very thing that the search brings.
        let pods_first = self.requests.queued() > 0 && !matches!(self.growth, Growth::Waiting(..));
        if self.leaks.askers.is_empty() && (self.cordoned || pods_first) {
            return;
        }
        let Some((about, call)) = self.next_leak_step(now) else {
            self.answer_leak_askers(None, out);
            return;
        };
        if matches!(about, About::DeleteLeak { .. }) && self.leaks.ordered == 0 {
            // The daemon's own business: who asked does not wait for it.
            self.answer_leak_askers(None, out);
        }
        match self.closed(Action::of(&call), Urgency::Leaks, now) {
            None => self.leak_call(now, about, call, out),
            Some((_, cause)) => self.answer_leak_askers(Some(cause), out),
        }
    }

    fn next_leak_step(&self, now: Time) -> Option<(About, Ec2Call)> {
        let due = self.leaks.next.is_some_and(|at| at <= now);
        if self.leaks.fresh || (due && self.leaks.to_judge.is_empty()) {
            return Some((About::FindDetached, Ec2Call::FindDetached));
        }
        if !self.leaks.to_judge.is_empty() {
            let mut ids: Vec<InstanceId> = self.leaks.to_judge.values().cloned().collect();
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(OWNERS_MAX);
            return Some((About::DescribeInstances { ids: ids.clone() }, Ec2Call::DescribeInstances { ids }));
        }
        let may = self.settings.leaks == LeakPolicy::Delete || self.leaks.ordered > 0;
        let eni = self.leaks.next_to_delete().filter(|_| may)?;
        Some((About::DeleteLeak { eni: eni.clone() }, Ec2Call::Delete { eni }))
    }

    fn leak_call(&mut self, now: Time, about: About, call: Ec2Call, out: &mut Vec<Effect>) {
        if about == About::FindDetached {
            self.leaks.fresh = false;
        } else if matches!(about, About::DeleteLeak { .. }) {
            self.leaks.ordered = self.leaks.ordered.saturating_sub(1);
        }
        self.budget.take(Action::of(&call), now);
        let op = self.ops.open(about, now, None);
        out.push(Effect::Ec2 { op, call });
    }

    /// A look: own ENIs go the usual way, those of others become suspects once their owner is known to be dead.
    pub(crate) fn see_detached(&mut self, now: Time, seen: &[ObservedEni], out: &mut Vec<Effect>) {
        self.leaks.next = Some(now.after(self.jitter.between(EVERY.0, EVERY.1)));
        let ours = self.settings.instance.clone();
        for eni in seen {
            let mine = tag(eni, TAG_INSTANCE) == Some(ours.as_str());
            if mine && self.ledger.slot_of(&eni.id).is_none() {
                self.meet(now, eni, &State::Cooling { since: now, sandbox: None }, out);
            }
        }
        let judges = self.settings.leaks != LeakPolicy::Ignore || !self.leaks.askers.is_empty();
        let mut known = std::mem::take(&mut self.leaks.rows);
        self.leaks.to_judge.clear();
        for eni in seen {
            let mut row = known.remove(&eni.id).unwrap_or_else(|| LeakRow::of(eni));
            // EC2 still lists it: deleted it is not, or this answer is from before.
            (row.deleted, row.failure) = (false, None);
            let verdict = leak_verdict(eni, self.settings.cluster.as_deref(), &[]);
            row.verdict = match verdict.owner() {
                Some(owner) if *owner == ours => Some(LeakVerdict::OwnerAlive(ours.clone())),
                Some(owner) => {
                    if judges {
                        self.leaks.to_judge.insert(eni.id.clone(), owner.clone());
                    }
                    None
                }
                None => Some(verdict),
            };
            if row.verdict.is_some() {
                row.begin_anew();
            }
            self.leaks.rows.insert(eni.id.clone(), row);
        }
    }

    /// Which of the owners asked for exist.
    pub(crate) fn see_owners(
        &mut self,
        now: Time,
        asked: &[InstanceId],
        alive: &[InstanceId],
        out: &mut Vec<Effect>,
    ) {
        let trusting = self.planted(Bug::IgnoresOwner);
        let proof = self.settings.leak_proof;
        let deleted = self.settings.leaks == LeakPolicy::Delete || self.leaks.ordered > 0;
        let mut again = false;
        let (judged, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.leaks.to_judge)
            .into_iter()
            .partition(|(_, owner)| asked.contains(owner));
        self.leaks.to_judge = rest;
        for (eni, owner) in judged {
            let Some(row) = self.leaks.rows.get_mut(&eni) else { continue };
            if alive.contains(&owner) && !trusting {
                row.verdict = Some(LeakVerdict::OwnerAlive(owner));
                row.begin_anew();
                continue;
            }
            row.verdict = Some(LeakVerdict::Leaked(owner.clone()));
            let since = *row.since.get_or_insert(now);
            let proven = now.since(since) >= proof || trusting;
            if proven && !row.proven {
                out.push(Effect::Explain(Cause::LeakedEni { eni, owner, deleted }));
            }
            row.proven |= proven;
            again |= !row.proven;
        }
        if again {
            let next = now.after(proof);
            self.leaks.next = Some(self.leaks.next.map_or(next, |at| at.min(next)));
        }
    }

    /// A proven leak is deleted.
    pub(crate) fn leak_deleted(&mut self, eni: &EniId) {
        if let Some(row) = self.leaks.rows.get_mut(eni) {
            row.deleted = true;
        }
    }

    /// A step failed. A leak that cannot be deleted has to be proven anew.
    pub(crate) fn leak_failed(
        &mut self,
        now: Time,
        about: &About,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let Some(action) = Action::about(about) else { return };
        let cause = cause_of(action, failure, None);
        if let About::DeleteLeak { eni } = about {
            if let Some(row) = self.leaks.rows.get_mut(eni) {
                row.deleted = failure.class == FailureClass::NotFound;
                row.failure = (!row.deleted).then(|| cause.clone());
                if failure.class != FailureClass::Throttled {
                    row.begin_anew();
                }
            }
        } else {
            self.refuse_leak_askers(&cause, out);
        }
        match failure.class {
            // It is tried again when the budget allows.
            FailureClass::Throttled => return,
            // The other ENIs would be refused just so.
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
            | FailureClass::Unknown => {}
        }
        self.leaks.to_judge.clear();
        self.leaks.next = Some(now.after(self.jitter.between(AGAIN.0, AGAIN.1)));
        if !matches!(failure.class, FailureClass::NotFound | FailureClass::Busy) {
            out.push(Effect::Explain(cause));
        }
    }

    /// Detached ENIs of this cluster, as far as this node has looked.
    #[must_use]
    pub fn leaks(&self) -> Vec<LeakRow> {
        self.leaks.rows.values().cloned().collect()
    }
}
