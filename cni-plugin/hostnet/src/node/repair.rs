//! Putting right what drifted.

use super::eni::{all_links, among};
use super::{NodeNet, Part, Ready};
use crate::error::HostError;
use crate::names::Attachment;
use crate::netlink::link::Link;
use crate::node::Change;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repair {
    /// What was changed.
    pub made: Vec<Change>,
    /// What could not be put right, and in which part to look for it again.
    pub failures: Vec<(Part, HostError)>,
    /// When to look at routes to pods again: a pod lacks something, and may only just be being wired.
    pub again_at: Option<Instant>,
}

impl Repair {
    /// The parts in which something was changed.
    #[must_use]
    pub fn parts(&self) -> BTreeSet<Part> {
        self.made.iter().map(|change| change.part).collect()
    }

    fn note(&mut self, part: Part, outcome: Result<(), HostError>) {
        self.failures.extend(outcome.err().map(|error| (part, error)));
    }
}

/// Parts that are looked at together, device by device.
const OF_DEVICES: [Part; 6] =
    [Part::Link, Part::Mtu, Part::ReversePath, Part::Forwarding, Part::Address, Part::Route];

impl NodeNet {
    /// Compares these parts of what has been applied with the kernel and puts right what differs. Pod links are never made
    /// here, and never brought back; `held` tells the addresses of a running pod, none for one that is not known.
    ///
    /// Failures, such as an ENI whose device is gone, do not keep the rest from being put right.
    pub fn repair(
        &mut self,
        parts: &BTreeSet<Part>,
        held: &mut dyn FnMut(&Attachment) -> Vec<IpAddr>,
    ) -> Repair {
        // What was noted before is no repair.
        self.take_changes();
        let mut repair = Repair::default();
        if self.node.is_none() {
            return repair;
        }
        let of_devices = OF_DEVICES.iter().any(|part| parts.contains(part));
        let moved = of_devices && self.repair_devices(&mut repair);
        if moved || parts.contains(&Part::Ruleset) {
            repair.note(Part::Ruleset, self.sync_ruleset());
        }
        let mut of_pods = false;
        if parts.contains(&Part::PodRoute) {
            let before = self.made.count();
            let outcome = self.repair_pod_routes(held, &mut repair.again_at);
            repair.note(Part::PodRoute, outcome);
            of_pods = self.made.count() > before;
        }
        // Last: in layout compat a pod has its rules while its addresses are routed to it.
        if of_pods || parts.contains(&Part::Rule) {
            repair.note(Part::Rule, self.sync_rules());
        }
        repair.made = self.take_changes();
        repair
    }

    /// Returns whether a device came back under another index, which the ruleset names.
    fn repair_devices(&mut self, repair: &mut Repair) -> bool {
        repair.note(Part::Forwarding, self.sync_forwarding());
        let links = match all_links(&mut self.route) {
            Ok(links) => links,
            Err(error) => {
                repair.failures.push((Part::Link, error));
                return false;
            }
        };
        let mut moved = false;
        if let Some((node, device)) = self.node.clone() {
            match among(&links, node.primary_mac) {
                Some(link) => {
                    moved |= device != link.index;
                    let tuned = self.tune_device(link, node.eni_mtu);
                    repair.note(Part::Link, tuned);
                    self.node = Some((node, link.index));
                }
                None => repair.failures.push((Part::Link, HostError::NoDevice { mac: node.primary_mac })),
            }
        }
        for (slot, ready) in std::mem::take(&mut self.enis) {
            let (ready, changed) = self.repair_eni(ready, &links, repair);
            moved |= changed;
            self.enis.insert(slot, ready);
        }
        moved
    }

    fn repair_eni(&mut self, mut ready: Ready, links: &[Link], repair: &mut Repair) -> (Ready, bool) {
        let Some(link) = among(links, ready.config.mac) else {
            repair.failures.push((Part::Link, HostError::NoDevice { mac: ready.config.mac }));
            return (ready, false);
        };
        let synced = self.sync_device(&ready.config, link);
        repair.note(Part::Link, synced);
        let moved = std::mem::replace(&mut ready.device, link.index) != link.index;
        (ready, moved)
    }
}
