//! The IPv4 addresses of one subnet: who holds which, and what is free.
//!
//! Invariant: an address has at most one holder, be it alone or within a /28 prefix, and the five that AWS keeps never
//! have one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use thiserror::Error;

use super::ids::EniId;
use super::random::Random;
use super::spec::{Placement, ReservationKind};

/// Length of the IPv4 prefixes that EC2 assigns to ENIs.
///
/// Source: Amazon EC2 User Guide, "Prefix delegation for Amazon EC2 network interfaces".
pub const PREFIX_LEN: u8 = 28;

/// Addresses in such a prefix.
pub const PREFIX_SIZE: usize = 16;

/// Why nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Taken {
    /// Not in this subnet.
    #[error("outside the subnet")]
    Outside,
    /// One of the five that AWS keeps.
    #[error("reserved by AWS")]
    Reserved,
    /// Someone has it, or a part of it.
    #[error("held by {0}")]
    Held(EniId),
    /// Not a /28 on a /28 boundary.
    #[error("not an aligned /28")]
    NotABlock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Anyone may have it.
    Open,
    /// A CIDR reservation covers it.
    Kept(ReservationKind),
    /// AWS keeps it: network, router, DNS, future, broadcast.
    Aws,
}

/// A subnet's address space.
#[derive(Debug, Clone)]
pub struct Space {
    cidr: Ipv4Network,
    base: u32,
    uses: Vec<Use>,
    held: Vec<bool>,
    free: usize,
    singles: BTreeMap<usize, EniId>,
    blocks: BTreeMap<usize, EniId>,
}

impl Space {
    /// All free but the first four and the last address.
    ///
    /// Source: Amazon VPC User Guide, "Subnet CIDR blocks": five addresses of each are reserved.
    #[must_use]
    pub fn new(cidr: Ipv4Network, reservations: &[(Ipv4Network, ReservationKind)]) -> Self {
        let size = usize::try_from(cidr.size()).unwrap_or(usize::MAX);
        let mut uses = vec![Use::Open; size];
        for (range, kind) in reservations {
            for (offset, what) in uses.iter_mut().enumerate() {
                if offset_of(range, address_at(cidr, offset)).is_some() {
                    *what = Use::Kept(*kind);
                }
            }
        }
        let last = size.saturating_sub(1);
        let mut held = vec![false; size];
        for kept in [0, 1, 2, 3, last] {
            if let (Some(what), Some(held)) = (uses.get_mut(kept), held.get_mut(kept)) {
                *what = Use::Aws;
                *held = true;
            }
        }
        let free = held.iter().filter(|held| !**held).count();
        let base = u32::from(cidr.network());
        Self { cidr, base, uses, held, free, singles: BTreeMap::new(), blocks: BTreeMap::new() }
    }

    /// The subnet's CIDR.
    #[must_use]
    pub fn cidr(&self) -> Ipv4Network {
        self.cidr
    }

    /// `AvailableIpAddressCount`: addresses nobody holds, CIDR reservations included.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    /// Whole /28 blocks that EC2 could give now.
    #[must_use]
    pub fn free_blocks(&self) -> usize {
        self.open_blocks(true).len() + self.open_blocks(false).len()
    }

