//! Revisions: what is on its way to the disk, and what may happen once it is there (design D2).

use std::collections::VecDeque;

use crate::effect::Effect;
use crate::eni::Slot;
use crate::ids::{OpId, RequestId, Revision, SandboxKey};
use crate::record::Record;

/// What becomes allowed when a revision is durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// The allocation may be shown.
    Allocated(SandboxKey),
    /// The release may be acted on and shown.
    Released(SandboxKey),
    /// The tombstone may be shown.
    Buried(SandboxKey),
    /// The collection may be shown.
    Collected(RequestId, Vec<SandboxKey>),
    /// The operation may be asked for.
    Issue(OpId),
    /// The ENI may be taken from the host.
    Leave(Slot),
}

crate::text::variants!(Then { Allocated(a), Released(a), Buried(a), Collected(a, b), Issue(a), Leave(a) });

/// The revisions of this life of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Journal {
    made: u64,
    durable: u64,
    records: Vec<Record>,
    then: Vec<Then>,
    pending: VecDeque<(Revision, Vec<Then>)>,
    failing: Option<Box<str>>,
}

crate::text::fields!(Journal { made, durable, records, then, pending, failing });

impl Journal {
    /// Notes a fact for the revision being made.
    pub(crate) fn note(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Notes what the revision being made allows.
    pub(crate) fn then(&mut self, then: Then) -> Revision {
        self.then.push(then);
        self.making()
    }

    /// The revision being made.
    pub(crate) const fn making(&self) -> Revision {
        Revision(self.made.saturating_add(1))
    }

    /// The newest revision handed out.
    pub(crate) const fn made(&self) -> Revision {
        Revision(self.made)
    }

    /// The newest durable revision.
    pub(crate) const fn durable(&self) -> Revision {
        Revision(self.durable)
    }

    /// Why the disk does not take more, while it does not.
    pub(crate) const fn failing(&self) -> Option<&str> {
        match &self.failing {
            Some(reason) => Some(reason),
            None => None,
        }
    }

    /// Hands out what was noted, as one revision.
    pub(crate) fn flush(&mut self, out: &mut Vec<Effect>) {
        if self.records.is_empty() {
            assert!(self.then.is_empty(), "something waits for a revision that holds nothing");
            return;
        }
        self.made = self.made.saturating_add(1);
        let revision = Revision(self.made);
        self.pending.push_back((revision, std::mem::take(&mut self.then)));
        out.push(Effect::Persist { revision, records: std::mem::take(&mut self.records) });
    }

    /// Everything up to `revision` is on disk; gives what that allows, oldest first. Revisions never handed out are
    /// not believed.
    pub(crate) fn persisted(&mut self, revision: Revision) -> Vec<(Revision, Then)> {
        let mut allowed = Vec::new();
        while let Some((rev, then)) = self.pending.pop_front_if(|(rev, _)| *rev <= revision) {
            self.durable = rev.0;
            self.failing = None;
            allowed.extend(then.into_iter().map(|t| (rev, t)));
        }
        allowed
    }

    /// The disk refused `revision`; gives what waits in vain for now: everything not durable, because revisions become
    /// durable in order and the writer may name any of those it tried together.
    pub(crate) fn failed(&mut self, revision: Revision, reason: &str) -> Vec<(Revision, Then)> {
        let known = self.pending.back().is_some_and(|(newest, _)| revision <= *newest);
        if !known || revision <= self.durable() {
            return Vec::new();
        }
        self.failing = Some(reason.into());
        self.pending.iter().flat_map(|(rev, then)| then.iter().map(|t| (*rev, t.clone()))).collect()
    }
}
