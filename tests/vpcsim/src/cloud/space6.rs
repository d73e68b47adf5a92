//! The IPv6 addresses of one subnet: a /64 is too large to list, so only what is held is kept.
//!
//! Invariant: as for IPv4, one holder at most, alone or within an /80 prefix.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;

use super::ids::EniId;
use super::random::Random;
use super::space::Taken;
use super::spec::{Placement, ReservationKind};

/// Length of the IPv6 prefixes that EC2 assigns to ENIs.
///
/// Source: Amazon EC2 User Guide, "Prefix delegation for Amazon EC2 network interfaces".
pub const PREFIX6_LEN: u8 = 80;

/// How often a random pick may meet something held before the subnet counts as full. A /64 holds 65,536 blocks; this
/// many misses in a row mean that more than 99.9% of them are held.
const TRIES: usize = 8192;

/// A subnet's IPv6 address space.
#[derive(Debug, Clone)]
pub struct Space6 {
    cidr: Ipv6Network,
    reservations: Vec<(Ipv6Network, ReservationKind)>,
    singles: BTreeMap<Ipv6Addr, EniId>,
    blocks: BTreeMap<Ipv6Addr, EniId>,
}

impl Space6 {
    /// All free but the first four and the last address.
    #[must_use]
    pub fn new(cidr: Ipv6Network, reservations: Vec<(Ipv6Network, ReservationKind)>) -> Self {
        Self { cidr, reservations, singles: BTreeMap::new(), blocks: BTreeMap::new() }
    }

    /// The subnet's CIDR.
    #[must_use]
    pub fn cidr(&self) -> Ipv6Network {
        self.cidr
    }

    /// Who holds this address, alone or within a prefix.
    #[must_use]
    pub fn holder(&self, address: Ipv6Addr) -> Option<&EniId> {
        self.singles.get(&address).or_else(|| self.blocks.get(&block_of(address)))
    }

    /// Takes `count` addresses of EC2's choice, or none at all.
    pub fn take_any(
        &mut self,
        count: usize,
        placement: Placement,
        random: &mut Random,
        eni: &EniId,
    ) -> Option<Vec<Ipv6Addr>> {
        let chosen = self.pick(count, placement, random, 1, |space, at| {
            space.check(at).is_ok() && space.reserved(at).is_none()
        })?;
        self.singles.extend(chosen.iter().map(|address| (*address, eni.clone())));
        Some(chosen)
    }

    /// Whether this very address could be taken.
    ///
    /// # Errors
    /// It is outside, reserved by AWS or held.
    pub fn check(&self, address: Ipv6Addr) -> Result<(), Taken> {
        if !self.cidr.contains(address) {
            return Err(Taken::Outside);
        }
        if self.kept_by_aws(address) {
            return Err(Taken::Reserved);
        }
        self.holder(address).map_or(Ok(()), |holder| Err(Taken::Held(holder.clone())))
    }

