//! DEL and GC: how an allocation ends (design D2, D4, §7).

use crate::cause::Cause;
use crate::effect::{Answer, Effect};
use crate::ids::{RequestId, Revision, SandboxKey};
use crate::journal::Then;
use crate::ledger::Phase;
use crate::machine::Pool;
use crate::planted::Bug;
use crate::record::Record;
use crate::requests::{Asked, Tombstone};
use crate::time::Time;

/// What a GC would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collectable {
    /// Sandboxes of the network that the runtime no longer lists.
    pub dead: Vec<SandboxKey>,
    /// How many sandboxes the network holds, these included.
    pub held: usize,
}

impl Pool {
    /// A plugin gives a sandbox's address back.
    pub(crate) fn release(
        &mut self,
        now: Time,
        request: RequestId,
        key: SandboxKey,
        started: Time,
        out: &mut Vec<Effect>,
    ) {
        if self.requests.knows(request) {
            return;
        }
        if self.requests.full() {
            out.push(Effect::Reply { request, answer: Answer::Refused(Cause::QueueFull) });
            return;
        }
        self.turn_waiter_away(&key, started, out);
        let phase = self.ledger.sandbox(&key).map(|s| (s.phase, s.started));
        match phase {
            Some((Phase::Allocated | Phase::Allocating(_), alive)) if started < alive => {
                // A DEL of an earlier life, come late: that life ended before this one began.
                out.push(Effect::Reply { request, answer: Answer::Released(Vec::new()) });
            }
            Some((Phase::Allocated | Phase::Allocating(_), _)) => {
                self.begin_release(now, &key, started, out);
                self.join_release(request, key, out);
            }
            Some((Phase::Releasing(_), _)) => {
                if let Some(sandbox) = self.ledger.sandbox_mut(&key) {
                    sandbox.ended = sandbox.ended.max(started);
                }
                self.join_release(request, key, out);
            }
            None => self.bury(now, request, key, started, out),
        }
    }

    /// An ADD that waits is of the life that ends here, unless it began later.
    fn turn_waiter_away(&mut self, key: &SandboxKey, started: Time, out: &mut Vec<Effect>) {
        if self.requests.waiter(key).is_none_or(|w| w.started > started) {
            return;
        }
        let Some(waiter) = self.requests.unwait(key) else { return };
        for request in waiter.requests {
            let cause = Cause::SandboxDeleted { sandbox: key.clone() };
            self.answer(request, Answer::Refused(cause), out);
        }
    }

    fn begin_release(&mut self, now: Time, key: &SandboxKey, started: Time, out: &mut Vec<Effect>) {
        let Some(sandbox) = self.ledger.sandbox_mut(key) else { return };
        sandbox.ended = started;
        let adds = std::mem::take(&mut sandbox.waiting);
        let addresses = sandbox.addresses.clone();
        for (request, _) in adds {
            let cause = Cause::SandboxDeleted { sandbox: key.clone() };
            self.answer(request, Answer::Refused(cause), out);
        }
        let revision = self.journal.then(Then::Released(key.clone()));
        self.journal.note(Record::Released { sandbox: key.clone(), addresses, started, at: now });
        self.ledger.set_phase(key, Phase::Releasing(revision), now);
        if self.planted(Bug::ReleasesEarly)
            && let Some(sandbox) = self.ledger.let_go(key, now)
        {
            for (request, _) in sandbox.waiting {
                self.answer(request, Answer::Released(Vec::new()), out);
            }
        }
    }

    /// Waits for the release to be durable; with a disk that refuses, the plugin keeps it (design §7).
    fn join_release(&mut self, request: RequestId, key: SandboxKey, out: &mut Vec<Effect>) {
        if let Some(reason) = self.journal.failing() {
            let cause = Cause::LedgerUnwritable { reason: reason.into() };
            out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            return;
        }
        if let Some(sandbox) = self.ledger.sandbox_mut(&key) {
            sandbox.waiting.push((request, false));
            self.requests.enter(request, Asked::Del(key));
        }
    }

    /// A DEL for a sandbox the ledger does not know.
    fn bury(&mut self, now: Time, request: RequestId, key: SandboxKey, started: Time, out: &mut Vec<Effect>) {
        let durable = self.journal.durable();
        self.requests.bury_again(&key, started, now);
        if let Some(tombstone) = self.requests.tombstone_mut(&key) {
            if tombstone.revision <= durable {
                out.push(Effect::Reply { request, answer: Answer::Released(Vec::new()) });
            } else if let Some(reason) = self.journal.failing() {
                let cause = Cause::LedgerUnwritable { reason: reason.into() };
                out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            } else {
                tombstone.waiting.push(request);
                self.requests.enter(request, Asked::Del(key));
            }
            return;
        }
        if let Some(reason) = self.journal.failing() {
            let cause = Cause::LedgerUnwritable { reason: reason.into() };
            out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            return;
        }
        let revision = self.journal.then(Then::Buried(key.clone()));
        self.journal.note(Record::Tombstone { sandbox: key.clone(), started, at: now });
        self.requests.enter(request, Asked::Del(key.clone()));
        let tombstone = Tombstone { started, at: now, revision, waiting: vec![request] };
        self.put_to_rest(key, tombstone, out);
    }

