//! Views for the metadata service and for tests: nothing here changes EC2's state or counts as a call.

use std::net::IpAddr;

use super::build::private_dns;
use super::eni::AttachmentStatus;
use super::history::CallRecord;
use super::ids::{EniId, InstanceId};
use super::place::{Instance, InstanceState};
use super::random::steady_unit;
use super::store::Reader;
use super::view::{Holder, ImdsInterface, ImdsView, Stats};
use super::{Cloud, Delay, Eni, Millis};
use crate::trouble::{Omission, OmissionKind};

impl Cloud {
    /// What the metadata service tells this instance now: lag and omissions applied. `None`: no such instance runs.
    #[must_use]
    pub fn imds_view(&self, now: Millis, instance: &InstanceId) -> Option<ImdsView> {
        let trouble = &self.trouble().imds;
        let now = now.max(self.now);
        let lagging = trouble.lag.probability >= 1.0
            || steady_unit(&[b"imds", &now.0.to_be_bytes(), instance.as_str().as_bytes()])
                < trouble.lag.probability;
        let lag = if lagging { trouble.lag.delay } else { Delay::NONE };
        let mut view = self.view_with(now, instance, lag)?;
        for (at, omission) in trouble.omissions.iter().enumerate() {
            if omission.instance.as_deref().is_none_or(|only| only == instance.as_str()) {
                omit(&mut view, omission, at, now);
            }
        }
        Some(view)
    }

    /// What the metadata service would tell without lag or omissions.
    #[must_use]
    pub fn true_view(&self, instance: &InstanceId) -> Option<ImdsView> {
        self.view_with(self.now, instance, Delay::NONE)
    }

    /// Whose this address is now, alone or within a prefix.
    #[must_use]
    pub fn whose(&self, address: IpAddr) -> Option<Holder> {
        let id = self.spaces.values().find_map(|spaces| match address {
            IpAddr::V4(address) => spaces.v4.holder(address),
            IpAddr::V6(address) => spaces.v6.as_ref()?.holder(address),
        })?;
        let eni = self.enis.get(id)?;
        Some(Holder {
            address,
            eni: id.clone(),
            instance: eni.attachment.as_ref().map(|to| to.instance.clone()),
            primary_eni: eni.is_primary(),
            plugged: eni.plugged(),
        })
    }

    /// The instance that this source address belongs to, if it is assigned to one of its interfaces.
    #[must_use]
    pub fn instance_by_source(&self, source: IpAddr) -> Option<InstanceId> {
        self.whose(source)?.instance
    }

    /// An interface as it is now.
    #[must_use]
    pub fn interface(&self, id: &EniId) -> Option<&Eni> {
        self.enis.get(id)
    }

    /// Every interface as it is now, by id.
    pub fn interfaces(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values()
    }

    /// The interfaces of an instance as they are now: the primary one first, then by card and device index.
    #[must_use]
    pub fn interfaces_of(&self, instance: &InstanceId) -> Vec<&Eni> {
        let place = |eni: &Eni| eni.attachment.as_ref().map(|to| (to.card, to.device));
        let mut enis: Vec<&Eni> =
            self.enis.values().filter(|eni| eni.attached_to(instance).is_some()).collect();
        enis.sort_by_key(|eni| place(eni));
        enis
    }

