//! The judge outside the pool: compares what the pool does with the world's truth (testing.md §4).

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_pool::{Ec2Call, EniId, HostChange, Record, Revision, SandboxKey};

use crate::ec2::{Ec2, TrueEni};
use crate::host::Host;
use crate::runtime::{Life, Runtime};

pub use told::Told;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub id: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.what)
    }
}

impl std::error::Error for Violation {}

/// A verdict against the pool.
///
/// # Errors
/// Always.
pub fn broken<T>(id: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation { id, what })
}

/// What the oracle knows beyond the world's truth.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Oracle {
    /// Addresses promised by records written so far, durable or not.
    pub promised: BTreeMap<IpAddr, SandboxKey>,
    /// The same as far as the disk has it.
    pub durable: BTreeMap<IpAddr, SandboxKey>,
    /// Addresses whose release is written in this revision, which is not durable yet.
    pub releasing: BTreeMap<IpAddr, Revision>,
    /// When the sandbox that used an address was torn down.
    pub rests: BTreeMap<IpAddr, u64>,
    /// Addresses somebody else has taken from us: what happens to them is not the pool's fault.
    pub tampered: BTreeSet<IpAddr>,
}

/// What a judgement looks at.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The time.
    pub now: u64,
    /// When the daemon's clock began to count.
    pub booted: u64,
    /// How long addresses have to rest.
    pub cooldown: u64,
    /// Whether the pool says that it had to use one early.
    pub hurried: bool,
    /// EC2's truth.
    pub ec2: &'a Ec2,
    /// The kernel's truth.
    pub host: &'a Host,
    /// The pods.
    pub runtime: &'a Runtime,
}

impl Oracle {
    /// The pool writes records: its decisions.
    ///
    /// # Errors
    /// S1, S2, S3, S4, S7 or S8.
    pub fn decided(
        &mut self,
        scene: Scene<'_>,
        revision: Revision,
        records: &[Record],
    ) -> Result<(), Violation> {
        for record in records {
            match record {
                Record::Allocated { sandbox, addresses, at, .. } => {
                    self.judge_life(scene, sandbox, at.as_ms() + scene.booted)?;
                    if self.has_noted(record) {
                        continue;
                    }
                    for ip in addresses {
                        self.judge_allocation(scene, sandbox, *ip)?;
                        self.promised.insert(*ip, sandbox.clone());
                    }
                }
                Record::Released { sandbox, addresses, .. } => {
                    for ip in addresses {
                        if self.promised.get(ip) == Some(sandbox) {
                            self.promised.remove(ip);
                            self.releasing.insert(*ip, revision);
                        }
                    }
                }
                Record::Eni(_)
                | Record::EniGone { .. }
                | Record::Assigned { .. }
                | Record::Unassigned { .. }
                | Record::Tombstone { .. }
                | Record::Intent { .. }
                | Record::Settled { .. }
                | Record::OpsUsed { .. } => {}
            }
        }
        Ok(())
    }

    /// Whether a record says again what was decided before: that a sandbox has its addresses.
    #[must_use]
    pub fn has_noted(&self, record: &Record) -> bool {
        let Record::Allocated { sandbox, addresses, .. } = record else { return false };
        addresses.iter().all(|ip| self.promised.get(ip) == Some(sandbox))
    }

    /// S8: an ADD that began before the DEL of its sandbox gets nothing.
    fn judge_life(&self, scene: Scene<'_>, sandbox: &SandboxKey, started: u64) -> Result<(), Violation> {
        let pod = scene.runtime.pods.iter().find(|p| p.key == *sandbox);
        let dead = pod.is_some_and(|p| matches!(p.life, Life::Idle | Life::Deleted) && started < p.ended);
        let past = pod.is_none();
        if dead || past {
            return broken("S8", format!("{} gets an address after its DEL", sandbox.container_id));
        }
        Ok(())
    }