    fn put_to_rest(&mut self, key: SandboxKey, tombstone: Tombstone, out: &mut Vec<Effect>) {
        for request in self.requests.bury(key, tombstone) {
            self.answer(request, Answer::Refused(Cause::QueueFull), out);
        }
    }

    /// The tombstone is on disk.
    pub(crate) fn show_buried(&mut self, key: &SandboxKey, revision: Revision, out: &mut Vec<Effect>) {
        let Some(tombstone) = self.requests.tombstone_mut(key).filter(|t| t.revision == revision) else {
            return;
        };
        for request in std::mem::take(&mut tombstone.waiting) {
            self.answer(request, Answer::Released(Vec::new()), out);
        }
    }

    /// The release is on disk: its addresses cool from now on, and it may be shown.
    pub(crate) fn end_release(
        &mut self,
        now: Time,
        key: &SandboxKey,
        revision: Revision,
        out: &mut Vec<Effect>,
    ) {
        if self.ledger.sandbox(key).is_none_or(|s| s.phase != Phase::Releasing(revision)) {
            return;
        }
        let dropped = self.planted(Bug::DropsReleases)
            && self.ledger.sandbox(key).is_some_and(|s| s.waiting.is_empty());
        if dropped {
            return;
        }
        let Some(sandbox) = self.ledger.let_go(key, now) else { return };
        if self.planted(Bug::Miscounts) {
            self.ledger.miscount();
        }
        for address in &sandbox.addresses {
            self.flush(now, *address, 1, out);
        }
        let tombstone = Tombstone { started: sandbox.ended, at: now, revision, waiting: Vec::new() };
        self.put_to_rest(key.clone(), tombstone, out);
        for (request, _) in sandbox.waiting {
            self.answer(request, Answer::Released(sandbox.addresses.clone()), out);
        }
        self.requests.release_waiter(key);
    }

    /// What a collection would release, and how many sandboxes the network holds in all.
    #[must_use]
    pub fn collectable(&self, network: &str, valid: &[SandboxKey], started: Time) -> Collectable {
        let valid: std::collections::BTreeSet<&SandboxKey> = valid.iter().collect();
        let of_network = || {
            let all = self.ledger.sandboxes();
            all.filter(|(_, s)| !network.is_empty() && *s.pod.network == *network)
        };
        let dead = of_network()
            .filter(|(_, s)| s.started < started && !matches!(s.phase, Phase::Releasing(_)))
            .filter(|(key, _)| !valid.contains(key))
            .map(|(key, _)| key.clone());
        Collectable { dead: dead.collect(), held: of_network().count() }
    }

    /// The runtime listed the live attachments of a network (cni-conformance G-02, G-08, G-09).
    pub(crate) fn collect(
        &mut self,
        now: Time,
        request: RequestId,
        network: &str,
        valid: &[SandboxKey],
        started: Time,
        out: &mut Vec<Effect>,
    ) {
        if self.requests.knows(request) {
            return;
        }
        if let Some(reason) = self.journal.failing() {
            let cause = Cause::LedgerUnwritable { reason: reason.into() };
            out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            return;
        }
        if self.requests.full() {
            out.push(Effect::Reply { request, answer: Answer::Refused(Cause::QueueFull) });
            return;
        }
        let Collectable { dead, .. } = self.collectable(network, valid, started);
        if dead.is_empty() {
            out.push(Effect::Reply { request, answer: Answer::Collected(dead) });
            return;
        }
        for key in &dead {
            self.begin_release(now, key, started, out);
        }
        self.requests.enter(request, Asked::Gc);
        self.journal.then(Then::Collected(request, dead));
    }

    /// The disk refuses: nobody is kept waiting for it.
    pub(crate) fn persist_failed(&mut self, revision: Revision, reason: &str, out: &mut Vec<Effect>) {
        let stuck = self.journal.failed(revision, reason);
        if stuck.is_empty() && self.journal.failing().is_none() {
            return;
        }
        let cause = Cause::LedgerUnwritable { reason: reason.into() };
        for (_, then) in stuck {
            let waiting: Vec<RequestId> = match then {
                Then::Allocated(key) | Then::Released(key) => self
                    .ledger
                    .sandbox_mut(&key)
                    .map(|s| std::mem::take(&mut s.waiting).into_iter().map(|(r, _)| r).collect())
                    .unwrap_or_default(),
                Then::Buried(key) => self
                    .requests
                    .tombstone_mut(&key)
                    .map(|t| std::mem::take(&mut t.waiting))
                    .unwrap_or_default(),
                Then::Collected(request, _) => vec![request],
                Then::Issue(_) | Then::Leave(_) => Vec::new(),
            };
            for request in waiting {
                self.answer(request, Answer::Refused(cause.clone()), out);
            }
        }
        self.refuse_queue(&cause, out);
        self.complain(cause, out);
    }
}
