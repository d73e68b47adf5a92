//! The host's part: an ENI and its addresses are of use only once the node sends them out by it (design D15, §7).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::address::{BlockState, State};
use crate::backoff::{Action, host_cause};
use crate::cause::Cause;
use crate::effect::{Effect, HostChange};
use crate::eni::{Eni, Exit, Role, Slot, Stage};
use crate::ids::OpId;
use crate::input::FailureClass;
use crate::machine::Pool;
use crate::ops::About;
use crate::planted::Bug;
use crate::time::Time;
use crate::tuning::{CONFIGURE_TRIES, OP_PATIENCE};

/// Tries to flush an address before it is left to time. *Source*: our choice.
const FLUSH_TRIES: u32 = 3;
/// Tries to take an ENI from the host before it is detached anyway; its device vanishes then. *Source*: our choice.
const UNHOST_TRIES: u32 = 5;

/// From so many refusals in a row on the host's word counts as evidence that EC2 has to be asked, once for each doubling.
/// *Source*: our choice; a device that is only late comes sooner.
const HOST_DOUBT: u32 = 4;

impl Pool {
    /// Sends the next host change of every ENI that needs one: one at a time for each.
    pub(crate) fn tend_hosts(&mut self, now: Time, out: &mut Vec<Effect>) {
        let settled = |e: &Eni| {
            let listed = e.configured && !e.refresh && e.adding.is_empty() && e.dropping.is_empty();
            e.stage == Stage::Attached && listed
        };
        let busy: Vec<Slot> = self.ledger.enis().filter(|(_, e)| !settled(e)).map(|(slot, _)| slot).collect();
        for slot in busy {
            let Some(eni) = self.ledger.eni(slot) else { continue };
            let lost = eni.missing.is_some() && eni.stage == Stage::Attached;
            // What the host has of it may be more than is known yet, and pods may live on that.
            let early = !eni.configured && eni.doubt.is_some() && self.ledger.homeless();
            if eni.host_op.is_some() || !eni.ours() || lost || early || !eni.host_retry.open(now) {
                continue;
            }
            let next = match eni.stage {
                Stage::Created => None,
                Stage::Attached if !eni.configured || eni.refresh => self.configure(slot),
                Stage::Attached => self.next_sources(slot),
                Stage::Leaving(Exit::Unhost) if self.displaced(slot) => {
                    self.go_detach(slot);
                    None
                }
                Stage::Leaving(Exit::Unhost) => {
                    let change =
                        HostChange::RemoveEni { eni: eni.id.clone(), card: eni.card, device: eni.device };
                    Some((About::RemoveEni { slot }, change))
                }
                Stage::Leaving(Exit::Marked | Exit::Detach | Exit::Delete) => None,
            };
            if let Some((about, change)) = next {
                let op = self.ops.open(about, now, None);
                if let Some(eni) = self.ledger.eni_mut(slot) {
                    eni.host_op = Some(op);
                }
                out.push(Effect::Host { op, change });
            }
        }
    }

    /// Whether another ENI has its place by now: then the host's device there is not this one's.
    fn displaced(&self, slot: Slot) -> bool {
        let Some(eni) = self.ledger.eni(slot) else { return false };
        let same = |e: &Eni| e.card == eni.card && e.device == eni.device && e.stage == Stage::Attached;
        self.ledger.enis().any(|(other, e)| other != slot && same(e))
    }

    /// The host forgets an ENI that is gone from here. Once EC2 gives its addresses to another ENI, the host must not send
    /// them out by a device that is no more; where another ENI has its place by now, the host has forgotten it already.
    pub(crate) fn forget_on_host(&mut self, now: Time, slot: Slot, out: &mut Vec<Effect>) {
        let displaced = self.displaced(slot);
        let Some(gone) = self.ledger.eni_mut(slot).filter(|eni| eni.configured) else { return };
        gone.configured = false;
        if displaced {
            return;
        }
        let (eni, card, device) = (gone.id.clone(), gone.card, gone.device);
        let op = self.ops.open(About::Forget { eni: eni.clone(), card, device }, now, None);
        out.push(Effect::Host { op, change: HostChange::RemoveEni { eni, card, device } });
    }

