//! What must always hold of the pool's own bookkeeping (testing.md S12, S13, D10). The simulator asks after every step.

use std::collections::BTreeSet;
use std::fmt;

use crate::address::{Block, Counts, State};
use crate::ledger::Phase;
use crate::machine::{Growth, Pool};
use crate::ops::Op;
use crate::tuning::{REQUESTS_MAX, TOMBSTONES_MAX, WAITERS_MAX, count};

/// A broken invariant: which one, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its id in testing.md.
    pub id: &'static str,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.what)
    }
}

impl std::error::Error for Violation {}

fn broken(id: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { id, what })
}

impl Pool {
    /// Whether the bookkeeping is sound. Costs time in proportion to everything the pool holds.
    ///
    /// # Errors
    /// The first invariant found broken.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_blocks()?;
        self.check_sandboxes()?;
        self.check_limits()?;
        self.check_progress()
    }

    /// S12: every address on exactly one block, every block on exactly one ENI, counts equal a recount.
    fn check_blocks(&self) -> Result<(), Violation> {
        let mut addresses = 0usize;
        for (net, block) in self.ledger.blocks() {
            let Some(eni) = self.ledger.eni(block.slot) else {
                return broken("S12", format!("{net} is on no ENI"));
            };
            if !eni.blocks.contains(&net) {
                return broken("S12", format!("{} does not know its {net}", eni.id));
            }
            let mut recount = Block::new(block.slot, 0, block.since);
            for ip in net.iter() {
                let Some(address) = self.ledger.address(ip) else {
                    return broken("S12", format!("{ip} of {net} is missing"));
                };
                addresses += 1;
                recount.size += 1;
                match &address.state {
                    State::Free { since } => {
                        recount.free.insert((*since, ip));
                    }
                    State::Allocating { .. } | State::Allocated { .. } => recount.held += 1,
                    State::Releasing { .. } => recount.releasing += 1,
                    State::Cooling { since, .. } => {
                        recount.cooling += 1;
                        if !self.ledger.cooling_index().contains(&(*since, ip)) {
                            return broken("S12", format!("{ip} cools but is not in the index"));
                        }
                    }
                }
            }
            let same = (recount.size, recount.held, recount.releasing, recount.cooling, &recount.free)
                == (block.size, block.held, block.releasing, block.cooling, &block.free);
            if !same || block.key != block.place(net) {
                return broken("S12", format!("{net} is {block:?}, recounted {recount:?}"));
            }
        }
        if self.ledger.addresses().count() != addresses {
            return broken("S12", "addresses without a block".to_owned());
        }
        for (_, eni) in self.ledger.enis() {
            let mut sum = Counts::default();
            let mut ready = BTreeSet::new();
            for net in &eni.blocks {
                let Some(block) = self.ledger.block(*net) else {
                    return broken("S12", format!("{} claims {net}, which is unknown", eni.id));
                };
                sum.add(&block.counts());
                ready.extend(block.key);
            }
            if sum != eni.counts || ready != eni.ready {
                return broken("S12", format!("{} counts {:?}, recounted {sum:?}", eni.id, eni.counts));
            }
        }
        Ok(())
    }

    /// S1 and S12 within the ledger: a held address has one holder that knows it.
    fn check_sandboxes(&self) -> Result<(), Violation> {
        let mut seen = BTreeSet::new();
        for (key, sandbox) in self.ledger.sandboxes() {
            for ip in &sandbox.addresses {
                if !seen.insert(*ip) || self.ledger.holder(*ip) != Some(key) {
                    return broken("S1", format!("{ip} is not {}'s alone", key.container_id));
                }
                let Some(address) = self.ledger.address(*ip) else { continue };
                let fits = match (&address.state, sandbox.phase) {
                    (State::Allocating { sandbox }, Phase::Allocating(_))
                    | (State::Allocated { sandbox }, Phase::Allocated)
                    | (State::Releasing { sandbox }, Phase::Releasing(_)) => sandbox == key,
                    (
                        State::Free { .. }
                        | State::Cooling { .. }
                        | State::Allocating { .. }
                        | State::Allocated { .. }
                        | State::Releasing { .. },
                        Phase::Allocating(_) | Phase::Allocated | Phase::Releasing(_),
                    ) => false,
                };
                if !fits {
                    return broken(
                        "S12",
                        format!("{ip} is {:?}, its sandbox {:?}", address.state, sandbox.phase),
                    );
                }
            }
        }
        for (ip, address) in self.ledger.addresses() {
            if address.state.holder().is_some() && !seen.contains(&ip) {
                return broken("S12", format!("{ip} is held by a sandbox that does not know it"));
            }
        }
        Ok(())
    }

    /// S13: queues, tombstones and operations stay within their limits.
    fn check_limits(&self) -> Result<(), Violation> {
        if self.requests.waiting() > count(WAITERS_MAX) || self.requests.callers() > REQUESTS_MAX {
            return broken("S13", format!("{} sandboxes wait", self.requests.waiting()));
        }
        if self.requests.tombstone_count() > count(TOMBSTONES_MAX) {
            return broken("S13", format!("{} tombstones", self.requests.tombstone_count()));
        }
        for (_, eni) in self.ledger.enis() {
            for op in [eni.ec2_op, eni.host_op, eni.termination_op].into_iter().flatten() {
                if self.ops.get(op).is_none() {
                    return broken("S13", format!("{} waits for operation {op}, which nobody knows", eni.id));
                }
            }
        }
        // Those of ENIs that are gone meanwhile end by their answer or by patience.
        let gone = |op: &Op| op.about.slot().is_some_and(|slot| self.ledger.eni(slot).is_none());
        let alive = self.ops.iter().filter(|(_, op)| !gone(op)).count();
        let places = 3 * self.ledger.enis().count() + 5;
        if alive > places {
            return broken("S13", format!("{alive} operations for {places} places"));
        }
        Ok(())
    }

    /// D10: whoever waits sees an operation in flight, a wait with reason and end, or a full node.
    fn check_progress(&self) -> Result<(), Violation> {
        if self.requests.queued() == 0 {
            return Ok(());
        }
        match &self.growth {
            Growth::Satisfied => broken("D10", "somebody waits and growth is satisfied".to_owned()),
            Growth::Waiting(until, cause) if *until <= self.now => {
                broken("D10", format!("growth waits for the past because of {}", cause.name()))
            }
            Growth::InFlight if self.ops.iter().next().is_none() && self.next_deadline().is_none() => {
                broken("D10", "nothing is in flight and nothing is planned".to_owned())
            }
            Growth::Blind if self.next_deadline().is_none() => {
                broken("D10", "nothing was observed and nothing is planned".to_owned())
            }
            Growth::Gathering(until) if *until <= self.now => {
                broken("D10", "growth gathers a burst that is over".to_owned())
            }
            Growth::Blind
            | Growth::Gathering(_)
            | Growth::InFlight
            | Growth::Waiting(..)
            | Growth::Full
            | Growth::Halted => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