    fn judge_allocation(&self, scene: Scene<'_>, sandbox: &SandboxKey, ip: IpAddr) -> Result<(), Violation> {
        if let Some(other) = self.promised.get(&ip) {
            return broken(
                "S1",
                format!("{ip} goes to {} while {} holds it", sandbox.container_id, other.container_id),
            );
        }
        if let Some(live) = scene.runtime.pods.iter().find(|p| p.life == Life::Live(ip)) {
            return broken(
                "S1",
                format!("{ip} goes to {} while {} lives", sandbox.container_id, live.key.container_id),
            );
        }
        if let Some(revision) = self.releasing.get(&ip) {
            return broken("S7", format!("{ip} is used again before its release ({revision}) is on disk"));
        }
        if let Some(since) = self.rests.get(&ip) {
            let rested = scene.now.saturating_sub(*since);
            if rested < scene.cooldown && !(scene.hurried && rested >= 5_000) {
                return broken("S4", format!("{ip} is used again after {rested} ms"));
            }
        }
        self.judge_usable(scene, ip)
    }

    /// S2, S3: the address works.
    ///
    /// # Errors
    /// S2 or S3.
    pub fn judge_usable(&self, scene: Scene<'_>, ip: IpAddr) -> Result<(), Violation> {
        if self.tampered.contains(&ip) {
            return Ok(());
        }
        if scene.ec2.enis.values().any(|e| e.seen.primary == ip) {
            return broken("S3", format!("{ip} is an ENI's own address"));
        }
        let Some(eni) = scene.ec2.carrier(ip) else {
            return broken("S2", format!("{ip} is on no ENI attached here"));
        };
        if !eni.ours && !scene.ec2.lends(eni) {
            return broken("S3", format!("{ip} of {} is not ours to give", eni.seen.id));
        }
        let device = eni.seen.place.as_ref().map(|(_, d)| *d);
        if !device.is_some_and(|d| scene.host.sends(ip, d)) {
            return broken("S2", format!("the host does not send {ip} out by {}", eni.seen.id));
        }
        Ok(())
    }

    /// The disk has everything up to this revision.
    pub fn synced(&mut self, revision: Revision, records: &[Record], booted: u64) {
        self.releasing.retain(|_, rev| *rev > revision);
        for record in records {
            // Also one that was never shown to its pod: once its release is a fact, it rests.
            if let Record::Released { addresses, started, .. } = record {
                for ip in addresses {
                    let rests = self.rests.entry(*ip).or_default();
                    *rests = started.as_ms().saturating_add(booted).max(*rests);
                }
            }
        }
        replay(&mut self.durable, records);
    }

    /// The daemon died: what was not on disk was never promised.
    pub fn crashed(&mut self, durable: &[Record]) {
        let mut promised = BTreeMap::new();
        replay(&mut promised, durable);
        self.durable.clone_from(&promised);
        self.promised = promised;
        self.releasing.clear();
    }

    /// The pool asks EC2 for something, or EC2 does it.
    ///
    /// # Errors
    /// S5, S7 or S11.
    pub fn judge_call(&self, scene: Scene<'_>, call: &Ec2Call) -> Result<(), Violation> {
        let (eni, nets) = match call {
            Ec2Call::Unassign { eni, nets } => (eni, Some(nets)),
            Ec2Call::Detach { eni, .. } | Ec2Call::Delete { eni } => (eni, None),
            Ec2Call::Assign { eni, .. }
            | Ec2Call::Attach { eni, .. }
            | Ec2Call::SetGroups { eni, .. }
            | Ec2Call::Tag { eni }
            | Ec2Call::DeleteOnTermination { eni, .. } => {
                return self.judge_owner(scene, eni, call);
            }
            Ec2Call::Create { .. }
            | Ec2Call::Describe { .. }
            | Ec2Call::DescribeSubnets { .. }
            | Ec2Call::FindDetached
            | Ec2Call::DescribeInstances { .. } => return Ok(()),
        };
        self.judge_owner(scene, eni, call)?;
        let Some(truth) = scene.ec2.enis.get(eni) else { return Ok(()) };
        self.judge_removal(scene, truth, nets.map(Vec::as_slice))
    }

    fn judge_owner(&self, scene: Scene<'_>, eni: &EniId, call: &Ec2Call) -> Result<(), Violation> {
        let leak = |e: &TrueEni| scene.ec2.is_leak(e) && matches!(call, Ec2Call::Delete { .. });
        let tags = matches!(call, Ec2Call::Tag { .. });
        let lent = |e: &TrueEni| tags && scene.ec2.lends(e);
        if scene.ec2.enis.get(eni).is_some_and(|e| !e.ours && !leak(e) && !lent(e)) {
            return broken("S11", format!("{call:?} touches an ENI that is not ours"));
        }
        Ok(())
    }

