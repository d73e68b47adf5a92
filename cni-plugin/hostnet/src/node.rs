//! The node's side of host networking: rules, ENIs, ruleset, link deletion. Used by the daemon.
//!
//! Every operation reads what the kernel holds, compares it with the plan and changes only what differs (but for changes of
//! sources, one small transaction each), so that a second application changes nothing and a restart is not felt by pods.
//! Pod links are never made here.

mod change;
mod drift;
mod eni;
mod flush;
mod incumbent;
mod links;
mod pods;
mod prune;
mod repair;
mod rules;
mod sources;

pub use change::{Change, Part};
pub use drift::{Noticed, Waker, Watch};
pub use incumbent::{UnmarkedLink, has_legacy_nat};
pub use links::{Doomed, PodLink, Still};
pub use repair::Repair;

use change::{Edit, Made};

use crate::diff::{self, Strangers};
use crate::error::{During, HostError};
use crate::names;
use crate::netlink::link::Link;
use crate::netlink::socket::Socket;
use crate::nft::read;
use crate::nft::transaction::{Step, commit};
use crate::numbers::{EniSlot, RP_FILTER_LOOSE};
use crate::plan::ruleset::{self, Placed};
use crate::plan::{EniConfig, NodeConfig};
use crate::sysctl;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// An ENI that has been set up, and its device.
#[derive(Debug)]
struct Ready {
    config: EniConfig,
    device: u32,
}

/// Host networking of one node. Its sockets belong to the namespace in which it was opened.
#[derive(Debug)]
pub struct NodeNet {
    route: Socket,
    filter: Socket,
    node: Option<(NodeConfig, u32)>,
    /// What names of running pods' links start with that were made under another setting.
    older_prefixes: BTreeSet<String>,
    enis: BTreeMap<EniSlot, Ready>,
    /// ENIs of which something could not be removed. Apart from the others: a repair would bring them back.
    leaving: BTreeMap<EniSlot, Ready>,
    strangers: Strangers,
    /// Links of pods that lacked something when they were last looked at, and since when.
    unwired: BTreeMap<u32, Instant>,
    made: Made,
}

impl NodeNet {
    /// Whether an ENI has been applied.
    #[must_use]
    pub fn has_enis(&self) -> bool {
        !self.enis.is_empty()
    }

