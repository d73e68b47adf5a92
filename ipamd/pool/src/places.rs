//! Places for ENIs: how many the instance has, who takes them, and when no further ENI is made although one is free.

use crate::backoff::Action;
use crate::budget::Urgency;
use crate::eni::{Eni, Exit, Stage};
use crate::grow::Step;
use crate::ids::NetworkCard;
use crate::machine::Pool;
use crate::ops::unit;
use crate::planted::Bug;
use crate::time::Time;
use crate::tuning::count;

/// ENIs that were made for nothing and cannot be deleted, at which no more are made. *Source*: our choice; one may be an
/// accident, and pods must not starve for it.
const UNDELETABLE_MOST: usize = 2;

/// Failed detaches or deletes after which a place is not counted on any more. *Source*: our choice; EC2 refuses a delete once or
/// twice while it still detaches.
const EXIT_TRIES: u32 = 3;

impl Pool {
    /// ENIs the instance may have.
    pub(crate) fn most_enis(&self, now: Time) -> u32 {
        if self.planted(Bug::IgnoresLimits) {
            return u32::MAX;
        }
        let mut most = self.settings.limits.enis.min(self.settings.max_eni.unwrap_or(u32::MAX));
        if let Some((learned, until)) = self.learned_enis
            && until > now
        {
            most = most.min(learned);
        }
        most
    }

    /// ENIs that take a place, or are about to.
    pub(crate) fn enis_taken(&self) -> u32 {
        let known =
            self.ledger.enis().filter(|(_, e)| e.card == NetworkCard(0) && (e.staying() || e.occupies()));
        count(known.count()).saturating_add(u32::from(self.ops.creating()))
    }

    /// Whether an ENI on its way out will leave a place soon. One that EC2 keeps refusing, or may not be asked about now,
    /// promises nothing: pods had better have what is here.
    pub(crate) fn place_comes(&self, now: Time) -> bool {
        let leaving = |e: &Eni| e.card == NetworkCard(0) && !e.staying() && e.occupies();
        let moves = |e: &Eni| {
            let deleting = e.stage == Stage::Leaving(Exit::Delete);
            let action = if deleting { Action::Delete } else { Action::Detach };
            (deleting || !self.cordoned)
                && e.retry.tries() < EXIT_TRIES
                && self.closed(action, self.urgency_of_leaving(e), now).is_none()
        };
        let comes = self.ledger.enis().filter(|(_, e)| e.ours() && leaving(e) && moves(e)).count();
        self.enis_taken().saturating_sub(count(comes)) < self.most_enis(now)
    }

    /// Places of one new ENI.
    pub(crate) const fn places(&self) -> u32 {
        self.settings.limits.ipv4_per_eni.saturating_sub(1)
    }

    /// Addresses the node can hold for pods.
    pub(crate) fn capacity(&self) -> u32 {
        let unit = unit(self.settings.mode);
        let carrying = self.ledger.enis().filter(|(_, e)| e.carries_pods(&self.settings) && e.staying());
        let present = count(carrying.count()).saturating_mul(self.places()).saturating_mul(unit);
        let more = self.most_enis(self.now).saturating_sub(self.enis_taken());
        let possible = present.saturating_add(more.saturating_mul(self.places()).saturating_mul(unit));
        possible.min(self.settings.max_pods.max(self.ledger.sandbox_count()))
    }

    /// Whether a new ENI has to wait for deletions to be allowed. An ENI that is never attached, and that the role may not
    /// delete, is a leak: an attach that keeps failing would make one after the other. So those count that are not attached
    /// yet, and those that this life gave up on. What was attached and could not be deleted afterwards does not: no more of
    /// these leave before a deletion has worked ([`Pool::must_stay`]), so there are never more of them than once left
    /// together, and pods may use the places they left.
    pub(crate) fn undeletable(&self, now: Time) -> Option<Step> {
        let cause = self.gates.refused(Action::Delete)?;
        let leak = |e: &Eni| match e.stage {
            Stage::Created => true,
            Stage::Attached => false,
            Stage::Leaving(_) => e.for_nothing,
        };
        if self.ledger.enis().filter(|(_, e)| e.ours() && leak(e)).count() < UNDELETABLE_MOST {
            return None;
        }
        let closed = self.closed(Action::Delete, Urgency::GiveBack, now);
        Some(closed.map_or(Step::Busy(0), |(until, _)| Step::Waits(0, until, cause.clone())))
    }
}