    fn go_detach(&mut self, slot: Slot) {
        if let Some(eni) = self.ledger.eni_mut(slot) {
            eni.configured = false;
            eni.stage = Stage::Leaving(Exit::Detach);
        }
    }

    fn configure(&self, slot: Slot) -> Option<(About, HostChange)> {
        let eni = self.ledger.eni(slot)?;
        let place = (eni.card, eni.device);
        let leaves = |e: &Eni| (e.card, e.device) == place && !e.staying() && e.host_op.is_some();
        let forgets =
            |about: &About| matches!(about, About::Forget { card, device, .. } if (*card, *device) == place);
        if self.ledger.enis().any(|(other, e)| other != slot && leaves(e)) || self.ops.any(forgets) {
            // The one before at this place is just being taken away: what comes first must end first.
            return None;
        }
        let sources: Vec<IpNetwork> = eni.blocks.iter().copied().collect();
        let change = HostChange::ConfigureEni {
            eni: eni.id.clone(),
            mac: eni.mac,
            card: eni.card,
            device: eni.device,
            primary: eni.primary,
            subnet_cidr: eni.subnet_cidr,
            sources: sources.clone(),
        };
        Some((About::Configure { slot, sources }, change))
    }

    /// What to take away first, then what to add; never to add what another ENI still has to lose.
    fn next_sources(&self, slot: Slot) -> Option<(About, HostChange)> {
        let eni = self.ledger.eni(slot)?;
        let (card, device) = (eni.card, eni.device);
        if !eni.dropping.is_empty() {
            let nets: Vec<IpNetwork> = eni.dropping.iter().copied().collect();
            let change = HostChange::RemoveSources { card, device, nets: nets.clone() };
            return Some((About::RemoveSources { slot, nets }, change));
        }
        if eni.adding.is_empty() {
            return None;
        }
        let elsewhere: BTreeSet<IpNetwork> =
            self.ledger.enis().flat_map(|(_, other)| other.dropping.iter().copied()).collect();
        let free = |net: &&IpNetwork| {
            !elsewhere.iter().any(|other| net.contains(other.ip()) || other.contains(net.ip()))
        };
        let nets: Vec<IpNetwork> = eni.adding.iter().filter(free).copied().collect();
        if nets.is_empty() {
            return None;
        }
        let change = HostChange::AddSources { card, device, nets: nets.clone() };
        Some((About::AddSources { slot, nets }, change))
    }

    /// Connections and neighbours of an address are forgotten when its cooling starts (design §7).
    pub(crate) fn flush(&mut self, now: Time, address: IpAddr, tries: u32, out: &mut Vec<Effect>) {
        let op = self.ops.open(About::Flush { address, tries }, now, None);
        out.push(Effect::Host { op, change: HostChange::Flush { address } });
    }

    /// A host change ended.
    pub(crate) fn host_ended(
        &mut self,
        now: Time,
        op: OpId,
        outcome: Result<(), Box<str>>,
        out: &mut Vec<Effect>,
    ) {
        if self.ops.get(op).is_some_and(|o| Action::about(&o.about).is_some()) {
            return;
        }
        let Some(ended) = self.ops.close(op) else { return };
        match ended.about {
            About::Configure { slot, sources } => self.configured(now, slot, &sources, outcome, out),
            About::AddSources { slot, nets } => {
                if self.host_step(now, slot, outcome, out) {
                    self.sources_ready(slot, &nets);
                }
            }
            About::RemoveSources { slot, nets } => {
                if self.host_step(now, slot, outcome, out)
                    && let Some(eni) = self.ledger.eni_mut(slot)
                {
                    for net in nets {
                        eni.dropping.remove(&net);
                    }
                }
            }
            About::RemoveEni { slot } => self.unhosted(now, slot, outcome, out),
            About::Forget { eni, .. } => {
                // The device is gone, and an address that another ENI gets is taken from it: nothing depends on this.
                if let Err(reason) = outcome {
                    self.complain(host_cause(&eni, &reason), out);
                }
            }
            About::Flush { address, tries } => {
                let cooling =
                    self.ledger.address(address).is_some_and(|a| matches!(a.state, State::Cooling { .. }));
                if outcome.is_err() && tries < FLUSH_TRIES && cooling {
                    self.flush(now, address, tries + 1, out);
                }
            }
            About::Assign { .. }
            | About::Unassign { .. }
            | About::Create { .. }
            | About::Attach { .. }
            | About::Terminate { .. }
            | About::Detach { .. }
            | About::Delete { .. }
            | About::SetGroups { .. }
            | About::Tag { .. }
            | About::DescribeSubnets
            | About::FindDetached
            | About::DescribeInstances { .. }
            | About::DeleteLeak { .. }
            | About::Describe { .. } => {}
        }
    }

