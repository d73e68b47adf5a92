//! What is known of ENIs, blocks, addresses and sandboxes, with every index over them. The only place that changes two
//! of these together; it decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::address::{Address, Block, BlockState, State};
use crate::eni::{Eni, Slot};
use crate::ids::{EniId, PodRef, RequestId, Revision, SandboxKey};
use crate::settings::Settings;
use crate::time::Time;
use crate::tuning::{PREFIX_LEN, count};

/// How much longer an address rests whose flush is not answered. *Source*: our choice.
const A_WHILE: Duration = Duration::from_secs(1);

/// Where an allocation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Durable with this revision.
    Allocating(Revision),
    /// Durable.
    Allocated,
    /// Over when this revision is durable.
    Releasing(Revision),
}

crate::text::variants!(Phase { Allocating(a), Allocated, Releasing(a) });

/// What a sandbox holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sandbox {
    pub(crate) pod: PodRef,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) phase: Phase,
    /// When the plugin that made it started; an older DEL is of an earlier life.
    pub(crate) started: Time,
    /// The revision that says so.
    pub(crate) noted: Revision,
    /// When the DEL started that ends it.
    pub(crate) ended: Time,
    /// When its phase began.
    pub(crate) since: Time,
    /// Requests that wait for the phase to become durable; for an ADD, whether it made the allocation.
    pub(crate) waiting: Vec<(RequestId, bool)>,
}

crate::text::fields!(Sandbox { pod, addresses, phase, started, noted, ended, since, waiting });

/// The pool's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Ledger {
    enis: BTreeMap<Slot, Eni>,
    next_slot: u32,
    blocks: BTreeMap<IpNetwork, Block>,
    addresses: BTreeMap<IpAddr, Address>,
    sandboxes: BTreeMap<SandboxKey, Sandbox>,
    /// Who holds an address, whether it is on a block or (after a loss) not.
    holders: BTreeMap<IpAddr, SandboxKey>,
    cooling: BTreeSet<(Time, IpAddr)>,
}

crate::text::fields!(Ledger { enis, next_slot, blocks, addresses, sandboxes, holders, cooling });

impl Ledger {
    // ---- ENIs -------------------------------------------------------------------------------------------------

    /// All ENIs in order of arrival.
    pub(crate) fn enis(&self) -> impl Iterator<Item = (Slot, &Eni)> {
        self.enis.iter().map(|(slot, eni)| (*slot, eni))
    }

