//! IPv4 addresses and prefixes on interfaces: assign and unassign. Each call does all that it asks for, or nothing.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::agenda::Event;
use super::ids::{EniId, SubnetId};
use super::space::Taken;
use super::{ApiError, Cloud, Millis, refuse};

/// What a caller wants: by name or by number. EC2 takes one of the four at a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// These addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// So many addresses.
    pub count: usize,
    /// These prefixes.
    pub prefixes: Vec<Ipv4Network>,
    /// So many prefixes.
    pub prefix_count: usize,
}

impl Wanted {
    /// Slots that this takes.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.addresses.len() + self.count + self.prefixes.len() + self.prefix_count
    }

    /// Whether prefixes are among it.
    #[must_use]
    pub fn has_prefixes(&self) -> bool {
        !self.prefixes.is_empty() || self.prefix_count > 0
    }

    fn ways(&self) -> usize {
        [!self.addresses.is_empty(), self.count > 0, !self.prefixes.is_empty(), self.prefix_count > 0]
            .into_iter()
            .filter(|asked| *asked)
            .count()
    }
}

/// What was newly assigned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assigned {
    /// Addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Prefixes.
    pub prefixes: Vec<Ipv4Network>,
}

impl Assigned {
    fn nets(&self) -> impl Iterator<Item = IpNetwork> {
        let hosts = self.addresses.iter().map(|address| IpNetwork::from(IpAddr::V4(*address)));
        hosts.chain(self.prefixes.iter().copied().map(IpNetwork::V4))
    }
}