    /// Notes the end of a host change; true when it worked.
    fn host_step(
        &mut self,
        now: Time,
        slot: Slot,
        outcome: Result<(), Box<str>>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let stubborn = self.planted(Bug::GivesUpOnHost);
        let Some(eni) = self.ledger.eni_mut(slot) else { return false };
        eni.host_op = None;
        match outcome {
            Ok(()) => {
                eni.host_retry.clear();
                if matches!(&self.failure, Some(Cause::Host { eni: named, .. }) if *named == eni.id) {
                    self.failure = None;
                }
                true
            }
            Err(reason) => {
                let cause = host_cause(&eni.id, &reason);
                eni.host_retry.fail(now, FailureClass::Busy, cause.clone(), &mut self.jitter);
                let tries = eni.host_retry.tries();
                if eni.stage == Stage::Attached && tries >= HOST_DOUBT && tries.is_power_of_two() {
                    // Others may have detached it, and metadata may not say so.
                    self.describing.want(now);
                }
                if stubborn {
                    eni.host_retry.pause(now.after(OP_PATIENCE.saturating_mul(10_000)));
                }
                self.complain(cause, out);
                false
            }
        }
    }

    fn configured(
        &mut self,
        now: Time,
        slot: Slot,
        sources: &[IpNetwork],
        outcome: Result<(), Box<str>>,
        out: &mut Vec<Effect>,
    ) {
        if self.host_step(now, slot, outcome, out) {
            if let Some(eni) = self.ledger.eni_mut(slot) {
                eni.configured = true;
                eni.refresh = false;
            }
            self.sources_ready(slot, sources);
            self.gates.unusable.clear();
            return;
        }
        let hopeless = self.ledger.eni(slot).is_some_and(|eni| {
            eni.role == Role::Secondary
                && eni.stage == Stage::Attached
                && !eni.configured
                && eni.ec2_op.is_none()
                && eni.counts.idle()
                && eni.host_retry.tries() >= CONFIGURE_TRIES
        });
        if hopeless {
            let cause = self.ledger.eni(slot).and_then(|eni| eni.host_retry.cause().cloned());
            // Where it must stay, it takes the place that another one could fail in.
            if self.mark_leaving(slot)
                && let Some(cause) = cause
            {
                // As a denial: it lasts until a person does something about it.
                self.gates.unusable.fail(now, FailureClass::Denied, cause, &mut self.jitter);
            }
        }
    }

    fn sources_ready(&mut self, slot: Slot, nets: &[IpNetwork]) {
        for net in nets {
            if self.ledger.block(*net).is_some_and(|b| b.slot == slot && b.state == BlockState::Adding) {
                self.ledger.set_block(*net, BlockState::Ready);
                if let Some(eni) = self.ledger.eni_mut(slot) {
                    eni.adding.remove(net);
                }
            }
        }
    }

    fn unhosted(&mut self, now: Time, slot: Slot, outcome: Result<(), Box<str>>, out: &mut Vec<Effect>) {
        let done = self.host_step(now, slot, outcome, out);
        let Some(eni) = self.ledger.eni_mut(slot) else { return };
        if eni.stage == Stage::Leaving(Exit::Unhost) && (done || eni.host_retry.tries() >= UNHOST_TRIES) {
            self.go_detach(slot);
        }
    }
}
