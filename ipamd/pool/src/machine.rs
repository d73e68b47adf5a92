//! The pool itself: one input in, effects out. This file only orders the work; the rules live in the files it calls.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::backoff::{Action, Gates};
use crate::budget::Budget;
use crate::cause::Cause;
use crate::demand::Demand;
use crate::describe::Describing;
use crate::effect::{Answer, Effect, GrowBy};
use crate::ids::{DeviceIndex, EniId, NetworkCard, OpId, RequestId, SandboxKey};
use crate::input::{EniConfig, Input, SnapshotSource};
use crate::jitter::Jitter;
use crate::journal::{Journal, Then};
use crate::leaks::Leaks;
use crate::ledger::{Ledger, Phase};
use crate::ops::Ops;
use crate::planted::Bug;
use crate::requests::Requests;
use crate::settings::Settings;
use crate::subnets::Subnets;
use crate::time::Time;
use crate::tuning::Tuning;

/// How growth stands (design D10: demand and quota left mean an operation in flight or a wait with reason and end).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Growth {
    /// Nothing has been observed yet.
    Blind,
    /// Nothing is wanted.
    Satisfied,
    /// Other pods of the same burst are expected until then, so that one call serves them all (design D9, D11).
    Gathering(Time),
    /// Something is on its way.
    InFlight,
    /// Waiting until then, because.
    Waiting(Time, Cause),
    /// The node can hold no more, or may not.
    Full,
    /// The disk or an order forbids it.
    Halted,
}

crate::text::variants!(Growth { Blind, Satisfied, Gathering(a), InFlight, Waiting(a, b), Full, Halted });

/// A mutating call whose outcome the ledger does not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Intent {
    /// What an ENI to be created would carry.
    pub(crate) create: Option<GrowBy>,
    /// The ENI, when it existed.
    pub(crate) eni: Option<EniId>,
    /// The outcome is unknown: a Describe asked at or after this moment decides.
    pub(crate) doubted: Option<Time>,
}

crate::text::fields!(Intent { create, eni, doubted });

/// The pure state machine that owns every decision about addresses.
///
/// *Order of use*: [`Pool::new`] or [`Pool::recover`] once; then [`Pool::handle`] for everything that happens and
/// whenever [`Pool::next_deadline`] has come. Times handed in never go back; an earlier one counts as the latest seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pool {
    pub(crate) settings: Settings,
    pub(crate) tuning: Tuning,
    pub(crate) now: Time,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Journal,
    pub(crate) requests: Requests,
    pub(crate) ops: Ops,
    pub(crate) gates: Gates,
    pub(crate) budget: Budget,
    pub(crate) subnets: Subnets,
    pub(crate) leaks: Leaks,
    pub(crate) demand: Demand,
    pub(crate) describing: Describing,
    pub(crate) intents: BTreeMap<OpId, Intent>,
    pub(crate) growth: Growth,
    pub(crate) jitter: Jitter,
    /// ENIs the instance takes, learned from EC2, and until when that is believed.
    pub(crate) learned_enis: Option<(u32, Time)>,
    /// First boot of the instance: metadata may add (design D1).
    pub(crate) first_boot: bool,
    /// Somebody has told us of this instance's ENIs in this life of the daemon.
    pub(crate) observed: bool,
    pub(crate) stopping: bool,
    /// Where new ENIs go under custom networking.
    pub(crate) eni_config: Option<EniConfig>,
    /// The node is cordoned or about to end: nothing is detached or given back.
    pub(crate) cordoned: bool,
    /// Addresses used before their cooldown ended, since the start.
    pub(crate) hurried: u64,
    /// Addresses found cooling at the start: their flush may not have happened.
    pub(crate) unflushed: Vec<IpAddr>,
    /// The last thing that went wrong and has not been made good.
    pub(crate) failure: Option<Cause>,
    /// A bug planted on purpose.
    #[cfg(feature = "planted")]
    pub(crate) bug: Option<Bug>,
}

crate::text::fields!(Pool {
    settings,
    tuning,
    now,
    ledger,
    journal,
    requests,
    ops,
    gates,
    budget,
    subnets,
    leaks,
    demand,
    describing,
    intents,
    growth,
    jitter,
    learned_enis,
    first_boot,
    observed,
    stopping,
    eni_config,
    cordoned,
    hurried,
    unflushed,
    failure,
    #[cfg(feature = "planted")]
    bug
});