    /// Takes this very address.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn take(&mut self, address: Ipv6Addr, eni: &EniId) -> Result<(), Taken> {
        self.check(address)?;
        self.singles.insert(address, eni.clone());
        Ok(())
    }

    /// Takes `count` /80 blocks of EC2's choice, or none at all: from prefix reservations first.
    pub fn take_blocks(
        &mut self,
        count: usize,
        placement: Placement,
        random: &mut Random,
        eni: &EniId,
    ) -> Option<Vec<Ipv6Network>> {
        let kept: Vec<Ipv6Addr> = self.kept_blocks().into_iter().take(count).collect();
        let rest = count - kept.len();
        let mut chosen = kept;
        chosen.extend(self.pick(rest, placement, random, 1 << (128 - PREFIX6_LEN), |space, at| {
            space.check_block(block(at)).is_ok() && space.reserved(at).is_none()
        })?);
        self.blocks.extend(chosen.iter().map(|at| (*at, eni.clone())));
        Some(chosen.into_iter().map(block).collect())
    }

    /// Whether this very block could be taken.
    ///
    /// # Errors
    /// It is not an aligned /80, outside, or something in it is reserved by AWS or held.
    pub fn check_block(&self, wanted: Ipv6Network) -> Result<(), Taken> {
        let start = wanted.network();
        if wanted.prefix() != PREFIX6_LEN || start != wanted.ip() {
            return Err(Taken::NotABlock);
        }
        if !self.cidr.contains(start) {
            return Err(Taken::Outside);
        }
        if block_of(self.cidr.network()) == start || block_of(self.cidr.broadcast()) == start {
            return Err(Taken::Reserved);
        }
        let within = self.singles.range(start..=wanted.broadcast()).next().map(|(_, holder)| holder);
        within.or_else(|| self.blocks.get(&start)).map_or(Ok(()), |holder| Err(Taken::Held(holder.clone())))
    }

    /// Takes this very block.
    ///
    /// # Errors
    /// As [`Self::check_block`].
    pub fn take_block(&mut self, wanted: Ipv6Network, eni: &EniId) -> Result<(), Taken> {
        self.check_block(wanted)?;
        self.blocks.insert(wanted.network(), eni.clone());
        Ok(())
    }

    /// Gives an address back. Nothing happens if `eni` does not hold it alone.
    pub fn give(&mut self, address: Ipv6Addr, eni: &EniId) {
        if self.singles.get(&address) == Some(eni) {
            self.singles.remove(&address);
        }
    }

    /// Gives a block back. Nothing happens if `eni` does not hold it.
    pub fn give_block(&mut self, wanted: Ipv6Network, eni: &EniId) {
        if self.blocks.get(&wanted.network()) == Some(eni) {
            self.blocks.remove(&wanted.network());
        }
    }

    fn pick(
        &self,
        count: usize,
        placement: Placement,
        random: &mut Random,
        step: u128,
        free: impl Fn(&Self, Ipv6Addr) -> bool,
    ) -> Option<Vec<Ipv6Addr>> {
        let base = u128::from(self.cidr.network());
        let places = (1_u128 << (128 - self.cidr.prefix())) / step;
        let mut chosen: Vec<Ipv6Addr> = Vec::with_capacity(count);
        let mut misses: usize = 0;
        let mut next: u128 = 0;
        while chosen.len() < count {
            let place = match placement {
                Placement::Scattered => u128::from(random.bits()) % places,
                Placement::Lowest => next,
            };
            next += 1;
            let at = Ipv6Addr::from(base + place * step);
            if place < places && free(self, at) && !chosen.contains(&at) {
                chosen.push(at);
                misses = 0;
            } else {
                misses += 1;
                if misses > TRIES {
                    return None;
                }
            }
        }
        Some(chosen)
    }

    fn reserved(&self, address: Ipv6Addr) -> Option<ReservationKind> {
        self.reservations.iter().find(|(range, _)| range.contains(address)).map(|(_, kind)| *kind)
    }

    /// Free blocks in prefix reservations, lowest first; at most as many as one interface could hold.
    fn kept_blocks(&self) -> Vec<Ipv6Addr> {
        const ENOUGH: usize = 256;
        let ranges = self.reservations.iter().filter(|(_, kind)| *kind == ReservationKind::Prefix);
        ranges
            .filter(|(range, _)| range.prefix() <= PREFIX6_LEN)
            .flat_map(|(range, _)| {
                let (start, end) = (u128::from(range.network()), u128::from(range.broadcast()));
                (start..=end).step_by(1 << (128 - PREFIX6_LEN)).map(Ipv6Addr::from).take(65_536)
            })
            .filter(|at| self.check_block(block(*at)).is_ok())
            .take(ENOUGH)
            .collect()
    }

    fn kept_by_aws(&self, address: Ipv6Addr) -> bool {
        let offset = u128::from(address) - u128::from(self.cidr.network());
        offset < 4 || address == self.cidr.broadcast()
    }
}

fn block_of(address: Ipv6Addr) -> Ipv6Addr {
    block(address).network()
}

fn block(address: Ipv6Addr) -> Ipv6Network {
    Ipv6Network::new(address, PREFIX6_LEN).expect("80 is at most 128")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space6 {
        Space6::new("2600:1f14::/64".parse().unwrap(), vec![])
    }

    #[test]
    fn an_address_within_a_held_block_is_held() {
        let (mut space, eni) = (space(), EniId::from("eni-1"));
        space.take_block("2600:1f14:0:0:7::/80".parse().unwrap(), &eni).unwrap();
        let inside = "2600:1f14::7:0:0:9".parse().unwrap();
        assert_eq!(space.check(inside), Err(Taken::Held(eni.clone())));
        assert_eq!(space.holder(inside), Some(&eni));
        space.give_block("2600:1f14:0:0:7::/80".parse().unwrap(), &eni);
        assert_eq!(space.check(inside), Ok(()));
    }

    #[test]
    fn a_block_with_a_held_address_is_not_free() {
        let (mut space, eni) = (space(), EniId::from("eni-1"));
        space.take("2600:1f14::7:0:0:9".parse().unwrap(), &eni).unwrap();
        assert!(matches!(space.check_block("2600:1f14:0:0:7::/80".parse().unwrap()), Err(Taken::Held(_))));
        assert_eq!(space.check_block("2600:1f14::/80".parse().unwrap()), Err(Taken::Reserved));
        assert_eq!(space.check_block("2600:1f14:0:0:7::/96".parse().unwrap()), Err(Taken::NotABlock));
        assert_eq!(space.check_block("2600:1f15:0:0:7::/80".parse().unwrap()), Err(Taken::Outside));
        assert_eq!(space.check("2600:1f14::3".parse().unwrap()), Err(Taken::Reserved));
    }

    #[test]
    fn picks_are_distinct_and_reservations_serve_prefixes_first() {
        let kept: Ipv6Network = "2600:1f14:0:0:8000::/66".parse().unwrap();
        let mut space = Space6::new("2600:1f14::/64".parse().unwrap(), vec![(kept, ReservationKind::Prefix)]);
        let (mut random, eni) = (Random::new(1), EniId::from("eni-1"));
        let blocks = space.take_blocks(20, Placement::Scattered, &mut random, &eni).unwrap();
        assert!(blocks.iter().all(|block| kept.contains(block.network())));
        let singles = space.take_any(100, Placement::Scattered, &mut random, &eni).unwrap();
        assert!(singles.iter().all(|address| !kept.contains(*address)));
        assert_eq!(space.take_any(3, Placement::Lowest, &mut random, &eni).unwrap().len(), 3);
    }
}