    /// Their short names, so that they can be changed while walking.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.enis.keys().copied().collect()
    }

    /// One ENI.
    pub(crate) fn eni(&self, slot: Slot) -> Option<&Eni> {
        self.enis.get(&slot)
    }

    /// One ENI, to change what no index depends on.
    pub(crate) fn eni_mut(&mut self, slot: Slot) -> Option<&mut Eni> {
        self.enis.get_mut(&slot)
    }

    /// The short name of an ENI.
    pub(crate) fn slot_of(&self, id: &EniId) -> Option<Slot> {
        self.enis.iter().find(|(_, eni)| eni.id == *id).map(|(slot, _)| *slot)
    }

    /// Adds an ENI.
    pub(crate) fn add_eni(&mut self, eni: Eni) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        self.enis.insert(slot, eni);
        slot
    }

    /// Forgets an ENI and its blocks. Sandboxes that held addresses of it keep them, on no block.
    pub(crate) fn remove_eni(&mut self, slot: Slot) {
        let nets: Vec<_> =
            self.enis.get(&slot).map(|e| e.blocks.iter().copied().collect()).unwrap_or_default();
        for net in nets {
            self.remove_block(net);
        }
        self.enis.remove(&slot);
    }

    // ---- blocks -----------------------------------------------------------------------------------------------

    /// One block.
    pub(crate) fn block(&self, net: IpNetwork) -> Option<&Block> {
        self.blocks.get(&net)
    }

    /// All blocks.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (IpNetwork, &Block)> {
        self.blocks.iter().map(|(net, block)| (*net, block))
    }

    /// The blocks that share an address with this network.
    pub(crate) fn overlapping(&self, net: IpNetwork) -> BTreeSet<IpNetwork> {
        if !is_sound(net) {
            return BTreeSet::new();
        }
        net.iter().filter_map(|ip| self.addresses.get(&ip)).map(|address| address.block).collect()
    }

    /// Enters a block; addresses held by a known sandbox stay held, the others start in `state`. What EC2 never assigns
    /// in one piece is no block, whoever says so: a damaged ledger must not make us count a million addresses.
    pub(crate) fn add_block(&mut self, slot: Slot, net: IpNetwork, state: &State, now: Time) {
        if !is_sound(net) {
            return;
        }
        let Some(eni) = self.enis.get_mut(&slot) else { return };
        eni.blocks.insert(net);
        eni.adding.insert(net);
        let mut block = Block::new(slot, 0, now);
        let mut cooling = Vec::new();
        for ip in net.iter() {
            let held = self.holders.get(&ip).and_then(|key| self.sandboxes.get(key).map(|s| (key, s.phase)));
            let state = match held {
                Some((key, Phase::Allocating(_))) => State::Allocating { sandbox: key.clone() },
                Some((key, Phase::Allocated)) => State::Allocated { sandbox: key.clone() },
                Some((key, Phase::Releasing(_))) => State::Releasing { sandbox: key.clone() },
                None => state.clone(),
            };
            block.size += 1;
            enter(&mut block, ip, &state);
            if let State::Cooling { since, .. } = state {
                cooling.push((since, ip));
            }
            self.addresses.insert(ip, Address { block: net, state });
        }
        eni.counts.add(&block.counts());
        self.blocks.insert(net, block);
        self.cooling.extend(cooling);
    }

    /// Forgets a block.
    pub(crate) fn remove_block(&mut self, net: IpNetwork) {
        let Some(block) = self.blocks.remove(&net) else { return };
        if let Some(eni) = self.enis.get_mut(&block.slot) {
            eni.counts.sub(&block.counts());
            eni.blocks.remove(&net);
            eni.adding.remove(&net);
            eni.stuck.remove(&net);
            if let Some(key) = block.key {
                eni.ready.remove(&key);
            }
        }
        for ip in net.iter() {
            if let Some(Address { state: State::Cooling { since, .. }, .. }) = self.addresses.remove(&ip) {
                self.cooling.remove(&(since, ip));
            }
        }
    }

    /// Changes a block and everything that depends on it.
    pub(crate) fn change_block(&mut self, net: IpNetwork, change: impl FnOnce(&mut Block)) {
        let Some(block) = self.blocks.get_mut(&net) else { return };
        let Some(eni) = self.enis.get_mut(&block.slot) else { return };
        eni.counts.sub(&block.counts());
        change(block);
        eni.counts.add(&block.counts());
        let place = block.place(net);
        if place != block.key {
            if let Some(old) = block.key.take() {
                eni.ready.remove(&old);
            }
            if let Some(new) = place {
                eni.ready.insert(new);
            }
            block.key = place;
        }
    }

    /// Sets a block's state.
    pub(crate) fn set_block(&mut self, net: IpNetwork, state: BlockState) {
        self.change_block(net, |block| block.state = state);
    }

    // ---- addresses --------------------------------------------------------------------------------------------

    /// One address.
    pub(crate) fn address(&self, ip: IpAddr) -> Option<&Address> {
        self.addresses.get(&ip)
    }

    /// All addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpAddr, &Address)> {
        self.addresses.iter().map(|(ip, address)| (*ip, address))
    }

    /// The ENI that carries an address.
    pub(crate) fn carrier(&self, ip: IpAddr) -> Option<&Eni> {
        let block = self.blocks.get(&self.addresses.get(&ip)?.block)?;
        self.enis.get(&block.slot)
    }

    /// Moves an address to another state. Does nothing for an address that is on no block.
    pub(crate) fn set_address(&mut self, ip: IpAddr, state: State) {
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        let old = std::mem::replace(&mut address.state, state.clone());
        let net = address.block;
        if let State::Cooling { since, .. } = old {
            self.cooling.remove(&(since, ip));
        }
        if let State::Cooling { since, .. } = state {
            self.cooling.insert((since, ip));
        }
        self.change_block(net, |block| {
            leave(block, ip, &old);
            enter(block, ip, &state);
        });
    }

    /// The best address to hand out now: longest idle of the fullest block of the fullest ENI (design D8). Equal ENIs
    /// are used in order of device index, so that later ones drain.
    pub(crate) fn pick(&self, settings: &Settings) -> Option<IpAddr> {
        let fullest = self
            .enis
            .values()
            .filter(|eni| !eni.ready.is_empty() && eni.usable(settings))
            .max_by_key(|eni| (eni.counts.held, std::cmp::Reverse((eni.card, eni.device))))?;
        let (_, _, _, net) = fullest.ready.first()?;
        let (_, ip) = self.blocks.get(net)?.free.first()?;
        Some(*ip)
    }

    /// Ends the cooling of all that rested long enough; those that are `busy` still rest a second longer.
    pub(crate) fn end_cooldowns(&mut self, now: Time, cooldown: Duration, busy: impl Fn(IpAddr) -> bool) {
        while let Some((since, ip)) = self.cooling.first().copied() {
            if now < since.after(cooldown) {
                break;
            }
            if !busy(ip) {
                self.set_address(ip, State::Free { since: now });
                continue;
            }
            let longer =
                since.max(Time::from_ms(now.as_ms().saturating_sub(millis(cooldown)))).after(A_WHILE);
            let state = self.addresses.get(&ip).map(|a| a.state.clone());
            let Some(State::Cooling { sandbox, .. }) = state else { break };
            self.set_address(ip, State::Cooling { since: longer, sandbox });
        }
    }

    /// The address that cooled longest, where it may be used.
    pub(crate) fn oldest_cooling(
        &self,
        settings: &Settings,
        busy: impl Fn(IpAddr) -> bool,
    ) -> Option<(Time, IpAddr)> {
        self.cooling.iter().copied().filter(|(_, ip)| !busy(*ip)).find(|(_, ip)| {
            self.addresses.get(ip).is_some_and(|address| {
                self.blocks.get(&address.block).is_some_and(|block| {
                    block.offered()
                        && block.state == BlockState::Ready
                        && self.enis.get(&block.slot).is_some_and(|eni| eni.usable(settings))
                })
            })
        })
    }

    /// When the next cooling ends.
    pub(crate) fn next_cooldown_end(&self, cooldown: Duration) -> Option<Time> {
        self.cooling.first().map(|(since, _)| since.after(cooldown))
    }

    /// How many addresses cool.
    pub(crate) fn cooling_count(&self) -> u32 {
        count(self.cooling.len())
    }

    /// The index of cooling addresses, for the invariants.
    pub(crate) fn cooling_index(&self) -> &BTreeSet<(Time, IpAddr)> {
        &self.cooling
    }

    // ---- sandboxes --------------------------------------------------------------------------------------------

    /// One sandbox.
    pub(crate) fn sandbox(&self, key: &SandboxKey) -> Option<&Sandbox> {
        self.sandboxes.get(key)
    }

    /// One sandbox, to change who waits for it and when it started.
    pub(crate) fn sandbox_mut(&mut self, key: &SandboxKey) -> Option<&mut Sandbox> {
        self.sandboxes.get_mut(key)
    }

    /// All sandboxes.
    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = (&SandboxKey, &Sandbox)> {
        self.sandboxes.iter()
    }

    /// Who holds an address.
    pub(crate) fn holder(&self, ip: IpAddr) -> Option<&SandboxKey> {
        self.holders.get(&ip)
    }

    /// Whether a sandbox holds an address that is on no block.
    pub(crate) fn homeless(&self) -> bool {
        self.holders.keys().any(|ip| !self.addresses.contains_key(ip))
    }

    /// How many sandboxes hold something.
    pub(crate) fn sandbox_count(&self) -> u32 {
        count(self.sandboxes.len())
    }

    /// Enters a sandbox and moves its addresses to the state of its phase.
    pub(crate) fn hold(&mut self, key: &SandboxKey, sandbox: Sandbox) {
        for ip in &sandbox.addresses {
            let before = self.holders.insert(*ip, key.clone());
            assert!(before.as_ref().is_none_or(|b| b == key), "address {ip} would be given to two sandboxes");
        }
        let (addresses, phase) = (sandbox.addresses.clone(), sandbox.phase);
        self.sandboxes.insert(key.clone(), sandbox);
        self.enter_phase(key, &addresses, phase);
    }

    /// Moves a sandbox and its addresses to another phase.
    pub(crate) fn set_phase(&mut self, key: &SandboxKey, phase: Phase, now: Time) {
        let Some(sandbox) = self.sandboxes.get_mut(key) else { return };
        sandbox.phase = phase;
        sandbox.since = now;
        let addresses = sandbox.addresses.clone();
        self.enter_phase(key, &addresses, phase);
    }

    /// Ends a sandbox: its addresses cool from `since`.
    pub(crate) fn let_go(&mut self, key: &SandboxKey, since: Time) -> Option<Sandbox> {
        let sandbox = self.sandboxes.remove(key)?;
        for ip in &sandbox.addresses {
            self.holders.remove(ip);
            self.set_address(*ip, State::Cooling { since, sandbox: Some(key.clone()) });
        }
        Some(sandbox)
    }

    /// Loses count, as a planted bug.
    pub(crate) fn miscount(&mut self) {
        if let Some(eni) = self.enis.values_mut().next() {
            eni.counts.free = eni.counts.free.saturating_add(1);
        }
    }

    fn enter_phase(&mut self, key: &SandboxKey, addresses: &[IpAddr], phase: Phase) {
        for ip in addresses {
            let sandbox = key.clone();
            let state = match phase {
                Phase::Allocating(_) => State::Allocating { sandbox },
                Phase::Allocated => State::Allocated { sandbox },
                Phase::Releasing(_) => State::Releasing { sandbox },
            };
            self.set_address(*ip, state);
        }
    }
}

/// Whether EC2 assigns such a thing to an ENI in one piece: an IPv4 address or a /28, at its proper start.
pub(crate) fn is_sound(net: IpNetwork) -> bool {
    match net {
        IpNetwork::V4(v4) => matches!(v4.prefix(), 32 | PREFIX_LEN) && v4.network() == v4.ip(),
        IpNetwork::V6(_) => false,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn enter(block: &mut Block, ip: IpAddr, state: &State) {
    match state {
        State::Free { since } => {
            block.free.insert((*since, ip));
        }
        State::Allocating { .. } | State::Allocated { .. } => block.held += 1,
        State::Releasing { .. } => block.releasing += 1,
        State::Cooling { .. } => block.cooling += 1,
    }
}

fn leave(block: &mut Block, ip: IpAddr, state: &State) {
    match state {
        State::Free { since } => {
            block.free.remove(&(*since, ip));
        }
        State::Allocating { .. } | State::Allocated { .. } => block.held -= 1,
        State::Releasing { .. } => block.releasing -= 1,
        State::Cooling { .. } => block.cooling -= 1,
    }
}