    /// Opens the sockets in the calling thread's network namespace; changes nothing.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn open() -> Result<Self, HostError> {
        Ok(Self {
            route: Socket::route().during(|| "open a routing socket".into())?,
            filter: Socket::netfilter().during(|| "open a netfilter socket".into())?,
            node: None,
            older_prefixes: BTreeSet::new(),
            enis: BTreeMap::new(),
            leaving: BTreeMap::new(),
            strangers: Strangers::Keep,
            unwired: BTreeMap::new(),
            made: Made::default(),
        })
    }

    /// How many changes of the kernel have been made so far; applying what is there already adds none.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.made.count()
    }

    /// The changes made since the last call, in words.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.made.take()
    }

    fn note(&mut self, part: Part, what: String) {
        self.made.note(Change { part, what });
    }

    /// Makes the node's own part so: forwarding, the primary ENI's MTU and reverse-path filter, rules, ruleset.
    ///
    /// What belongs to ENIs that have not been named yet stays until [`Self::prune`], so that a restart of the daemon is
    /// not felt by pods.
    ///
    /// # Errors
    /// The primary device is not there, or the kernel refuses a change.
    pub fn apply_node(&mut self, node: &NodeConfig) -> Result<(), HostError> {
        check(node)?;
        self.sync_forwarding()?;
        let primary = eni::by_mac(&mut self.route, node.primary_mac)?
            .ok_or(HostError::NoDevice { mac: node.primary_mac })?;
        self.tune_device(&primary, node.eni_mtu)?;
        self.node = Some((node.clone(), primary.index));
        self.older_prefixes =
            self.pods()?.iter().filter_map(|pod| names::prefix_of(&pod.name)).map(str::to_owned).collect();
        self.older_prefixes.remove(&node.veth_prefix);
        self.sync_paths()
    }

    fn sync_forwarding(&mut self) -> Result<(), HostError> {
        if sysctl::ensure("/proc/sys/net/ipv4/ip_forward", "1")? {
            self.note(Part::Forwarding, "set ip_forward to 1".into());
        }
        Ok(())
    }

    /// Removes everything of an ENI that is being detached. An unknown ENI is no error.
    ///
    /// # Errors
    /// The kernel refuses a change; the rest has been removed, and the next call ends it.
    pub fn remove_eni(&mut self, slot: EniSlot) -> Result<(), HostError> {
        let known = self.enis.remove(&slot).or_else(|| self.leaving.remove(&slot));
        let Some(ready) = known else { return Ok(()) };
        if slot.is_primary() || self.node.is_none() {
            return Ok(());
        }
        let mut failures = Vec::new();
        failures.extend(self.remove_rules_of(slot).err());
        failures.extend(self.remove_ruleset_of(slot, &ready).err());
        failures.extend(self.remove_routes_of(slot).err());
        if !failures.is_empty() {
            self.leaving.insert(slot, ready);
        }
        several(failures)
    }

    fn ready(&mut self, slot: EniSlot) -> Result<&mut Ready, HostError> {
        self.enis.get_mut(&slot).ok_or(HostError::UnknownEni(slot))
    }

    /// Brings MTU, reverse-path filter and state of an ENI's device to what they should be.
    ///
    /// *Why loose*: a packet that arrives on a secondary ENI carries no mark, so that its way back is looked up in `main`
    /// and leads to the primary ENI (design D15).
    fn tune_device(&mut self, link: &Link, mtu: u32) -> Result<(), HostError> {
        use crate::netlink::link::{Key, set_mtu, set_rp_filter, set_up};
        let mut edits = Vec::new();
        let name = &link.name;
        if link.rp_filter != Some(RP_FILTER_LOOSE) {
            let seen = link.rp_filter.map_or_else(|| "unknown".into(), |v| v.to_string());
            let what = format!("set rp_filter of {name} from {seen} to {RP_FILTER_LOOSE}");
            edits.push(Edit::new(Part::ReversePath, what, set_rp_filter(link.index, RP_FILTER_LOOSE)));
        }
        if link.mtu != mtu {
            let what = format!("set MTU of {name} from {} to {mtu}", link.mtu);
            edits.push(Edit::new(Part::Mtu, what, set_mtu(link.index, mtu)));
        }
        if !link.up {
            edits.push(Edit::new(Part::Link, format!("set {name} up"), set_up(Key::Index(link.index))));
        }
        self.send(edits, || format!("set up device {name}"))
    }

    fn send(&mut self, edits: Vec<Edit>, action: impl FnOnce() -> String) -> Result<(), HostError> {
        let (changes, batch): (Vec<_>, Vec<_>) = edits.into_iter().map(|e| (e.change, e.message)).unzip();
        self.route.all(batch).during(action)?;
        changes.into_iter().for_each(|change| self.made.note(change));
        Ok(())
    }

    fn sync_ruleset(&mut self) -> Result<(), HostError> {
        let Some((node, primary)) = &self.node else { return Err(not_applied()) };
        let placed: Vec<Placed<'_>> =
            self.enis.values().map(|r| Placed { eni: &r.config, device: r.device }).collect();
        let wanted = ruleset::ruleset(node, &self.older_prefixes, *primary, &placed);
        let seen = read::read(&mut self.filter).during(|| "read nft table ip podwire".into())?;
        let steps = diff::ruleset(&wanted, seen.as_ref(), self.strangers);
        self.commit(&steps)
    }

    /// What an ENI that is no longer wanted left in the ruleset: its chains and everything that leads to them.
    fn remove_ruleset_of(&mut self, slot: EniSlot, ready: &Ready) -> Result<(), HostError> {
        let Some(seen) = read::read(&mut self.filter).during(|| "read nft table ip podwire".into())? else {
            return Ok(());
        };
        let Some(mark) = slot.mark() else { return Ok(()) };
        let steps = diff::without_eni(&seen, mark, ready.device);
        self.commit(&steps)
    }

    fn commit(&mut self, steps: &[Step]) -> Result<(), HostError> {
        commit(&mut self.filter, steps).during(|| "change nft table ip podwire".into())?;
        steps.iter().for_each(|step| self.note(Part::Ruleset, step.to_string()));
        Ok(())
    }
}

/// Refuses settings that the kernel would take and understand otherwise.
fn check(node: &NodeConfig) -> Result<(), HostError> {
    let prefix = &node.veth_prefix;
    if let Err(why) = names::check_prefix(prefix) {
        return Err(HostError::Setting(format!("veth prefix {prefix:?} {why}")));
    }
    if !node.external_snat && node.vpc_cidrs.is_empty() {
        return Err(HostError::Setting(
            "no VPC network is known; all pod traffic would be under SNAT".into(),
        ));
    }
    Ok(())
}

fn not_applied() -> HostError {
    HostError::Setting("the node's own part has not been applied yet".into())
}

/// No failure, the only one, or all of them.
pub(crate) fn several(mut failures: Vec<HostError>) -> Result<(), HostError> {
    match failures.len() {
        0 => Ok(()),
        1 => failures.pop().map_or(Ok(()), Err),
        _ => Err(HostError::Several(failures)),
    }
}
