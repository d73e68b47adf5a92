//! What EC2 says it gave us: sound blocks enter the pool, the rest is named and left alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::address::{BlockState, State};
use crate::cause::Cause;
use crate::effect::Effect;
use crate::eni::{Eni, Slot};
use crate::ids::SandboxKey;
use crate::input::ObservedEni;
use crate::ledger::is_sound;
use crate::machine::Pool;
use crate::planted::Bug;
use crate::record::Record;
use crate::time::Time;
use crate::tuning::{DESCRIBE_LAG, PREFIX_LEN, PREFIX_SIZE};

impl Pool {
    /// EC2 granted: what is sound enters the pool, the rest is named and left alone.
    pub(crate) fn assigned(&mut self, now: Time, slot: Slot, nets: &[IpNetwork], out: &mut Vec<Effect>) {
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        eni.retry.clear();
        let subnet = eni.subnet.clone();
        let memory = self.gates.subnet(&subnet);
        memory.exhausted.clear();
        memory.at_most = None;
        self.failure = None;
        for net in nets {
            // What was missing and is granted again is here.
            self.ledger.change_block(*net, |b| b.suspect = b.suspect.filter(|_| b.slot != slot));
            self.adopt(now, slot, *net, &State::Free { since: now }, out);
        }
        self.settle_doubts(slot);
        if self.planted(Bug::GivesPrimary)
            && let Some(eni) = self.ledger.eni(slot)
        {
            let own = IpNetwork::from(eni.primary);
            self.ledger.add_block(slot, own, &State::Free { since: now }, now);
        }
    }

    /// Enters a block that EC2 says is on this ENI.
    pub(crate) fn adopt(
        &mut self,
        now: Time,
        slot: Slot,
        net: IpNetwork,
        state: &State,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(eni) = self.ledger.eni(slot) else { return false };
        if self.ledger.block(net).is_some_and(|b| b.slot == slot) {
            return true;
        }
        if let Some(what) = self.unsound(eni, net) {
            self.contradict(now, net);
            self.complain(Cause::Quarantined { what: what.into() }, out);
            return false;
        }
        let id = eni.id.clone();
        self.ledger.add_block(slot, net, state, now);
        if self.planted(Bug::HostNotAwaited) {
            self.ledger.set_block(net, BlockState::Ready);
        }
        self.journal.note(Record::Assigned { eni: id, net, at: now });
        self.note_rest(now, net);
        true
    }

    /// What is adopted as resting has to rest after a crash as well; so has what is being released right now, because its
    /// release stands before the block in the ledger and says nothing of an address that was on none.
    fn note_rest(&mut self, now: Time, net: IpNetwork) {
        let mut resting: Vec<IpAddr> = Vec::new();
        let mut since = Time::default();
        for ip in net.iter() {
            let at = match self.ledger.address(ip).map(|a| &a.state) {
                Some(State::Cooling { since, .. }) => *since,
                Some(State::Releasing { .. }) => now,
                Some(State::Free { .. } | State::Allocating { .. } | State::Allocated { .. }) | None => {
                    continue;
                }
            };
            resting.push(ip);
            since = since.max(at);
        }
        if !resting.is_empty() {
            let (sandbox, started) = (SandboxKey::new("", ""), Time::default());
            self.journal.note(Record::Released { sandbox, addresses: resting, started, at: since });
        }
    }

    /// What is known elsewhere is doubtful as well: nothing of it is handed out until a Describe lists it once only.
    fn contradict(&mut self, now: Time, net: IpNetwork) {
        for other in self.ledger.overlapping(net) {
            let trusted = self.ledger.block(other).filter(|b| b.suspect.is_none());
            let Some(slot) = trusted.map(|b| b.slot) else { continue };
            self.ledger.change_block(other, |b| b.suspect = Some(now));
            self.note_doubt(now, slot);
            self.describing.want(now.after(DESCRIBE_LAG));
        }
    }

    /// Why a block cannot be what it claims to be.
    fn unsound(&self, eni: &Eni, net: IpNetwork) -> Option<String> {
        let odd = !is_sound(net);
        if odd {
            return Some(format!("{net} on {}, neither an address nor a /28", eni.id));
        }
        if eni.subnet_cidr.is_some_and(|cidr| !cidr.contains(net.ip())) {
            return Some(format!("{net} on {}, outside its subnet", eni.id));
        }
        if self.ledger.enis().any(|(_, e)| net.contains(e.primary)) {
            return Some(format!("{net} on {}, which holds an ENI's own address", eni.id));
        }
        let other = self.ledger.overlapping(net).pop_first()?;
        Some(format!("{net} on {}, which overlaps {other} known elsewhere", eni.id))
    }
}

/// How many addresses a block has.
pub(crate) fn size_of(net: &IpNetwork) -> u32 {
    if net.prefix() == PREFIX_LEN { PREFIX_SIZE } else { 1 }
}

/// Everything an observed ENI carries for pods: addresses as /32 or /128, and prefixes.
pub(crate) fn nets_of(seen: &ObservedEni) -> Vec<IpNetwork> {
    let singles = seen.addresses.iter().map(|ip| IpNetwork::from(*ip));
    singles.chain(seen.prefixes.iter().copied()).collect()
}

/// What is listed on two ENIs, be it as an address here and in a prefix there.
pub(crate) fn listed_twice(enis: &[ObservedEni]) -> BTreeSet<IpNetwork> {
    let of_eni = |(n, seen)| nets_of(seen).into_iter().filter(|net| is_sound(*net)).map(move |net| (net, n));
    let mut all: Vec<(IpNetwork, usize)> = enis.iter().enumerate().flat_map(of_eni).collect();
    // A prefix comes before what it contains.
    all.sort_unstable_by_key(|(net, n)| (net.ip(), net.prefix(), *n));
    let mut twice = BTreeSet::new();
    let mut widest: Option<(IpNetwork, usize)> = None;
    for (net, n) in all {
        match widest {
            Some((wide, of)) if wide.contains(net.ip()) => {
                if of != n {
                    twice.extend([wide, net]);
                }
            }
            Some(_) | None => widest = Some((net, n)),
        }
    }
    twice
}
