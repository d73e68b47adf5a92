//! From the ledger's records to a pool, and back (design D2, D5, §7).

use std::net::IpAddr;

use crate::address::State;
use crate::eni::{Doubt, Eni, Role, Stage};
use crate::ids::{OpId, Revision, SandboxKey};
use crate::ledger::{Phase, Sandbox};
use crate::machine::{Intent, Pool, first_op};
use crate::ops::Ops;
use crate::record::Record;
use crate::requests::Tombstone;
use crate::settings::Settings;
use crate::time::Time;
use crate::tuning::DESCRIBE_LAG;

impl Pool {
    /// The pool of an instance whose ledger says `records`. When the ledger is of another boot, all allocations are
    /// void and every address cools in full. What has to follow comes out of the first [`Pool::handle`].
    #[must_use]
    pub fn recover(settings: Settings, same_boot: bool, records: Vec<Record>, now: Time) -> Self {
        let mut pool = Self::empty(settings, false, now);
        let named =
            |r: &Record| matches!(r, Record::OpsUsed { .. } | Record::Intent { .. } | Record::Settled { .. });
        // Without a ledger, or with one that began without us, it is not known which ids were used before.
        let known = records.iter().any(named);
        pool.ops = Ops::starting_at(if known { OpId(0) } else { first_op(&pool.settings, now) });
        for record in records {
            pool.replay(record, same_boot, now);
        }
        pool.after_replay(same_boot, now);
        pool
    }

    /// Follows [`Pool::recover`] where more may have happened than the ledger says: nothing that is free is handed out, on
    /// whatever ENI, until a Describe asked from now on has said what it holds.
    pub fn mistrust_all(&mut self, now: Time) {
        for slot in self.ledger.slots() {
            if self.ledger.eni(slot).is_some_and(Eni::ours) {
                self.doubt_and_withhold(slot, now, now);
                self.note_doubt(now, slot);
            }
        }
    }

    fn replay(&mut self, record: Record, same_boot: bool, now: Time) {
        match record {
            Record::Eni(eni) => {
                let fresh = Eni::remembered(&eni, now);
                if let Some(slot) = self.ledger.slot_of(&eni.id) {
                    if let Some(known) = self.ledger.eni_mut(slot) {
                        known.attachment = fresh.attachment;
                        known.card = fresh.card;
                        known.device = fresh.device;
                        known.groups = fresh.groups;
                        known.subnet_cidr = fresh.subnet_cidr;
                        known.ever_attached |= fresh.ever_attached;
                        known.stage = fresh.stage;
                        known.role = fresh.role;
                    }
                } else {
                    self.ledger.add_eni(fresh);
                }
            }
            Record::EniGone { eni } => {
                if let Some(slot) = self.ledger.slot_of(&eni) {
                    self.ledger.remove_eni(slot);
                }
            }
            Record::Assigned { eni, net, .. } => {
                if let Some(slot) = self.ledger.slot_of(&eni)
                    && self.ledger.overlapping(net).is_empty()
                {
                    self.ledger.add_block(slot, net, &State::Free { since: now }, now);
                }
            }
            Record::Unassigned { eni, net, at } => {
                let slot = self.ledger.slot_of(&eni);
                if self.ledger.block(net).is_some_and(|b| Some(b.slot) == slot) {
                    self.ledger.remove_block(net);
                }
                let at = if same_boot { at } else { now };
                if let Some(slot) = slot
                    && now.since(at) < DESCRIBE_LAG
                    && let Some(eni) = self.ledger.eni_mut(slot)
                {
                    eni.lately_gone.insert(net, at);
                }
            }
            Record::Allocated { sandbox, pod, addresses, at } if same_boot => {
                self.replay_allocated(&sandbox, pod, addresses, at);
            }
            Record::Released { sandbox, addresses, started, at } if same_boot => {
                self.replay_released(&sandbox, &addresses, started, at);
            }
            Record::Tombstone { sandbox, started, at } if same_boot => {
                self.replay_tombstone(sandbox, started, at);
            }
            Record::Allocated { .. } | Record::Released { .. } | Record::Tombstone { .. } => {}
            Record::Intent { op, create, eni } => {
                self.ops.skip_to(OpId(op.0.saturating_add(1)));
                self.intents.insert(op, Intent { create, eni, doubted: Some(now) });
            }
            Record::Settled { op } => {
                self.ops.skip_to(OpId(op.0.saturating_add(1)));
                self.intents.remove(&op);
            }
            Record::OpsUsed { next } => self.ops.skip_to(next),
        }
    }

    fn replay_allocated(
        &mut self,
        key: &SandboxKey,
        pod: crate::ids::PodRef,
        addresses: Vec<IpAddr>,
        at: Time,
    ) {
        // A ledger never holds an address twice; one that does is damaged, and the first holder keeps it, once.
        let mut seen = std::collections::BTreeSet::new();
        let addresses: Vec<IpAddr> = addresses.into_iter().filter(|ip| seen.insert(*ip)).collect();
        if let Some(known) = self.ledger.sandbox_mut(key).filter(|known| known.addresses == addresses) {
            // The same once more: its ADD came again, as a life that began later.
            known.started = known.started.max(at);
            return;
        }
        if addresses.iter().any(|ip| self.ledger.holder(*ip).is_some()) || self.ledger.sandbox(key).is_some()
        {
            return;
        }
        let sandbox = Sandbox {
            pod,
            addresses,
            phase: Phase::Allocated,
            started: at,
            noted: Revision(0),
            ended: Time::default(),
            since: at,
            waiting: Vec::new(),
        };
        self.ledger.hold(key, sandbox);
    }

