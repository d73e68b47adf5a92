//! IPv6 addresses and prefixes on interfaces: assign and unassign. Each call does all that it asks for, or nothing.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv6Network};

use super::assign::refusal;
use super::ids::{EniId, SubnetId};
use super::{ApiError, Cloud, Millis, refuse};

/// What a caller wants: by name or by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted6 {
    /// These addresses.
    pub addresses: Vec<Ipv6Addr>,
    /// So many addresses.
    pub count: usize,
    /// These prefixes.
    pub prefixes: Vec<Ipv6Network>,
    /// So many prefixes.
    pub prefix_count: usize,
}

impl Wanted6 {
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
}

/// What was newly assigned, or unassigned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assigned6 {
    /// Addresses.
    pub addresses: Vec<Ipv6Addr>,
    /// Prefixes.
    pub prefixes: Vec<Ipv6Network>,
}

impl Assigned6 {
    fn nets(&self) -> Vec<IpNetwork> {
        let hosts = self.addresses.iter().map(|address| IpNetwork::from(IpAddr::V6(*address)));
        hosts.chain(self.prefixes.iter().copied().map(IpNetwork::V6)).collect()
    }
}

impl Cloud {
    /// `AssignIpv6Addresses`: answers only what is new.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn assign_ipv6_addresses(
        &mut self,
        now: Millis,
        id: &EniId,
        wanted: &Wanted6,
    ) -> Result<Assigned6, ApiError> {
        self.act(now, |cloud| {
            if wanted.slots() == 0 {
                return Err(ApiError::missing("Ipv6Addresses"));
            }
            if !wanted.addresses.is_empty() && wanted.count > 0 {
                return Err(ApiError::combination(
                    "You cannot specify both IPv6 addresses and a count of IPv6 addresses",
                ));
            }
            if !wanted.prefixes.is_empty() && wanted.prefix_count > 0 {
                return Err(ApiError::combination(
                    "You cannot specify both IPv6 prefixes and a count of IPv6 prefixes",
                ));
            }
            let eni = cloud.own(id)?;
            cloud.check_ipv6_slots(eni, wanted.slots())?;
            if wanted.has_prefixes() {
                cloud.check_prefixes_fit(eni)?;
            }
            cloud.check_address_usage(wanted.slots())?;
            let subnet = eni.subnet.clone();
            let assigned = cloud.take6(&subnet, id, wanted)?;
            let eni = cloud.eni_mut(id)?;
            eni.ipv6.extend(&assigned.addresses);
            eni.ipv6_prefixes.extend(&assigned.prefixes);
            cloud.deliver(id, assigned.nets());
            Ok(assigned)
        })
    }

    /// `UnassignIpv6Addresses`.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn unassign_ipv6_addresses(
        &mut self,
        now: Millis,
        id: &EniId,
        gone: &Assigned6,
    ) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            let eni = cloud.own(id)?;
            if gone.addresses.is_empty() && gone.prefixes.is_empty() {
                return Err(ApiError::missing("Ipv6Addresses"));
            }
            let addresses = gone.addresses.iter().filter(|address| !eni.ipv6.contains(address));
            let prefixes = gone.prefixes.iter().filter(|prefix| !eni.ipv6_prefixes.contains(prefix));
            let unknown: Vec<String> =
                addresses.map(ToString::to_string).chain(prefixes.map(ToString::to_string)).collect();
            if !unknown.is_empty() {
                return Err(refuse::not_assigned(id, &unknown));
            }
            for net in gone.nets() {
                cloud.unroute_if_plugged(id, net);
            }
            let eni = cloud.eni_mut(id)?;
            eni.ipv6.retain(|address| !gone.addresses.contains(address));
            eni.ipv6_prefixes.retain(|prefix| !gone.prefixes.contains(prefix));
            let subnet = eni.subnet.clone();
            if let Some(space) = &mut cloud.spaces_mut(&subnet)?.v6 {
                gone.addresses.iter().for_each(|address| space.give(*address, id));
                gone.prefixes.iter().for_each(|prefix| space.give_block(*prefix, id));
            }
            Ok(())
        })
    }

    /// Takes from the subnet all that is wanted, or nothing.
    pub(super) fn take6(
        &mut self,
        subnet: &SubnetId,
        eni: &EniId,
        wanted: &Wanted6,
    ) -> Result<Assigned6, ApiError> {
        if wanted.slots() == 0 {
            return Ok(Assigned6::default());
        }
        let placement = self.spec.placement;
        let mut random = self.random.clone();
        let Some(space) = &mut self.spaces_mut(subnet)?.v6 else {
            return Err(ApiError::value(format!("The subnet '{subnet}' does not have an IPv6 CIDR block")));
        };
        let mut got = Assigned6::default();
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
}