    /// Who holds this address, alone or within a prefix.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr) -> Option<&EniId> {
        let offset = self.offset(address)?;
        self.singles.get(&offset).or_else(|| self.blocks.get(&(offset - offset % PREFIX_SIZE)))
    }

    /// Every held address and prefix with its holder.
    pub fn holdings(&self) -> impl Iterator<Item = (Ipv4Network, &EniId)> {
        let singles = self.singles.iter().map(|(offset, eni)| (network(self.address(*offset), 32), eni));
        singles.chain(self.blocks.iter().map(|(at, eni)| (network(self.address(*at), PREFIX_LEN), eni)))
    }

    /// Takes `count` addresses of EC2's choice, or none at all.
    pub fn take_any(
        &mut self,
        count: usize,
        placement: Placement,
        random: &mut Random,
        eni: &EniId,
    ) -> Option<Vec<Ipv4Addr>> {
        let open = (0..self.uses.len()).filter(|at| self.uses[*at] == Use::Open && !self.held[*at]).collect();
        let chosen = choose(open, count, placement, random)?;
        for offset in &chosen {
            self.hold(*offset, 1);
            self.singles.insert(*offset, eni.clone());
        }
        Some(chosen.into_iter().map(|offset| self.address(offset)).collect())
    }

    /// Whether this very address could be taken.
    ///
    /// # Errors
    /// It is outside, reserved by AWS or held.
    pub fn check(&self, address: Ipv4Addr) -> Result<(), Taken> {
        let offset = self.offset(address).ok_or(Taken::Outside)?;
        match (self.uses[offset], self.holder(address)) {
            (Use::Aws, _) => Err(Taken::Reserved),
            (_, Some(holder)) => Err(Taken::Held(holder.clone())),
            (Use::Open | Use::Kept(_), None) => Ok(()),
        }
    }

    /// Takes this very address. Reservations do not stand in the way of an explicit wish.
    ///
    /// # Errors
    /// It is outside, reserved by AWS or held.
    pub fn take(&mut self, address: Ipv4Addr, eni: &EniId) -> Result<(), Taken> {
        self.check(address)?;
        let offset = self.offset(address).ok_or(Taken::Outside)?;
        self.hold(offset, 1);
        self.singles.insert(offset, eni.clone());
        Ok(())
    }

    /// Takes `count` /28 blocks of EC2's choice, or none at all: from prefix reservations first.
    pub fn take_blocks(
        &mut self,
        count: usize,
        placement: Placement,
        random: &mut Random,
        eni: &EniId,
    ) -> Option<Vec<Ipv4Network>> {
        let (kept, open) = (self.open_blocks(true), self.open_blocks(false));
        let from_kept = count.min(kept.len());
        let mut chosen = choose(kept, from_kept, placement, random)?;
        chosen.extend(choose(open, count - from_kept, placement, random)?);
        for offset in &chosen {
            self.hold(*offset, PREFIX_SIZE);
            self.blocks.insert(*offset, eni.clone());
        }
        Some(chosen.into_iter().map(|offset| network(self.address(offset), PREFIX_LEN)).collect())
    }

    /// Whether this very block could be taken.
    ///
    /// # Errors
    /// It is not an aligned /28, outside, or something in it is reserved by AWS or held.
    pub fn check_block(&self, block: Ipv4Network) -> Result<(), Taken> {
        if block.prefix() != PREFIX_LEN || block.network() != block.ip() {
            return Err(Taken::NotABlock);
        }
        let start = self.offset(block.network()).ok_or(Taken::Outside)?;
        (start..start + PREFIX_SIZE).try_for_each(|offset| self.check(self.address(offset)))
    }

    /// Takes this very block.
    ///
    /// # Errors
    /// As [`Self::check_block`].
    pub fn take_block(&mut self, block: Ipv4Network, eni: &EniId) -> Result<(), Taken> {
        self.check_block(block)?;
        let start = self.offset(block.network()).ok_or(Taken::Outside)?;
        self.hold(start, PREFIX_SIZE);
        self.blocks.insert(start, eni.clone());
        Ok(())
    }

    /// Gives an address back. Nothing happens if `eni` does not hold it alone.
    pub fn give(&mut self, address: Ipv4Addr, eni: &EniId) {
        if let Some(offset) = self.offset(address)
            && self.singles.get(&offset) == Some(eni)
        {
            self.singles.remove(&offset);
            self.release(offset, 1);
        }
    }

    /// Gives a block back. Nothing happens if `eni` does not hold it.
    pub fn give_block(&mut self, block: Ipv4Network, eni: &EniId) {
        if let Some(offset) = self.offset(block.network())
            && self.blocks.get(&offset) == Some(eni)
        {
            self.blocks.remove(&offset);
            self.release(offset, PREFIX_SIZE);
        }
    }

    /// Starts of the blocks that are free as a whole: all in prefix reservations, or all outside of reservations.
    fn open_blocks(&self, in_reservation: bool) -> Vec<usize> {
        let wanted = if in_reservation { Use::Kept(ReservationKind::Prefix) } else { Use::Open };
        let whole = |start: &usize| {
            let end = start + PREFIX_SIZE;
            end <= self.uses.len() && (*start..end).all(|at| self.uses[at] == wanted && !self.held[at])
        };
        (0..self.uses.len()).step_by(PREFIX_SIZE).filter(whole).collect()
    }

    fn hold(&mut self, start: usize, count: usize) {
        for held in &mut self.held[start..start + count] {
            assert!(!*held, "an address of {} would have two holders", self.cidr);
            *held = true;
        }
        self.free -= count;
    }

    fn release(&mut self, start: usize, count: usize) {
        self.held[start..start + count].fill(false);
        self.free += count;
    }

    fn offset(&self, address: Ipv4Addr) -> Option<usize> {
        offset_of(&self.cidr, address)
    }

    fn address(&self, offset: usize) -> Ipv4Addr {
        Ipv4Addr::from(self.base + u32::try_from(offset).expect("a subnet has at most 2^32 addresses"))
    }
}

/// `count` of `from`, or `None` if there are fewer.
fn choose(
    mut from: Vec<usize>,
    count: usize,
    placement: Placement,
    random: &mut Random,
) -> Option<Vec<usize>> {
    if from.len() < count {
        return None;
    }
    if placement == Placement::Scattered {
        for at in 0..count {
            let other = at + random.below(from.len() - at);
            from.swap(at, other);
        }
    }
    from.truncate(count);
    Some(from)
}

fn offset_of(cidr: &Ipv4Network, address: Ipv4Addr) -> Option<usize> {
    cidr.contains(address)
        .then(|| u32::from(address) - u32::from(cidr.network()))
        .and_then(|o| usize::try_from(o).ok())
}

fn address_at(cidr: Ipv4Network, offset: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()).wrapping_add(u32::try_from(offset).unwrap_or(u32::MAX)))
}

pub(crate) fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Network {
    Ipv4Network::new(address, prefix).expect("prefix lengths here are 28 and 32")
}

#[cfg(test)]
mod tests;