impl Cloud {
    /// `AssignPrivateIpAddresses`: answers only what is new.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn assign_private_ip_addresses(
        &mut self,
        now: Millis,
        id: &EniId,
        wanted: &Wanted,
        allow_reassignment: bool,
    ) -> Result<Assigned, ApiError> {
        self.act(now, |cloud| {
            if wanted.slots() == 0 {
                return Err(ApiError::missing("SecondaryPrivateIpAddressCount or PrivateIpAddresses"));
            }
            if wanted.ways() > 1 {
                return Err(ApiError::combination(
                    "You can specify only one of: private IP addresses, a count of private IP addresses, IPv4 \
                     prefixes, a count of IPv4 prefixes",
                ));
            }
            let subnet = cloud.own(id)?.subnet.clone();
            let moved = cloud.movable(id, &subnet, &wanted.addresses, allow_reassignment)?;
            let already: Vec<Ipv4Addr> = moved.iter().filter(|(_, from)| from == id).map(|(at, _)| *at).collect();
            let more = wanted.slots() - already.len();
            let eni = cloud.eni(id)?;
            cloud.check_ipv4_slots(eni, more)?;
            if wanted.has_prefixes() {
                cloud.check_prefixes_fit(eni)?;
            }
            cloud.check_address_usage(more)?;
            for (address, from) in moved.iter().filter(|(_, from)| from != id) {
                cloud.remove_addresses(from, &[*address], &[]);
            }
            let mut fresh = wanted.clone();
            fresh.addresses.retain(|address| !already.contains(address));
            let mut assigned = cloud.take(&subnet, id, &fresh)?;
            let eni = cloud.eni_mut(id)?;
            eni.secondaries.extend(&assigned.addresses);
            eni.prefixes.extend(&assigned.prefixes);
            cloud.deliver(id, assigned.nets().collect());
            assigned.addresses.splice(0..0, already);
            Ok(assigned)
        })
    }

    /// `UnassignPrivateIpAddresses`.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn unassign_private_ip_addresses(
        &mut self,
        now: Millis,
        id: &EniId,
        addresses: &[Ipv4Addr],
        prefixes: &[Ipv4Network],
    ) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            let eni = cloud.own(id)?;
            if addresses.is_empty() && prefixes.is_empty() {
                return Err(ApiError::missing("PrivateIpAddresses"));
            }
            if !addresses.is_empty() && !prefixes.is_empty() {
                return Err(ApiError::combination(
                    "You can specify either private IP addresses or IPv4 prefixes",
                ));
            }
            if addresses.contains(&eni.primary) {
                return Err(ApiError::value(format!(
                    "Cannot unassign the primary IP address {} of interface {id}",
                    eni.primary
                )));
            }
            let foreign = addresses.iter().filter(|address| !eni.secondaries.contains(address));
            let foreign_nets = prefixes.iter().filter(|prefix| !eni.prefixes.contains(prefix));
            let unknown: Vec<String> =
                foreign.map(ToString::to_string).chain(foreign_nets.map(ToString::to_string)).collect();
            if !unknown.is_empty() {
                return Err(refuse::not_assigned(id, &unknown));
            }
            cloud.remove_addresses(id, addresses, prefixes);
            Ok(())
        })
    }

    /// Takes from the subnet all that is wanted, or nothing.
    pub(super) fn take(
        &mut self,
        subnet: &SubnetId,
        eni: &EniId,
        wanted: &Wanted,
    ) -> Result<Assigned, ApiError> {
        let placement = self.spec.placement;
        let mut random = self.random.clone();
        let space = &mut self.spaces_mut(subnet)?.v4;
        let mut got = Assigned::default();
        let mut attempt = || -> Result<(), ApiError> {
            for address in &wanted.addresses {
                space.take(*address, eni).map_err(|taken| refusal(&taken, address))?;
                got.addresses.push(*address);
            }
            for prefix in &wanted.prefixes {
                space.take_block(*prefix, eni).map_err(|taken| refusal(&taken, prefix))?;
                got.prefixes.push(*prefix);
            }
            let blocks = space.take_blocks(wanted.prefix_count, placement, &mut random, eni);
            got.prefixes.extend(blocks.ok_or_else(refuse::no_blocks)?);
            let singles = space.take_any(wanted.count, placement, &mut random, eni);
            got.addresses.extend(singles.ok_or_else(refuse::no_addresses)?);
            Ok(())
        };
        let outcome = attempt();
        if outcome.is_err() {
            got.addresses.iter().for_each(|address| space.give(*address, eni));
            got.prefixes.iter().for_each(|prefix| space.give_block(*prefix, eni));
        }
        self.random = random;
        outcome.map(|()| got)
    }

    /// Has the wires deliver this to the interface once the set delay is over.
    pub(super) fn deliver(&mut self, id: &EniId, nets: Vec<IpNetwork>) {
        if self.enis.get(id).is_none_or(|eni| !eni.plugged()) {
            return;
        }
        for net in nets {
            if self.spec.timings.route == super::Delay::NONE {
                self.route(id, net);
            } else {
                self.plan(self.spec.timings.route, Event::Routed(id.clone(), net));
            }
        }
    }

    /// Takes these from the interface and gives them back to its subnet.
    fn remove_addresses(&mut self, id: &EniId, addresses: &[Ipv4Addr], prefixes: &[Ipv4Network]) {
        let hosts = addresses.iter().map(|address| IpNetwork::from(IpAddr::V4(*address)));
        for net in hosts.chain(prefixes.iter().copied().map(IpNetwork::V4)).collect::<Vec<_>>() {
            self.unroute_if_plugged(id, net);
        }
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.secondaries.retain(|address| !addresses.contains(address));
        eni.prefixes.retain(|prefix| !prefixes.contains(prefix));
        let Some(spaces) = self.spaces.get_mut(&eni.subnet) else { return };
        addresses.iter().for_each(|address| spaces.v4.give(*address, id));
        prefixes.iter().for_each(|prefix| spaces.v4.give_block(*prefix, id));
    }

    /// Which of the named addresses are held as secondary ones already, and by whom; they may move if that is allowed.
    fn movable(
        &self,
        to: &EniId,
        subnet: &SubnetId,
        addresses: &[Ipv4Addr],
        allowed: bool,
    ) -> Result<Vec<(Ipv4Addr, EniId)>, ApiError> {
        let space = &self.spaces.get(subnet).ok_or_else(|| refuse::no_subnet(subnet))?.v4;
        let mut moved = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            if addresses[..at].contains(address) {
                return Err(ApiError::value(format!("The address {address} is there more than once")));
            }
            match space.check(*address) {
                Ok(()) => {}
                Err(Taken::Held(holder)) => {
                    let secondary =
                        self.enis.get(&holder).is_some_and(|eni| eni.secondaries.contains(address));
                    if !(allowed && secondary) {
                        return Err(held(&holder, address, to));
                    }
                    moved.push((*address, holder));
                }
                Err(taken @ (Taken::Outside | Taken::Reserved | Taken::NotABlock)) => {
                    return Err(refusal(&taken, address));
                }
            }
        }
        Ok(moved)
    }
}

fn held(holder: &EniId, address: &Ipv4Addr, to: &EniId) -> ApiError {
    if holder == to {
        return ApiError::value(format!("Some of [{address}] are already assigned to interface {to}"));
    }
    ApiError::new("InvalidIPAddress.InUse", format!("Address {address} is in use."))
}

pub(super) fn refusal(taken: &Taken, what: &impl std::fmt::Display) -> ApiError {
    match taken {
        Taken::Outside => refuse::outside(what),
        Taken::Reserved => refuse::reserved(what),
        Taken::Held(_) => ApiError::new("InvalidIPAddress.InUse", format!("Address {what} is in use.")),
        Taken::NotABlock => ApiError::value(format!(
            "The prefix {what} is not valid: IPv4 prefixes are /28 and IPv6 prefixes /80, on their own boundary"
        )),
    }
}

#[cfg(test)]
mod tests;
