//! What instance metadata says: it may add on the first boot, later only doubt, and never removes (design D1).

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use crate::address::State;
use crate::adopt::nets_of;
use crate::effect::Effect;
use crate::eni::{Eni, Role, Slot, Stage, is_primary};
use crate::groups::same_groups;
use crate::ids::{EniId, OpId};
use crate::input::{ObservedEni, Snapshot};
use crate::machine::Pool;
use crate::record::Record;
use crate::time::Time;
use crate::tuning::METADATA_DOUBT_EVERY;

impl Pool {
    /// The first word about this instance's ENIs. Pods may have waited for the daemon: they count as one burst.
    pub(crate) fn begins_to_see(&mut self, now: Time) {
        if !self.observed {
            self.observed = true;
            self.demand.begin(now, self.settings.gather);
        }
    }

    /// Instance metadata. On the first boot it adds; later a difference only calls for a Describe.
    pub(crate) fn see_metadata(&mut self, now: Time, snapshot: &Snapshot, out: &mut Vec<Effect>) {
        let primary = snapshot.enis.iter().any(|e| is_primary(e.card, e.device));
        if self.first_boot && !self.observed && primary {
            self.begins_to_see(now);
            for seen in &snapshot.enis {
                self.meet(now, seen, &State::Free { since: now }, out);
            }
            return;
        }
        let mut differs = false;
        for seen in &snapshot.enis {
            match self.ledger.slot_of(&seen.id) {
                Some(slot) => {
                    self.learn_cidr(slot, seen);
                    differs |= self.differs(slot, seen, snapshot.as_of);
                }
                None => differs |= !self.describing.lately_gone.contains_key(&seen.id),
            }
        }
        let listed: BTreeSet<&EniId> = snapshot.enis.iter().map(|e| &e.id).collect();
        let settled = |e: &Eni| e.stage == Stage::Attached && now.since(e.changed) >= METADATA_DOUBT_EVERY;
        differs |= self.ledger.enis().any(|(_, e)| settled(e) && !listed.contains(&e.id));
        if primary && (!differs || self.first_boot) {
            self.begins_to_see(now);
        }
        let recent = self.describing.metadata_doubted.is_some_and(|at| now.since(at) < METADATA_DOUBT_EVERY);
        if differs && !recent {
            self.describing.metadata_doubted = Some(now);
            self.describing.want(now);
        }
    }

    /// The incumbent's way, as a planted bug: metadata is the truth about what is attached, addresses are compared by
    /// number (cni#1967, cni#3019, cni#3824, cni#3887).
    pub(crate) fn follow_metadata(&mut self, now: Time, snapshot: &Snapshot, out: &mut Vec<Effect>) {
        self.observed = true;
        for seen in &snapshot.enis {
            let Some(slot) = self.ledger.slot_of(&seen.id) else {
                self.meet(now, seen, &State::Free { since: now }, out);
                continue;
            };
            let Some(eni) = self.ledger.eni_mut(slot) else { continue };
            eni.doubt = None;
            let listed = nets_of(seen);
            if !eni.ours() || eni.ec2_op.is_some() || listed.len() == eni.blocks.len() {
                continue;
            }
            let gone: Vec<IpNetwork> =
                eni.blocks.iter().copied().filter(|net| !listed.contains(net)).collect();
            for net in gone {
                self.unassigned(now, slot, net);
            }
            for net in listed {
                self.adopt(now, slot, net, &State::Free { since: now }, out);
            }
        }
    }

    fn learn_cidr(&mut self, slot: Slot, seen: &ObservedEni) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if eni.subnet_cidr.is_none() && seen.subnet_cidr.is_some() {
            eni.subnet_cidr = seen.subnet_cidr;
            eni.refresh = true;
            // The ledger remembers ours alone: after a restart whatever is in it counts as ours.
            if eni.ours() {
                let record = eni.record();
                self.journal.note(Record::Eni(record));
            }
        }
    }

    /// Whether metadata shows other contents than the ledger knows, by content and not by number (cni#3019).
    fn differs(&self, slot: Slot, seen: &ObservedEni, as_of: OpId) -> bool {
        let Some(eni) = self.ledger.eni(slot) else { return true };
        if as_of < eni.touched || eni.ec2_op.is_some() || eni.role == Role::Foreign {
            return false;
        }
        if !seen.groups.is_empty() && !same_groups(&seen.groups, &eni.groups) {
            return true;
        }
        let listed: BTreeSet<IpNetwork> = nets_of(seen).into_iter().collect();
        // What we gave back may be listed for a while; for longer, it may not have gone.
        let lags = |at: &Time| self.now.since(*at) < METADATA_DOUBT_EVERY;
        let extra = listed.difference(&eni.blocks).any(|net| !eni.lately_gone.get(net).is_some_and(lags));
        let settled = |net: &&IpNetwork| {
            self.ledger.block(**net).is_some_and(|b| self.now.since(b.since) >= METADATA_DOUBT_EVERY)
        };
        extra || eni.blocks.difference(&listed).any(|net| settled(&net))
    }
}
