//! What must have come right once faults have stopped (testing.md L1 to L5).

use podwire_pool::AddressState;
use podwire_pool::settings::LeakPolicy;

use super::Engine;
use crate::ec2::TrueEni;
use crate::oracle::{Violation, broken};
use crate::runtime::{Ask, Life, Pod};
use crate::world::{Action, World};

impl Engine {
    /// L1: whatever was learned from faults, as many pods as the node can hold get an address.
    pub(super) fn fill(&mut self) -> Result<(), Violation> {
        let tampered = &self.world.oracle.tampered;
        let victim = |p: &Pod| matches!(p.life, Life::Live(ip) if tampered.contains(&ip));
        if self.world.runtime.pods.iter().any(victim) {
            // Others took from us what pods live on; how many fit besides is not ours to promise.
            return Ok(());
        }
        let room = self.world.room();
        let live = |w: &World| w.runtime.pods.iter().filter(|p| matches!(p.life, Life::Live(_))).count();
        let more = room.saturating_sub(live(&self.world));
        let idle: Vec<usize> = (0..self.world.runtime.pods.len())
            .filter(|n| self.world.runtime.pods[*n].life == Life::Idle)
            .take(more)
            .collect();
        let wanted = live(&self.world) + idle.len();
        for pod in idle {
            self.act(Action::Start(pod, false))?;
        }
        self.until(70_000)?;
        if live(&self.world) < wanted {
            let stats = self.world.pool.stats();
            return broken("L1", format!("{} of {wanted} pods live: {stats:?}", live(&self.world)));
        }
        Ok(())
    }

    /// L1 to L4: nobody waits, nothing is half done, everything made is in the ledger.
    pub(super) fn judge_calm(&self) -> Result<(), Violation> {
        let world = &self.world;
        if let Some((_, m)) = world.runtime.messages.iter().find(|(_, m)| !m.dead) {
            let id = if m.ask == Ask::Add { "L2" } else { "L3" };
            return broken(id, format!("{:?} of {} has no answer", m.ask, m.key.container_id));
        }
        let stats = world.pool.stats();
        if stats.waiting > 0 {
            return broken("L1", format!("somebody waits: {stats:?}"));
        }
        let rows = world.pool.rows();
        let known = |id: &podwire_pool::EniId| rows.iter().any(|r| r.eni == *id);
        for (id, eni) in &world.ec2.enis {
            let mut mine = rows.iter().filter(|r| r.eni == *id && r.state == AddressState::Allocated);
            if mine.any(|r| world.oracle.tampered.contains(&r.address)) {
                // Detached by others with pods on it: kept, and out of use, until they are gone.
                continue;
            }
            if world.ec2.is_leak(eni) && world.settings.leaks == LeakPolicy::Delete {
                return broken("L4", format!("{id} was left behind by a dead node and still exists"));
            }
            if eni.ours && !world.settings.primary_excluded && !same_groups(world, eni) {
                return broken(
                    "L7",
                    format!("{id} has not the primary ENI's security groups: {:?}", eni.seen.groups),
                );
            }
            if eni.ours && eni.seen.place.is_none() {
                return broken("L4", format!("{id} exists and is not attached"));
            }
            let first = eni.seen.place.as_ref().is_some_and(|(_, d)| d.0 == 0);
            if eni.ours && !first && !eni.seen.goes_with_instance {
                return broken("L4", format!("{id} would outlive the instance"));
            }
            let excluded_subnet = world.kept_out(&eni.seen.subnet);
            let pods = eni.seen.singles.len() + eni.seen.prefixes.len();
            let excluded = world.settings.primary_excluded;
            let moved = eni.seen.singles.iter().any(|ip| world.oracle.tampered.contains(ip));
            if eni.ours && pods > 0 && !known(id) && !excluded && !moved && !excluded_subnet {
                return broken("L4", format!("{id} is not in the ledger"));
            }
        }
        Ok(())
    }

    /// L3, L5: everything unused went back, and stays so.
    pub(super) fn judge_rest(&self, changes: u64) -> Result<(), Violation> {
        let world = &self.world;
        let stats = world.pool.stats();
        if stats.cooling + stats.releasing + stats.allocated > 0 {
            let rows = world.pool.rows();
            let held = rows.iter().find_map(|r| Some((r.address, r.sandbox.clone()?.container_id)));
            return broken("L3", format!("all pods are gone, but {held:?} of {stats:?}"));
        }
        let busy = world.tally.changes - changes;
        if busy > 0 {
            return broken("L5", format!("{busy} changes of EC2 without any change of demand"));
        }
        let addresses: usize = world
            .ec2
            .enis
            .values()
            .filter(|e| e.ours)
            .map(|e| e.seen.singles.len() + e.seen.prefixes.len())
            .sum();
        let targets = !matches!(world.settings.warm, podwire_pool::settings::Warm::DemandDriven);
        if !targets && addresses > 2 {
            let rows: Vec<_> = world.pool.rows().into_iter().map(|r| (r.address, r.eni, r.state)).collect();
            return broken("L5", format!("{addresses} blocks are held for nobody: {rows:?} {stats:?}"));
        }
        Ok(())
    }
}

/// Whether an ENI has the security groups of the primary one.
fn same_groups(world: &World, eni: &TrueEni) -> bool {
    let first = |e: &&TrueEni| e.seen.place.as_ref().is_some_and(|(_, device)| device.0 == 0);
    world.ec2.enis.values().find(first).is_none_or(|primary| primary.seen.groups == eni.seen.groups)
}