    fn judge_removal(
        &self,
        scene: Scene<'_>,
        eni: &TrueEni,
        nets: Option<&[IpNetwork]>,
    ) -> Result<(), Violation> {
        let concerned = |ip: IpAddr| {
            !self.tampered.contains(&ip)
                && match nets {
                    Some(nets) => nets.iter().any(|n| n.contains(ip)) && eni.carries(ip),
                    None => eni.carries(ip) && eni.seen.place.is_some(),
                }
        };
        if let Some((ip, key)) = self.promised.iter().find(|(ip, _)| concerned(**ip)) {
            return broken(
                "S5",
                format!("{ip} is taken from {} while {} holds it", eni.seen.id, key.container_id),
            );
        }
        if let Some((ip, rev)) = self.releasing.iter().find(|(ip, _)| concerned(**ip)) {
            return broken(
                "S7",
                format!("{ip} is taken from {} before its release ({rev}) is on disk", eni.seen.id),
            );
        }
        let live = scene.runtime.pods.iter().find_map(|p| match p.life {
            Life::Live(ip) if concerned(ip) => Some((ip, p)),
            Life::Idle
            | Life::Adding(_)
            | Life::Live(_)
            | Life::Failed
            | Life::Deleting(_)
            | Life::Deleted => None,
        });
        if let Some((ip, pod)) = live {
            return broken(
                "S5",
                format!("{ip} is taken from {} while {} lives", eni.seen.id, pod.key.container_id),
            );
        }
        let cooling =
            self.rests.iter().find(|(ip, since)| concerned(**ip) && scene.now < **since + scene.cooldown);
        if let Some((ip, _)) = cooling {
            return broken("S5", format!("{ip} is taken from {} while it cools", eni.seen.id));
        }
        Ok(())
    }

    /// The pool asks the host for something.
    ///
    /// # Errors
    /// S5 or S7.
    pub fn judge_change(&self, scene: Scene<'_>, change: &HostChange) -> Result<(), Violation> {
        match change {
            HostChange::RemoveSources { nets, device, .. } => {
                let hit = self.promised.keys().find(|ip| nets.iter().any(|n| n.contains(**ip)));
                if let Some(ip) = hit
                    && scene
                        .ec2
                        .carrier(*ip)
                        .is_some_and(|e| e.seen.place.as_ref().is_some_and(|(_, d)| d == device))
                {
                    return broken("S5", format!("the host forgets {ip}, which is held"));
                }
                Ok(())
            }
            HostChange::RemoveEni { eni, .. } => {
                let Some(truth) = scene.ec2.enis.get(eni) else { return Ok(()) };
                self.judge_removal(scene, truth, None)
            }
            HostChange::Flush { address } => match self.releasing.get(address) {
                Some(rev) => {
                    broken("S7", format!("{address} is flushed before its release ({rev}) is on disk"))
                }
                None => Ok(()),
            },
            HostChange::ConfigureEni { .. } | HostChange::AddSources { .. } => Ok(()),
        }
    }

    /// S2: whoever lives, lives on an address that works.
    ///
    /// # Errors
    /// S1 or S2.
    pub fn judge_living(&self, scene: Scene<'_>) -> Result<(), Violation> {
        let mut seen: BTreeMap<IpAddr, &SandboxKey> = BTreeMap::new();
        for pod in &scene.runtime.pods {
            let Life::Live(ip) = pod.life else { continue };
            if let Some(other) = seen.insert(ip, &pod.key) {
                return broken(
                    "S1",
                    format!("{ip} is held by {} and {}", pod.key.container_id, other.container_id),
                );
            }
            self.judge_usable(scene, ip)?;
        }
        Ok(())
    }
}

fn replay(held: &mut BTreeMap<IpAddr, SandboxKey>, records: &[Record]) {
    for record in records {
        match record {
            Record::Allocated { sandbox, addresses, .. } => {
                held.extend(addresses.iter().map(|ip| (*ip, sandbox.clone())));
            }
            Record::Released { sandbox, addresses, .. } => {
                for ip in addresses {
                    if held.get(ip) == Some(sandbox) {
                        held.remove(ip);
                    }
                }
            }
            Record::Eni(_)
            | Record::EniGone { .. }
            | Record::Assigned { .. }
            | Record::Unassigned { .. }
            | Record::Tombstone { .. }
            | Record::Intent { .. }
            | Record::Settled { .. }
            | Record::OpsUsed { .. } => {}
        }
    }
}