impl Pool {
    /// The pool of an instance that boots for the first time: an empty ledger; the first metadata it sees is adopted.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::empty(settings, true, Time::default())
    }

    pub(crate) fn empty(settings: Settings, first_boot: bool, now: Time) -> Self {
        Self {
            tuning: Tuning::of(&settings),
            now,
            ledger: Ledger::default(),
            journal: Journal::default(),
            requests: Requests::default(),
            ops: Ops::starting_at(first_op(&settings, Time::default())),
            gates: Gates::default(),
            budget: Budget::new(settings.share),
            subnets: Subnets::default(),
            leaks: Leaks::default(),
            demand: Demand::default(),
            describing: Describing::default(),
            intents: BTreeMap::new(),
            growth: Growth::Blind,
            jitter: Jitter::new(settings.seed),
            learned_enis: None,
            first_boot,
            observed: false,
            stopping: false,
            eni_config: None,
            cordoned: false,
            hurried: 0,
            unflushed: Vec::new(),
            failure: None,
            #[cfg(feature = "planted")]
            bug: None,
            settings,
        }
    }

    /// Takes in one event and says what is to be done. Total: any input in any state.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let now = self.now.max(now);
        self.now = now;
        self.describing.forget_old(now);
        match input {
            Input::Allocate { request, sandbox, pod, started, deadline } => {
                self.allocate(now, request, sandbox, pod, (started.min(now), deadline), effects);
            }
            Input::Abandon { request } => self.abandon(request),
            Input::Release { request, sandbox, started } => {
                self.release(now, request, sandbox, started.min(now), effects);
            }
            Input::Collect { request, network, valid, started } => {
                self.collect(now, request, &network, &valid, started.min(now), effects);
            }
            Input::Persisted { revision } => {
                self.disk_works();
                for (revision, then) in self.journal.persisted(revision) {
                    match then {
                        Then::Allocated(key) => self.show_allocated(now, &key, revision, effects),
                        Then::Released(key) => self.end_release(now, &key, revision, effects),
                        Then::Buried(key) => self.show_buried(&key, revision, effects),
                        Then::Collected(request, keys) => {
                            self.answer(request, Answer::Collected(keys), effects);
                        }
                        Then::Issue(op) => self.issue_held(now, op, effects),
                        Then::Leave(slot) => self.may_leave(slot),
                    }
                }
            }
            Input::PersistFailed { revision, reason } => self.persist_failed(revision, &reason, effects),
            Input::Ec2 { op, outcome } => self.ec2_ended(now, op, outcome, effects),
            Input::Host { op, outcome } => self.host_ended(now, op, outcome, effects),
            Input::Observed(snapshot) => match snapshot.source {
                SnapshotSource::Metadata if self.planted(Bug::FollowsMetadata) => {
                    self.follow_metadata(now, &snapshot, effects);
                }
                SnapshotSource::Metadata => self.see_metadata(now, &snapshot, effects),
                SnapshotSource::Describe => {
                    self.see_described(now, now, snapshot.as_of, &snapshot.enis, None, effects);
                }
            },
            Input::Demand { bound } => self.demand.bound = bound,
            Input::EniConfig(config) => self.eni_config = config,
            Input::Leaks { request, delete } => self.ask_for_leaks(request, delete, effects),
            Input::Cordoned(cordoned) => self.cordoned = cordoned,
            Input::Timer => {}
            Input::Stop => self.stopping = true,
        }
        self.settle(now, effects);
    }

    /// Something reached the disk: what was said of it is made good.
    fn disk_works(&mut self) {
        if matches!(self.failure, Some(Cause::LedgerUnwritable { .. })) {
            self.failure = None;
        }
    }

    /// A call worked: what was said of its action is made good.
    pub(crate) fn action_works(&mut self, action: Action) {
        if let Some(
            Cause::Throttled { action: named }
            | Cause::Paced { action: named }
            | Cause::Denied { action: named, .. }
            | Cause::Ec2 { action: named, .. },
        ) = &self.failure
            && *named == action.name()
        {
            self.failure = None;
        }
    }

    /// Everything that follows from the state and the time, not from the input alone.
    fn settle(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.give_up_on_lost(now, out);
        for address in std::mem::take(&mut self.unflushed) {
            self.flush(now, address, 1, out);
        }
        self.requests.forget_old(now);
        let cooldown = if self.planted(Bug::NeverCools) { Duration::ZERO } else { self.settings.cooldown };
        self.ledger.end_cooldowns(now, cooldown, |ip| self.ops.flushing(ip));
        self.serve(now, out);
        if !self.planted(Bug::ForgetsDeadlines) {
            self.refuse_late(now, out);
        }
        self.tend_hosts(now, out);
        self.tend_ec2(now, out);
        self.serve_from_cooling(now);
        self.journal.flush(out);
    }

    /// The next moment at which something is to be done without any input. The only timer.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let now = self.now;
        let mut next: Option<Time> = None;
        let mut at = |moment: Option<Time>| {
            if let Some(moment) = moment.filter(|m| *m > now) {
                next = Some(next.map_or(moment, |n| n.min(moment)));
            }
        };
        at(self.requests.next_due().map(|(due, _)| due));
        at(self.ledger.next_cooldown_end(self.settings.cooldown));
        at(self.next_hurry());
        at(self.ops.oldest().map(|(asked, _)| asked.after(crate::tuning::OP_PATIENCE)));
        at(self.describing.next_deadline());
        for (_, eni) in self.ledger.enis() {
            at(eni.host_retry.wait(now));
            if !self.stopping {
                at(eni.retry.wait(now));
                at(eni.termination_retry.wait(now));
                at(eni.learned_slots.map(|(_, until)| until));
                at(eni.doubt.map(|d| d.since.after(crate::tuning::DOUBT_COUNTS)));
                at(self.empty_from(eni));
            }
        }
        if !self.stopping {
            if let Growth::Waiting(until, _) = &self.growth {
                at(Some(*until));
            }
            at(self.gates.next_deadline(now));
            at(self.budget.next_deadline(now));
            at(self.leaks.next_deadline());
            at(self.demand.next_deadline(self.tuning.quiet));
            if let Growth::Gathering(until) = self.growth {
                at(Some(until));
            }
            at(self.learned_enis.map(|(_, until)| until));
        }
        next
    }

    /// Answers a caller, once.
    pub(crate) fn answer(&mut self, request: RequestId, answer: Answer, out: &mut Vec<Effect>) {
        if self.requests.leave(request).is_some() {
            out.push(Effect::Reply { request, answer });
        }
    }

    /// What a sandbox holds, as an answer.
    pub(crate) fn allocated_answer(&self, key: &SandboxKey, is_new: bool) -> Option<Answer> {
        let sandbox = self.ledger.sandbox(key)?;
        let eni = self.ledger.carrier(*sandbox.addresses.first()?)?;
        Some(Answer::Allocated {
            addresses: sandbox.addresses.clone(),
            is_new,
            eni: eni.id.clone(),
            card: eni.card,
            device: eni.device,
        })
    }

    /// What a sandbox durably holds, for CHECK. The ENI has no name where none that is ours is known to carry it: after a
    /// take-over, before the first Describe, or because people took the ENI from us.
    #[must_use]
    pub fn inspect(&self, sandbox: &SandboxKey) -> Option<Answer> {
        let held = self.ledger.sandbox(sandbox)?;
        let homeless = || Answer::Allocated {
            addresses: held.addresses.clone(),
            is_new: false,
            eni: EniId::new(""),
            card: NetworkCard(0),
            device: DeviceIndex(0),
        };
        match held.phase {
            Phase::Allocated => Some(self.allocated_answer(sandbox, false).unwrap_or_else(homeless)),
            Phase::Allocating(_) | Phase::Releasing(_) => None,
        }
    }

    /// Why a sandbox may be out of reach although it holds an address: EC2 does not list the address, or does not show its
    /// ENI as attached here (cni-conformance K-07).
    #[must_use]
    pub fn out_of_reach(&self, sandbox: &SandboxKey) -> Option<Cause> {
        let held = self.ledger.sandbox(sandbox)?;
        held.addresses.iter().find_map(|ip| {
            let block = self.ledger.block(self.ledger.address(*ip)?.block)?;
            let eni = self.ledger.eni(block.slot)?;
            let unlisted =
                block.suspect.is_some().then(|| format!("{ip} of {}, which EC2 does not list,", eni.id));
            let detached =
                || eni.missing.map(|_| format!("{}, which EC2 does not show as attached here,", eni.id));
            unlisted.or_else(detached).map(|what| Cause::Quarantined { what: what.into() })
        })
    }

    /// When the life of a sandbox began that holds an address or is about to. A DEL that started before is of an earlier
    /// life and ends nothing.
    #[must_use]
    pub fn began(&self, sandbox: &SandboxKey) -> Option<Time> {
        let held = self.ledger.sandbox(sandbox)?;
        match held.phase {
            Phase::Allocating(_) | Phase::Allocated => Some(held.started),
            Phase::Releasing(_) => None,
        }
    }

    /// Notes why something does not go on, and tells.
    pub(crate) fn complain(&mut self, cause: Cause, out: &mut Vec<Effect>) {
        self.failure = Some(cause.clone());
        out.push(Effect::Explain(cause));
    }
}

/// Where operation ids start: high bits from the boot, and from the time when a ledger of this boot was lost, so that no
/// loss brings an old client token back (EC2 answers a repeated token with the ENI it made then). *Source*: FNV-1a, 24
/// bits of it.
pub(crate) fn first_op(settings: &Settings, lost: Time) -> OpId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in settings.boot.as_str().bytes().chain(lost.as_ms().to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    OpId(((hash >> 40) << 20) | 1)
}