    /// An instance as it is now.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.instances.get(id)
    }

    /// Every instance as it is now, by id.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// A subnet's IPv4 addresses.
    #[must_use]
    pub fn space(&self, subnet: &super::SubnetId) -> Option<&super::Space> {
        self.spaces.get(subnet).map(|spaces| &spaces.v4)
    }

    /// Calls, oldest first; the newest hundred thousand are kept.
    pub fn calls(&self) -> impl DoubleEndedIterator<Item = &CallRecord> {
        self.history.calls()
    }

    /// Forgets all calls and counters, so that a test can count from here.
    pub fn forget_calls(&mut self) {
        self.history.clear();
    }

    /// The cloud in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.history.counts();
        let calls = |mutating: bool| {
            counts.values().filter(|count| count.mutating == mutating).map(|count| count.calls).sum()
        };
        let held = |eni: &Eni| 1 + eni.secondaries.len() + eni.prefixes.len() * super::PREFIX_SIZE;
        Stats {
            actions: counts.clone(),
            mutating_calls: calls(true),
            reading_calls: calls(false),
            enis: self.enis.len(),
            attached_enis: self.enis.values().filter(|eni| eni.attachment.is_some()).count(),
            instances: self.instances.values().filter(|it| it.state == InstanceState::Running).count(),
            ipv4_held: self.enis.values().map(held).sum(),
            ipv4_prefixes: self.enis.values().map(|eni| eni.prefixes.len()).sum(),
            free: self.spaces.iter().map(|(id, spaces)| (id.to_string(), spaces.v4.free())).collect(),
            free_blocks: self
                .spaces
                .iter()
                .map(|(id, spaces)| (id.to_string(), spaces.v4.free_blocks()))
                .collect(),
            wire_faults: self.wire_faults.clone(),
        }
    }

    fn view_with(&self, now: Millis, id: &InstanceId, lag: Delay) -> Option<ImdsView> {
        let instance = self.instances.get(id).filter(|it| it.state != InstanceState::Terminated)?;
        let primary = self.enis.get(&instance.primary_eni)?;
        let subnet = self.subnets.get(&instance.subnet)?;
        let mut seen: Vec<&Eni> =
            self.enis.seen(Reader::Imds, lag, now).filter(|eni| shown(eni, id)).collect();
        // The service never forgets the interface that it is reached through.
        if !seen.iter().any(|eni| eni.id == primary.id) {
            seen.push(primary);
        }
        seen.sort_by_key(|eni| eni.attachment.as_ref().map(|to| (to.card, to.device)));
        Some(ImdsView {
            instance: id.clone(),
            instance_type: instance.limits.name.to_owned(),
            account: self.spec.account.clone(),
            region: self.spec.region.clone(),
            az: instance.az.clone(),
            az_id: subnet.az_id.clone(),
            launched: instance.launched,
            mac: primary.mac,
            local_ipv4: primary.primary,
            local_hostname: private_dns(primary.primary, &self.spec.region),
            tags: instance.tags.clone(),
            interfaces: seen.into_iter().filter_map(|eni| self.imds_interface(eni)).collect(),
        })
    }

    fn imds_interface(&self, eni: &Eni) -> Option<ImdsInterface> {
        let to = eni.attachment.as_ref()?;
        let subnet = self.subnets.get(&eni.subnet)?;
        let name = |id| self.groups.get(id).map(|group| group.name.clone());
        Some(ImdsInterface {
            mac: eni.mac,
            eni: eni.id.clone(),
            owner: self.spec.account.clone(),
            device: to.device,
            card: to.card,
            local_ipv4s: eni.addresses().collect(),
            ipv4_prefixes: eni.prefixes.clone(),
            ipv6s: eni.ipv6.clone(),
            ipv6_prefixes: eni.ipv6_prefixes.clone(),
            subnet: eni.subnet.clone(),
            subnet_cidr: subnet.cidr,
            subnet_ipv6_cidrs: subnet.ipv6_cidr.into_iter().collect(),
            vpc: self.vpc.id.clone(),
            vpc_cidrs: self.vpc.cidrs.clone(),
            vpc_ipv6_cidrs: self.vpc.ipv6_cidrs.clone(),
            group_ids: eni.groups.clone(),
            group_names: eni.groups.iter().filter_map(name).collect(),
            local_hostname: private_dns(eni.primary, &self.spec.region),
            omitted: std::collections::BTreeSet::new(),
        })
    }
}

/// Whether the metadata service of this instance shows the interface: from attached until detached.
fn shown(eni: &Eni, instance: &InstanceId) -> bool {
    eni.attached_to(instance).is_some_and(|to| match to.status {
        AttachmentStatus::Attached | AttachmentStatus::Detaching => true,
        AttachmentStatus::Attaching => false,
    })
}

fn omit(view: &mut ImdsView, omission: &Omission, at: usize, now: Millis) {
    let hit = |interface: &ImdsInterface| {
        let wanted = omission.eni.as_deref().is_none_or(|only| only == interface.eni.as_str());
        let parts: [&[u8]; 4] =
            [b"omit", &at.to_be_bytes(), &now.0.to_be_bytes(), interface.eni.as_str().as_bytes()];
        wanted && steady_unit(&parts) < omission.probability
    };
    if omission.what == OmissionKind::Interface {
        let primary = view.mac;
        view.interfaces.retain(|interface| interface.mac == primary || !hit(interface));
        return;
    }
    for interface in view.interfaces.iter_mut().filter(|interface| hit(interface)) {
        match &omission.what {
            OmissionKind::Interface => {}
            OmissionKind::Key(key) => {
                interface.omitted.insert(key.clone());
            }
            OmissionKind::Addresses(count) => {
                let left = interface.local_ipv4s.len().saturating_sub(*count).max(1);
                interface.local_ipv4s.truncate(left);
            }
            OmissionKind::Prefixes(count) => {
                let left = interface.ipv4_prefixes.len().saturating_sub(*count);
                interface.ipv4_prefixes.truncate(left);
            }
        }
    }
}

#[cfg(test)]
mod tests;
