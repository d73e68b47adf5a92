//! What the kernel remembers of addresses that are about to change owner.

use super::{NodeNet, Part, several};
use crate::error::{During, HostError};
use crate::netlink::uapi::{AF_INET, AF_INET6};
use crate::netlink::{conntrack, neigh};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::IpAddr;

impl NodeNet {
    /// Forgets the connections and neighbour entries of addresses whose cooling starts, and the rules that were theirs.
    ///
    /// # Errors
    /// The kernel refuses; every kind has been tried.
    pub fn flush_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), HostError> {
        let mut failures = Vec::new();
        for v6 in [false, true] {
            let of_family: BTreeSet<IpAddr> =
                addresses.iter().copied().filter(|ip| ip.is_ipv6() == v6).collect();
            if of_family.is_empty() {
                continue;
            }
            failures.extend(self.flush_connections(&of_family).err());
            failures.extend(self.flush_neighbours(&of_family, if v6 { AF_INET6 } else { AF_INET }).err());
        }
        let nets: Vec<IpNetwork> = addresses.iter().copied().map(IpNetwork::from).collect();
        failures.extend(self.forget_rules(&nets).err());
        several(failures)
    }

    fn flush_connections(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), HostError> {
        let flushed = conntrack::flush(&mut self.filter, addresses)
            .during(|| format!("forget the connections of {} addresses", addresses.len()))?;
        for address in flushed {
            self.note(Part::Leftover, format!("forgot a connection of {address}"));
        }
        Ok(())
    }

    fn flush_neighbours(&mut self, addresses: &BTreeSet<IpAddr>, family: u8) -> Result<(), HostError> {
        let entries =
            self.route.list(&neigh::list(family), neigh::parse).during(|| "list neighbours".into())?;
        for entry in entries.into_iter().filter(|n| addresses.contains(&n.address)) {
            let address = entry.address;
            match self.route.request(neigh::delete(entry.device, address)) {
                Ok(_) => self.note(Part::Leftover, format!("forgot neighbour {address}")),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error).during(|| format!("forget neighbour {address}")),
            }
        }
        Ok(())
    }
}
