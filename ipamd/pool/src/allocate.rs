//! ADD: who gets which address, and who has to wait (design D2, D8, D9).

use crate::cause::{self, Cause};
use crate::effect::{Answer, Effect};
use crate::eni::{Eni, Stage};
use crate::ids::{PodRef, RequestId, Revision, SandboxKey};
use crate::journal::Then;
use crate::ledger::{Phase, Sandbox};
use crate::machine::{Growth, Pool};
use crate::planted::Bug;
use crate::record::Record;
use crate::requests::Asked;
use crate::time::Time;
use crate::tuning::{COOLED_AT_LEAST, WAITERS_MAX, count};

impl Pool {
    /// A plugin wants an address; `times` are its start and its deadline.
    pub(crate) fn allocate(
        &mut self,
        now: Time,
        request: RequestId,
        key: SandboxKey,
        pod: PodRef,
        times: (Time, Time),
        out: &mut Vec<Effect>,
    ) {
        if self.requests.knows(request) {
            return;
        }
        let (started, deadline) = times;
        if let Some(cause) = self.no_entry(now, &key, times) {
            out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            return;
        }
        match self.ledger.sandbox(&key).map(|s| s.phase) {
            Some(Phase::Allocated | Phase::Allocating(_)) => {
                self.allocate_again(request, key, (started, deadline), out);
            }
            Some(Phase::Releasing(_)) => self.join_queue(now, request, key, pod, times, true),
            None => self.join_queue(now, request, key, pod, times, false),
        }
    }

    /// An ADD of a sandbox that has its address. One that began later than those before is answered once the ledger says so:
    /// a DEL in between ended the life before, and must not end this one when its word comes after a crash (design D4).
    fn allocate_again(
        &mut self,
        request: RequestId,
        key: SandboxKey,
        (started, deadline): (Time, Time),
        out: &mut Vec<Effect>,
    ) {
        let durable = self.journal.durable();
        let Some(sandbox) = self.ledger.sandbox_mut(&key) else { return };
        let later = started > sandbox.started;
        if !later && sandbox.phase == Phase::Allocated && sandbox.noted <= durable {
            let answer = self.allocated_answer(&key, false).unwrap_or_else(|| {
                let what = format!("the address of sandbox {}", key.container_id).into();
                Answer::Refused(Cause::Quarantined { what })
            });
            out.push(Effect::Reply { request, answer });
            return;
        }
        let failing = self.journal.failing().map(|reason| Cause::LedgerUnwritable { reason: reason.into() });
        if let Some(cause) = failing.or_else(|| self.requests.full().then_some(Cause::QueueFull)) {
            out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            return;
        }
        if later {
            sandbox.started = started;
            sandbox.noted = self.journal.then(Then::Allocated(key.clone()));
            self.journal.note(Record::Allocated {
                sandbox: key.clone(),
                pod: sandbox.pod.clone(),
                addresses: sandbox.addresses.clone(),
                at: started,
            });
        }
        sandbox.waiting.push((request, false));
        self.requests.enter(request, Asked::Add(key, deadline));
    }

    /// Why an ADD is turned away at once.
    fn no_entry(&self, now: Time, key: &SandboxKey, (started, deadline): (Time, Time)) -> Option<Cause> {
        let sandbox = self.ledger.sandbox(key);
        let ended = sandbox.filter(|s| matches!(s.phase, Phase::Releasing(_))).map(|s| s.ended);
        let buried = self.requests.tombstone(key).map(|t| t.started);
        if ended.max(buried).is_some_and(|dead| started < dead) && !self.planted(Bug::IgnoresTombstones) {
            return Some(Cause::SandboxDeleted { sandbox: key.clone() });
        }
        if sandbox.is_some_and(|s| s.phase == Phase::Allocated) {
            return None;
        }
        if deadline <= now {
            // Nobody waits for it any more, and its DEL may have come and be forgotten.
            return Some(Cause::TooSlow { waiting_for: "ipamd to take the request in" });
        }
        if let Some(reason) = self.journal.failing() {
            return Some(Cause::LedgerUnwritable { reason: reason.into() });
        }
        let crowded = self.requests.waiting() >= count(WAITERS_MAX) && self.requests.waiter(key).is_none();
        (crowded || self.requests.full()).then_some(Cause::QueueFull)
    }