    fn replay_released(&mut self, key: &SandboxKey, addresses: &[IpAddr], started: Time, at: Time) {
        if self.ledger.sandbox(key).is_some() {
            self.ledger.let_go(key, at);
        } else {
            for ip in addresses {
                if self.ledger.holder(*ip).is_none() {
                    let sandbox = (!key.container_id.is_empty()).then(|| key.clone());
                    self.ledger.set_address(*ip, State::Cooling { since: at, sandbox });
                }
            }
        }
        if !key.container_id.is_empty() {
            self.replay_tombstone(key.clone(), started, at);
        }
    }

    fn replay_tombstone(&mut self, key: SandboxKey, started: Time, at: Time) {
        let tombstone = Tombstone { started, at, revision: Revision(0), waiting: Vec::new() };
        let nobody = self.requests.bury(key, tombstone);
        debug_assert!(nobody.is_empty(), "nobody waits while a ledger is read");
    }

    fn after_replay(&mut self, same_boot: bool, now: Time) {
        if !same_boot {
            let all: Vec<IpAddr> = self.ledger.addresses().map(|(ip, _)| ip).collect();
            for ip in all {
                self.ledger.set_address(ip, State::Cooling { since: now, sandbox: None });
            }
        }
        let with = |create: bool| self.intents.values().filter(move |i| i.create.is_some() == create);
        let unsettled: Vec<_> = with(false).filter_map(|i| i.eni.clone()).collect();
        let created: Vec<_> = with(true).filter_map(|i| i.eni.clone()).collect();
        // An ENI that came out of its create and is in the ledger: only EC2's word that it goes with the instance is due.
        for intent in self.intents.values_mut().filter(|i| i.create.is_some()) {
            if intent.eni.as_ref().is_some_and(|id| self.ledger.slot_of(id).is_some()) {
                intent.doubted = None;
            }
        }
        for slot in self.ledger.slots() {
            let Some(eni) = self.ledger.eni_mut(slot) else { continue };
            let doubtful = unsettled.contains(&eni.id);
            if doubtful || created.contains(&eni.id) {
                // Perhaps EC2 was not told yet that it goes with the instance.
                eni.wants_termination = eni.staying() && eni.role == Role::Secondary;
            }
            let asked_from = if doubtful {
                // What was about to be unassigned may be gone, although a Describe still lists it.
                Some(now.after(DESCRIBE_LAG))
            } else if !same_boot || matches!(eni.stage, Stage::Created | Stage::Leaving(_)) {
                Some(now)
            } else {
                None
            };
            if let Some(asked_from) = asked_from {
                eni.doubt = Some(Doubt { since: now, asked_from, withholds: true });
                self.describing.want(asked_from);
            }
            if !same_boot {
                // The next start finds a ledger of this boot, and would believe it.
                self.note_doubt(now, slot);
            }
        }
        self.drop_intents_without_eni();
        if self.intents.values().any(|i| i.create.is_some()) {
            self.describing.want(now);
        }
        self.flush_again(now);
    }

    fn drop_intents_without_eni(&mut self) {
        let known: Vec<_> = self.ledger.enis().map(|(_, e)| e.id.clone()).collect();
        let lost: Vec<OpId> = self
            .intents
            .iter()
            .filter(|(_, i)| i.eni.as_ref().is_some_and(|id| !known.contains(id)))
            .map(|(op, _)| *op)
            .collect();
        for op in lost {
            self.settle_intent(op);
        }
    }

    /// A crash may have come between a release on disk and the flush that follows it.
    fn flush_again(&mut self, now: Time) {
        let cooldown = self.settings.cooldown;
        let young = self.ledger.cooling_index().iter().filter(|(since, _)| now < since.after(cooldown));
        self.unflushed = young.map(|(_, ip)| *ip).collect();
    }

    /// Records that rebuild the present state: what a compacted ledger holds.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::OpsUsed { next: self.ops.next_id() }];
        for (_, eni) in self.ledger.enis().filter(|(_, eni)| eni.ours()) {
            records.push(Record::Eni(eni.record()));
            for (net, at) in &eni.lately_gone {
                records.push(Record::Unassigned { eni: eni.id.clone(), net: *net, at: *at });
            }
            for net in &eni.blocks {
                let at = self.ledger.block(*net).map_or(eni.since, |b| b.since);
                records.push(Record::Assigned { eni: eni.id.clone(), net: *net, at });
            }
        }
        for (key, dead) in self.requests.tombstones() {
            records.push(Record::Tombstone { sandbox: key.clone(), started: dead.started, at: dead.at });
        }
        for (ip, address) in self.ledger.addresses() {
            if let State::Cooling { since, .. } = &address.state {
                let sandbox = SandboxKey::new("", "");
                records.push(Record::Released {
                    sandbox,
                    addresses: vec![ip],
                    started: Time::default(),
                    at: *since,
                });
            }
        }
        for (key, sandbox) in self.ledger.sandboxes() {
            records.push(Record::Allocated {
                sandbox: key.clone(),
                pod: sandbox.pod.clone(),
                addresses: sandbox.addresses.clone(),
                at: sandbox.started,
            });
            if let Phase::Releasing(_) = sandbox.phase {
                records.push(Record::Released {
                    sandbox: key.clone(),
                    addresses: sandbox.addresses.clone(),
                    started: sandbox.ended,
                    at: sandbox.since,
                });
            }
        }
        for (op, intent) in &self.intents {
            records.push(Record::Intent { op: *op, create: intent.create, eni: intent.eni.clone() });
        }
        records
    }
}
