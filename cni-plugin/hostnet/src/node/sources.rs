//! What pods may send from, and by which ENI: remembered and in the kernel.
//!
//! *Invariant*: of the networks remembered for two ENIs none is the same and no prefix meets another; a single address of
//! one may lie in a prefix of the other, and wins. An ENI that others detached is remembered until it is removed, and EC2
//! may have given what it had to another one by then.

use super::{NodeNet, Part, Strangers};
use crate::error::{During, HostError};
use crate::netlink::link::{self, Key};
use crate::netlink::route::is_host;
use crate::nft::transaction::{Step, commit};
use crate::numbers::EniSlot;
use crate::plan::Layout;
use crate::plan::ruleset::{self, Element};
use ipnetwork::IpNetwork;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::IpAddr;

impl NodeNet {
    /// Adds addresses or prefixes that EC2 has assigned to an ENI: what pods may send from through it. Another ENI that had
    /// them has them no longer.
    ///
    /// # Errors
    /// The ENI has not been set up, its device is gone, or the kernel refuses the change.
    pub fn add_sources(&mut self, slot: EniSlot, nets: &[IpNetwork]) -> Result<(), HostError> {
        self.has_device(slot)?;
        let sources = &self.ready(slot)?.config.sources;
        let new: Vec<IpNetwork> = nets.iter().copied().filter(|n| !sources.contains(n)).collect();
        self.or_as_before(|net| {
            let met = net.take_from_others(slot, nets);
            net.ready(slot)?.config.sources.extend(&new);
            match net.strangers {
                _ if met => net.sync_paths(),
                // What lies in a prefix may lead to an ENI that has not been named; the kernel does not refuse that.
                Strangers::Keep => net.sync_ruleset(),
                Strangers::Remove => net.change_sources(slot, &new, Step::AddElements),
            }
        })?;
        // Not only of the new ones: this may be all that failed the last time.
        self.forget_rules(nets)
    }

    /// Takes addresses or prefixes of an ENI away.
    ///
    /// # Errors
    /// The ENI has not been set up, or the kernel refuses the change.
    pub fn remove_sources(&mut self, slot: EniSlot, nets: &[IpNetwork]) -> Result<(), HostError> {
        let sources = &self.ready(slot)?.config.sources;
        let gone: Vec<IpNetwork> = nets.iter().copied().filter(|n| sources.contains(n)).collect();
        self.or_as_before(|net| {
            net.ready(slot)?.config.sources.retain(|n| !gone.contains(n));
            net.change_sources(slot, &gone, Step::DeleteElements)
        })
    }

    /// *Why asked for*: EC2 may assign to an ENI that others have just detached; no pod is to get such an address.
    fn has_device(&mut self, slot: EniSlot) -> Result<(), HostError> {
        let (device, mac) = self.ready(slot).map(|ready| (ready.device, ready.config.mac))?;
        match self.route.request(link::get(Key::Index(device))) {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Err(HostError::NoDevice { mac }),
            Err(error) => Err(error).during(|| format!("find the device of ENI {slot:?}")),
        }
    }

    /// Makes a change of sources; where it fails, memory is put back as it was, so that the next try finds it still to do.
    fn or_as_before(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        let before: BTreeMap<EniSlot, Vec<IpNetwork>> =
            self.enis.iter().map(|(slot, ready)| (*slot, ready.config.sources.clone())).collect();
        let outcome = change(self);
        if outcome.is_err() {
            for (slot, sources) in before {
                self.ready(slot)?.config.sources = sources;
            }
        }
        outcome
    }

    /// Forgets of every other ENI what these networks, just named for this one, show to be its no longer. Returns whether
    /// the way of an address changes by them.
    pub(super) fn take_from_others(&mut self, slot: EniSlot, nets: &[IpNetwork]) -> bool {
        let mut met = false;
        for (_, ready) in self.enis.iter_mut().filter(|(other, _)| **other != slot) {
            ready.config.sources.retain(|old| {
                let mut meeting = nets.iter().filter(|new| meet(**new, *old)).peekable();
                met |= meeting.peek().is_some();
                !meeting.any(|new| displaces(*new, *old))
            });
        }
        met
    }

    /// The ENI that carries an address, where it has been named: the one with the narrowest network around it, as in the
    /// ruleset.
    pub(super) fn slot_of(&self, address: IpAddr) -> Option<EniSlot> {
        let narrowest =
            |nets: &[IpNetwork]| nets.iter().filter(|net| net.contains(address)).map(IpNetwork::prefix).max();
        let carriers = self.enis.iter().filter_map(|(slot, r)| Some((narrowest(&r.config.sources)?, *slot)));
        carriers.max().map(|(_, slot)| slot)
    }

    /// One small transaction; where the table is not as remembered, the whole comparison.
    fn change_sources(
        &mut self,
        slot: EniSlot,
        nets: &[IpNetwork],
        step: fn(&'static str, Vec<Element>) -> Step,
    ) -> Result<(), HostError> {
        let by_rules = self.node.as_ref().is_some_and(|(node, _)| node.layout == Layout::Compat);
        let Some(mark) = slot.mark().filter(|_| !by_rules && !slot.is_primary() && !nets.is_empty()) else {
            return Ok(());
        };
        let maps =
            ruleset::source_elements(mark, nets).into_iter().filter(|(_, elements)| !elements.is_empty());
        let steps: Vec<Step> = maps.map(|(map, elements)| step(map, elements)).collect();
        match commit(&mut self.filter, &steps) {
            Ok(()) => {
                self.note(Part::Ruleset, format!("changed the sources of ENI chain {mark}"));
                Ok(())
            }
            Err(error) if error.is_absent() || error.errno() == Some(Errno::EXIST) => self.sync_ruleset(),
            Err(error) => Err(error).during(|| format!("change the sources of ENI chain {mark}")),
        }
    }
}

/// Whether one of two networks lies within the other.
fn meet(one: IpNetwork, other: IpNetwork) -> bool {
    within(one, other) || within(other, one)
}

fn within(inner: IpNetwork, outer: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.ip())
}

/// Of two networks that meet: whether an ENI cannot have `old` any more when another one has `new`.
///
/// *Why a single address leaves the prefix around it*: it is looked up first, so that it leads the new way, and should the
/// news be wrong, one address is led astray and not sixteen. Prefixes share a map, whose ranges must not meet.
fn displaces(new: IpNetwork, old: IpNetwork) -> bool {
    within(old, new) || !is_host(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displaces_what_cannot_be_anothers() {
        let cases = [
            ("10.0.1.5/32", "10.0.1.5/32", true),
            ("10.0.1.5/32", "10.0.1.6/32", false),
            ("10.0.1.0/28", "10.0.1.5/32", true),
            ("10.0.1.0/28", "10.0.1.16/32", false),
            ("10.0.1.0/28", "10.0.1.0/28", true),
            ("10.0.1.0/28", "10.0.1.16/28", false),
            ("10.0.1.0/28", "10.0.1.0/24", true),
            ("10.0.1.0/24", "10.0.1.32/28", true),
            ("10.0.1.5/32", "10.0.1.0/28", false),
            ("fd00::/80", "10.0.1.5/32", false),
            ("fd00::/80", "fd00::5/128", true),
        ];
        let net = |text: &str| text.parse::<IpNetwork>().expect("a network");
        for (new, old, wanted) in cases {
            let taken = meet(net(new), net(old)) && displaces(net(new), net(old));
            assert_eq!(taken, wanted, "{new} against {old}");
        }
    }
}
