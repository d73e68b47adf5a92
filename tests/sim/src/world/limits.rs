//! What the node can hold, and whether the pool keeps to what it knows of that (S9).

use std::collections::BTreeSet;
use std::net::IpAddr;

use podwire_pool::settings::Mode;
use podwire_pool::{AddressState, Ec2Call, EniId, GrowBy, NetworkCard};

use super::World;
use crate::ec2::TrueEni;
use crate::oracle::{Violation, broken};

impl World {
    /// S9: by what the pool itself knows, nothing beyond the instance's limits is asked for.
    pub(super) fn judge_limits(&self, call: &Ec2Call) -> Result<(), Violation> {
        let limits = self.settings.limits;
        match call {
            Ec2Call::Assign { eni, by } => {
                let GrowBy::Addresses(n) = by else { return Ok(()) };
                let rows = self.pool.rows();
                let places = rows.iter().filter(|r| r.eni == *eni).map(|r| self.ec2.place_of(r.address));
                let known = places.collect::<BTreeSet<_>>().len();
                let room = usize::try_from(limits.ipv4_per_eni).unwrap_or(0).saturating_sub(1);
                let whole = self.settings.mode == Mode::SecondaryIp;
                if whole && known + usize::try_from(*n).unwrap_or(0) > room {
                    return broken("S9", format!("{n} more for {eni}, which has {known} of {room}"));
                }
                Ok(())
            }
            Ec2Call::Attach { eni, .. } => {
                let rows = self.pool.rows();
                let usable = [AddressState::Free, AddressState::Allocated];
                let stays = |id: &EniId| rows.iter().any(|r| r.eni == *id && usable.contains(&r.state));
                let here = self.ec2.enis.values().filter(|e| e.seen.place.is_some());
                let others = here.filter(|e| e.ours && e.seen.id != *eni && stays(&e.seen.id));
                let most = usize::try_from(limits.enis).unwrap_or(usize::MAX);
                if others.count() >= most {
                    return broken("S9", format!("{eni} is to be attached beside {most} others"));
                }
                Ok(())
            }
            Ec2Call::Create { .. }
            | Ec2Call::Unassign { .. }
            | Ec2Call::DeleteOnTermination { .. }
            | Ec2Call::Detach { .. }
            | Ec2Call::Delete { .. }
            | Ec2Call::Describe { .. }
            | Ec2Call::SetGroups { .. }
            | Ec2Call::Tag { .. }
            | Ec2Call::DescribeSubnets { .. }
            | Ec2Call::FindDetached
            | Ec2Call::DescribeInstances { .. } => Ok(()),
        }
    }

    /// How many pods the node can truly hold, as it stands: a single address in the place of a prefix stays there.
    #[must_use]
    pub fn room(&self) -> usize {
        let unit = if self.settings.mode == Mode::Prefix { 16 } else { 1 };
        let here = |e: &&TrueEni| e.seen.place.is_some() && e.seen.card == NetworkCard(0);
        let here: Vec<_> = self.ec2.enis.values().filter(here).collect();
        let most = self.settings.max_eni.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let most = self.ec2.most_enis.min(most);
        let more = most.saturating_sub(here.len()) * self.ec2.slots_per_eni * unit;
        let primary = podwire_pool::DeviceIndex(0);
        let carries = here.iter().filter(|e| {
            let first = e.seen.place.as_ref().is_some_and(|(_, d)| *d == primary);
            e.ours && !(first && self.settings.primary_excluded) && !self.kept_out(&e.seen.subnet)
        });
        let room: usize = carries
            .map(|e| {
                let singles = e.seen.singles.len();
                singles + self.ec2.slots_per_eni.saturating_sub(singles) * unit
            })
            .sum();
        let more = if self.has_subnet() { more } else { 0 };
        (room + more).min(usize::try_from(self.settings.max_pods).unwrap_or(usize::MAX))
    }

    /// Whether packets of a pod with this address leave and arrive.
    #[must_use]
    pub fn works(&self, ip: IpAddr) -> bool {
        self.oracle.judge_usable(self.scene(false), ip).is_ok()
    }
}