    fn join_queue(
        &mut self,
        now: Time,
        request: RequestId,
        key: SandboxKey,
        pod: PodRef,
        times: (Time, Time),
        held_back: bool,
    ) {
        let (started, deadline) = times;
        self.requests.enter(request, Asked::Add(key.clone(), deadline));
        if let Some(waiter) = self.requests.waiter_mut(&key) {
            waiter.started = waiter.started.max(started);
            waiter.requests.push(request);
        } else {
            self.demand.arrived(now, self.settings.gather);
            self.requests.wait(key, pod, started, request, held_back);
        }
    }

    /// Serves the queue, first come first served, as long as there is something to give.
    pub(crate) fn serve(&mut self, now: Time, out: &mut Vec<Effect>) {
        while self.journal.failing().is_none() {
            let Some(key) = self.requests.first().cloned() else { return };
            let Some(ip) = self.ledger.pick(&self.settings) else { return };
            self.give(now, &key, ip);
            if self.planted(Bug::RepliesEarly) {
                let revision = self.journal.making();
                self.show_allocated(now, &key, revision, out);
            }
        }
    }

    /// When nothing is free and no growth is possible: the oldest cooled address (design §7).
    pub(crate) fn serve_from_cooling(&mut self, now: Time) {
        while self.requests.queued() > 0 && self.cannot_grow() && self.journal.failing().is_none() {
            let Some((since, ip)) = self.ledger.oldest_cooling(&self.settings, |ip| self.ops.flushing(ip))
            else {
                return;
            };
            if now < since.after(COOLED_AT_LEAST) || self.ledger.pick(&self.settings).is_some() {
                return;
            }
            let Some(key) = self.requests.first().cloned() else { return };
            self.hurried = self.hurried.saturating_add(1);
            self.give(now, &key, ip);
        }
    }

    /// When that may next happen.
    pub(crate) fn next_hurry(&self) -> Option<Time> {
        if self.requests.queued() == 0 || !self.cannot_grow() {
            return None;
        }
        self.ledger
            .oldest_cooling(&self.settings, |ip| self.ops.flushing(ip))
            .map(|(since, _)| since.after(COOLED_AT_LEAST))
    }

    fn cannot_grow(&self) -> bool {
        match &self.growth {
            Growth::Full | Growth::Halted => true,
            Growth::Waiting(_, cause) => matches!(
                cause,
                Cause::SubnetExhausted { .. }
                    | Cause::SubnetFragmented { .. }
                    | Cause::Denied { .. }
                    | Cause::NoSubnet
                    | Cause::NoEniConfig
            ),
            Growth::Blind | Growth::Satisfied | Growth::Gathering(_) | Growth::InFlight => false,
        }
    }

    fn give(&mut self, now: Time, key: &SandboxKey, ip: std::net::IpAddr) {
        let Some(waiter) = self.requests.unwait(key) else { return };
        let revision = self.journal.then(Then::Allocated(key.clone()));
        self.journal.note(Record::Allocated {
            sandbox: key.clone(),
            pod: waiter.pod.clone(),
            addresses: vec![ip],
            at: waiter.started,
        });
        let waiting = waiter.requests.iter().enumerate().map(|(n, request)| (*request, n == 0)).collect();
        self.ledger.hold(
            key,
            Sandbox {
                pod: waiter.pod,
                addresses: vec![ip],
                phase: Phase::Allocating(revision),
                started: waiter.started,
                noted: revision,
                ended: Time::default(),
                since: now,
                waiting,
            },
        );
    }

