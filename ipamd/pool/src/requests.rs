//! Who waits for what: callers with their deadlines, sandboxes that wait for an address, tombstones.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{PodRef, RequestId, Revision, SandboxKey};
use crate::time::Time;
use crate::tuning::{REQUESTS_MAX, TOMBSTONE_LIFE, TOMBSTONES_MAX, count};

/// What a caller asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// An address for this sandbox, until then.
    Add(SandboxKey, Time),
    /// The end of this sandbox.
    Del(SandboxKey),
    /// A collection.
    Gc,
    /// A look at what dead nodes left behind.
    Leaks,
}

crate::text::variants!(Asked { Add(a, b), Del(a), Gc, Leaks });

/// A sandbox without an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Waiter {
    pub(crate) pod: PodRef,
    pub(crate) started: Time,
    /// Its place in the queue.
    pub(crate) ticket: u64,
    /// Its callers.
    pub(crate) requests: Vec<RequestId>,
}

crate::text::fields!(Waiter { pod, started, ticket, requests });

/// The memory of a DEL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tombstone {
    /// When the DEL's plugin started.
    pub(crate) started: Time,
    /// When it was noted.
    pub(crate) at: Time,
    /// The revision that makes it durable; zero when it is.
    pub(crate) revision: Revision,
    /// Callers to answer then.
    pub(crate) waiting: Vec<RequestId>,
}

crate::text::fields!(Tombstone { started, at, revision, waiting });

/// Everybody who waits, and the dead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Requests {
    callers: BTreeMap<RequestId, Asked>,
    deadlines: BTreeSet<(Time, RequestId)>,
    waiters: BTreeMap<SandboxKey, Waiter>,
    /// Those that wait for nothing but an address, first come first.
    queue: BTreeMap<u64, SandboxKey>,
    next_ticket: u64,
    tombstones: BTreeMap<SandboxKey, Tombstone>,
    by_age: BTreeSet<(Time, SandboxKey)>,
}

crate::text::fields!(Requests { callers, deadlines, waiters, queue, next_ticket, tombstones, by_age });

impl Requests {
    /// Whether this caller is known already.
    pub(crate) fn knows(&self, request: RequestId) -> bool {
        self.callers.contains_key(&request)
    }

    /// Whether another caller would be too many.
    pub(crate) fn full(&self) -> bool {
        self.callers.len() >= REQUESTS_MAX
    }

    /// How many callers wait.
    pub(crate) fn callers(&self) -> usize {
        self.callers.len()
    }

    /// A caller begins to wait.
    pub(crate) fn enter(&mut self, request: RequestId, asked: Asked) {
        if let Asked::Add(_, deadline) = &asked {
            self.deadlines.insert((*deadline, request));
        }
        self.callers.insert(request, asked);
    }

    /// A caller no longer waits; false when it did not.
    pub(crate) fn leave(&mut self, request: RequestId) -> Option<Asked> {
        let asked = self.callers.remove(&request)?;
        if let Asked::Add(_, deadline) = &asked {
            self.deadlines.remove(&(*deadline, request));
        }
        Some(asked)
    }

    /// The next ADD that is due.
    pub(crate) fn next_due(&self) -> Option<(Time, RequestId)> {
        self.deadlines.first().copied()
    }

    /// How many sandboxes wait for an address.
    pub(crate) fn waiting(&self) -> u32 {
        count(self.waiters.len())
    }

    /// Everybody who waits for an address.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = (&SandboxKey, &Waiter)> {
        self.waiters.iter()
    }

    /// One waiter.
    pub(crate) fn waiter(&self, key: &SandboxKey) -> Option<&Waiter> {
        self.waiters.get(key)
    }

    /// One waiter, to change who calls for it.
    pub(crate) fn waiter_mut(&mut self, key: &SandboxKey) -> Option<&mut Waiter> {
        self.waiters.get_mut(key)
    }

    /// A sandbox begins to wait; `held_back` while its earlier life has not ended on disk.
    pub(crate) fn wait(
        &mut self,
        key: SandboxKey,
        pod: PodRef,
        started: Time,
        request: RequestId,
        held_back: bool,
    ) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if !held_back {
            self.queue.insert(ticket, key.clone());
        }
        self.waiters.insert(key, Waiter { pod, started, ticket, requests: vec![request] });
    }

    /// Nothing but an address is missing any more.
    pub(crate) fn release_waiter(&mut self, key: &SandboxKey) {
        if let Some(waiter) = self.waiters.get(key) {
            self.queue.insert(waiter.ticket, key.clone());
        }
    }

    /// The first in the queue.
    pub(crate) fn first(&self) -> Option<&SandboxKey> {
        self.queue.first_key_value().map(|(_, key)| key)
    }

    /// How many are in the queue.
    pub(crate) fn queued(&self) -> u32 {
        count(self.queue.len())
    }

    /// A sandbox no longer waits.
    pub(crate) fn unwait(&mut self, key: &SandboxKey) -> Option<Waiter> {
        let waiter = self.waiters.remove(key)?;
        self.queue.remove(&waiter.ticket);
        Some(waiter)
    }

    // ---- tombstones -------------------------------------------------------------------------------------------

    /// The tombstone of a sandbox.
    pub(crate) fn tombstone(&self, key: &SandboxKey) -> Option<&Tombstone> {
        self.tombstones.get(key)
    }

    /// A repeated DEL: its tombstone is kept as long from now on as for a first one. In memory only: an ADD it concerns
    /// cannot outlive this daemon, because its plugin is dead.
    pub(crate) fn bury_again(&mut self, key: &SandboxKey, started: Time, now: Time) {
        let Some(tombstone) = self.tombstones.get_mut(key) else { return };
        tombstone.started = tombstone.started.max(started);
        self.by_age.remove(&(tombstone.at, key.clone()));
        tombstone.at = tombstone.at.max(now);
        self.by_age.insert((tombstone.at, key.clone()));
    }

    /// The tombstone of a sandbox, to change who waits for it.
    pub(crate) fn tombstone_mut(&mut self, key: &SandboxKey) -> Option<&mut Tombstone> {
        self.tombstones.get_mut(key)
    }

    /// All tombstones.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = (&SandboxKey, &Tombstone)> {
        self.tombstones.iter()
    }

    /// How many there are.
    pub(crate) fn tombstone_count(&self) -> u32 {
        count(self.tombstones.len())
    }

    /// Notes a DEL; an older tombstone of the same sandbox is replaced. Gives the callers that still waited for
    /// tombstones pushed out.
    pub(crate) fn bury(&mut self, key: SandboxKey, tombstone: Tombstone) -> Vec<RequestId> {
        let mut left_over = Vec::new();
        if let Some(old) = self.tombstones.remove(&key) {
            self.by_age.remove(&(old.at, key.clone()));
            left_over.extend(old.waiting);
        }
        self.by_age.insert((tombstone.at, key.clone()));
        self.tombstones.insert(key, tombstone);
        while self.tombstones.len() > TOMBSTONES_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            if let Some(old) = self.tombstones.remove(&oldest) {
                left_over.extend(old.waiting);
            }
        }
        left_over
    }

    /// Forgets the tombstones that are old enough and that nobody waits for.
    pub(crate) fn forget_old(&mut self, now: Time) {
        while let Some((at, key)) = self.by_age.first() {
            if now < at.after(TOMBSTONE_LIFE) {
                break;
            }
            if self.tombstones.get(key).is_some_and(|t| !t.waiting.is_empty()) {
                break;
            }
            if let Some((_, key)) = self.by_age.pop_first() {
                self.tombstones.remove(&key);
            }
        }
    }
}
