//! What the kernel remembers of an address that is about to change owner.

use super::{NodeNet, several};
use crate::error::{During, HostError};
use crate::netlink::{conntrack, family, neigh};
use std::net::IpAddr;

impl NodeNet {
    /// Forgets the connections and neighbour entries of an address whose cooling starts.
    ///
    /// # Errors
    /// The kernel refuses; both kinds have been tried.
    pub fn flush_address(&mut self, address: IpAddr) -> Result<(), HostError> {
        let mut failures = Vec::new();
        match conntrack::flush(&mut self.filter, address) {
            Ok(count) => self.changes += u64::try_from(count).unwrap_or(u64::MAX),
            Err(error) => {
                let failed = Err::<(), _>(error).during(|| format!("forget the connections of {address}"));
                failures.extend(failed.err());
            }
        }
        failures.extend(self.flush_neighbours(address).err());
        several(failures)
    }

    fn flush_neighbours(&mut self, address: IpAddr) -> Result<(), HostError> {
        let replies = self.route.dump(&neigh::list(family(address))).during(|| "list neighbours".into())?;
        let entries = replies.iter().filter_map(|r| neigh::parse(r.kind, &r.payload));
        for entry in entries.filter(|n| n.address == address) {
            match self.route.request(neigh::delete(entry.device, address)) {
                Ok(_) => self.changes += 1,
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error).during(|| format!("forget neighbour {address}")),
            }
        }
        Ok(())
    }
}
