//! People who ask for a look at what dead nodes left behind, or order its collection. An order shortens no proof: it
//! deletes what is proven, also where the daemon only names it by itself.

use crate::cause::Cause;
use crate::effect::{Answer, Effect};
use crate::ids::RequestId;
use crate::leaks::LeakRow;
use crate::machine::Pool;
use crate::requests::Asked;
use crate::settings::LeakPolicy;

/// Deletions by one order. *Source*: our choice; what the account's bucket takes at once (peers.md §2.1), and in the
/// time that a person waits. The rest goes with the next order.
const ORDER_MAX: u32 = 50;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeakReport {
    /// Detached ENIs.
    pub rows: Vec<LeakRow>,
    /// The cluster's name, where it is known: without it nobody can tell whose an ENI is.
    pub cluster: Option<Box<str>>,
    /// What the daemon does by itself.
    pub policy: LeakPolicy,
    /// How long after the first look a second one proves a leak.
    pub proof: std::time::Duration,
    /// Why not all is done that was ordered.
    pub held_up: Option<Cause>,
}

crate::text::fields!(LeakReport { rows, cluster, policy, proof, held_up });

impl Pool {
    /// Somebody asks. Answered when a look that begins from now on is over, and what was ordered is done.
    pub(crate) fn ask_for_leaks(&mut self, request: RequestId, delete: bool, out: &mut Vec<Effect>) {
        if self.requests.knows(request) {
            return;
        }
        if self.requests.full() {
            out.push(Effect::Reply { request, answer: Answer::Refused(Cause::QueueFull) });
            return;
        }
        self.requests.enter(request, Asked::Leaks);
        self.leaks.askers.push(request);
        self.leaks.fresh = true;
        if delete {
            self.leaks.ordered = ORDER_MAX;
        }
    }

    /// Somebody went away; an order of nobody's is none.
    pub(crate) fn forget_leak_asker(&mut self, request: RequestId) {
        self.leaks.askers.retain(|asker| *asker != request);
        if self.leaks.askers.is_empty() {
            (self.leaks.fresh, self.leaks.ordered) = (false, 0);
        }
    }

    /// What is known is told: nothing more is to be done, or not now.
    pub(super) fn answer_leak_askers(&mut self, held_up: Option<Cause>, out: &mut Vec<Effect>) {
        if self.leaks.askers.is_empty() {
            return;
        }
        if let Some(cause) = &held_up
            && (self.leaks.fresh || !self.leaks.to_judge.is_empty())
        {
            // Without a whole look there is nothing to tell but why.
            self.refuse_leak_askers(cause, out);
            return;
        }
        let report = LeakReport {
            rows: self.leaks(),
            cluster: self.settings.cluster.clone(),
            policy: self.settings.leaks,
            proof: self.settings.leak_proof,
            held_up,
        };
        self.end_leak_order(&Answer::Leaks(report), out);
    }

    /// It cannot be told.
    pub(crate) fn refuse_leak_askers(&mut self, cause: &Cause, out: &mut Vec<Effect>) {
        self.end_leak_order(&Answer::Refused(cause.clone()), out);
    }

    fn end_leak_order(&mut self, answer: &Answer, out: &mut Vec<Effect>) {
        for request in std::mem::take(&mut self.leaks.askers) {
            self.answer(request, answer.clone(), out);
        }
        (self.leaks.fresh, self.leaks.ordered) = (false, 0);
    }
}