    /// The allocation, or its later start, is on disk: it may be shown to whoever asked before that.
    pub(crate) fn show_allocated(
        &mut self,
        now: Time,
        key: &SandboxKey,
        revision: Revision,
        out: &mut Vec<Effect>,
    ) {
        match self.ledger.sandbox(key).map(|s| s.phase) {
            Some(Phase::Allocating(made)) if made == revision => {
                self.ledger.set_phase(key, Phase::Allocated, now);
            }
            Some(Phase::Allocated) => {}
            Some(Phase::Allocating(_) | Phase::Releasing(_)) | None => return,
        }
        let Some(sandbox) = self.ledger.sandbox_mut(key).filter(|s| s.noted <= revision) else { return };
        let waiting = std::mem::take(&mut sandbox.waiting);
        for (request, is_new) in waiting {
            if let Some(answer) = self.allocated_answer(key, is_new) {
                self.answer(request, answer, out);
            }
        }
    }

    /// Refuses the ADDs whose time has come, with the best reason there is.
    pub(crate) fn refuse_late(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some((due, request)) = self.requests.next_due() {
            if due > now {
                break;
            }
            let Some(Asked::Add(key, _)) = self.requests.leave(request) else { return };
            let cause = self.why_late(&key);
            out.push(Effect::Reply { request, answer: Answer::Refused(cause) });
            self.forget_caller(&key, request);
        }
        if self.stopping && self.requests.queued() > 0 && self.ops.coming() == 0 {
            self.refuse_queue(&Cause::Stopping, out);
        }
    }

    /// Refuses everybody in the queue.
    pub(crate) fn refuse_queue(&mut self, cause: &Cause, out: &mut Vec<Effect>) {
        while let Some(key) = self.requests.first().cloned() {
            let Some(waiter) = self.requests.unwait(&key) else { return };
            for request in waiter.requests {
                self.answer(request, Answer::Refused(cause.clone()), out);
            }
        }
    }

    /// Why an ADD could not be answered in time.
    pub(crate) fn why_late(&self, key: &SandboxKey) -> Cause {
        if self.ledger.sandbox(key).is_some() {
            return Cause::TooSlow { waiting_for: cause::THE_LEDGER };
        }
        match &self.growth {
            Growth::Blind => Cause::Starting,
            Growth::Waiting(_, cause) => cause.clone(),
            Growth::Full => self.host_trouble().unwrap_or_else(|| Cause::NodeFull {
                held: self.ledger.sandbox_count().saturating_add(self.ledger.cooling_count()),
                capacity: self.capacity(),
            }),
            Growth::Halted if self.stopping => Cause::Stopping,
            Growth::Halted => Cause::LedgerUnwritable {
                reason: self.journal.failing().unwrap_or("the disk does not answer").into(),
            },
            Growth::Satisfied | Growth::Gathering(_) | Growth::InFlight => {
                self.failure.clone().unwrap_or(Cause::TooSlow { waiting_for: cause::GROWTH })
            }
        }
    }

    /// Why an ENI that takes a place here serves no pods: a node that is full of such has another problem than its pods.
    fn host_trouble(&self) -> Option<Cause> {
        let idle = |eni: &Eni| eni.ours() && eni.stage == Stage::Attached && !eni.configured;
        let (_, eni) = self.ledger.enis().find(|(_, eni)| idle(eni) && eni.host_retry.cause().is_some())?;
        eni.host_retry.cause().cloned()
    }

    /// A caller went away.
    pub(crate) fn abandon(&mut self, request: RequestId) {
        match self.requests.leave(request) {
            Some(Asked::Add(key, _) | Asked::Del(key)) => self.forget_caller(&key, request),
            Some(Asked::Leaks) => self.forget_leak_asker(request),
            Some(Asked::Gc) | None => {}
        }
    }

    /// Removes a caller wherever it waits; a waiter nobody calls for leaves the queue.
    fn forget_caller(&mut self, key: &SandboxKey, request: RequestId) {
        if let Some(sandbox) = self.ledger.sandbox_mut(key) {
            sandbox.waiting.retain(|(r, _)| *r != request);
        }
        if let Some(tombstone) = self.requests.tombstone_mut(key) {
            tombstone.waiting.retain(|r| *r != request);
        }
        let Some(waiter) = self.requests.waiter_mut(key) else { return };
        waiter.requests.retain(|r| *r != request);
        if waiter.requests.is_empty() {
            self.requests.unwait(key);
        }
    }
}
