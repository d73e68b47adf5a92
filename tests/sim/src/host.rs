//! The node's kernel as it truly is: which ENIs are set up, and what leaves by which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_pool::{DeviceIndex, EniId, HostChange};

use crate::ec2::Ec2;

/// The kernel's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Host {
    /// Set-up devices, with what leaves by them. One whose ENI others detached stays until the host is told otherwise.
    pub devices: BTreeMap<DeviceIndex, Device>,
}

/// An ENI's device as it was set up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    /// Whose it is.
    pub eni: EniId,
    /// What leaves by it.
    pub sources: BTreeSet<IpNetwork>,
}

impl Host {
    /// Carries a change out.
    ///
    /// # Errors
    /// What the kernel said; nothing was done then.
    pub fn execute(&mut self, change: &HostChange, ec2: &Ec2) -> Result<(), Box<str>> {
        match change {
            HostChange::ConfigureEni { eni, device, sources, .. } => {
                let seen = ec2.enis.get(eni).map(|e| &e.seen);
                let here = seen.filter(|s| s.attached_from <= ec2.clock).and_then(|s| s.place.as_ref());
                if here.is_none_or(|(_, d)| d != device) {
                    return Err("no device with this MAC appeared".into());
                }
                let known = Device { eni: eni.clone(), sources: sources.iter().copied().collect() };
                self.devices.insert(*device, known);
                self.take_from_others(*device, sources);
                Ok(())
            }
            HostChange::AddSources { device, nets, .. } => {
                let known = self.devices.get_mut(device).ok_or("the ENI is not set up")?;
                let place = ec2.enis.get(&known.eni).and_then(|e| e.seen.place.as_ref());
                if place.is_none_or(|(_, d)| d != device) {
                    return Err("the ENI's device is gone".into());
                }
                known.sources.extend(nets.iter().copied());
                self.take_from_others(*device, nets);
                Ok(())
            }
            HostChange::RemoveSources { device, nets, .. } => {
                if let Some(known) = self.devices.get_mut(device) {
                    known.sources.retain(|s| !nets.contains(s));
                }
                Ok(())
            }
            HostChange::RemoveEni { device, .. } => {
                self.devices.remove(device);
                Ok(())
            }
            HostChange::Flush { .. } => Ok(()),
        }
    }

    /// An address leaves by one ENI: the one named last.
    fn take_from_others(&mut self, device: DeviceIndex, nets: &[IpNetwork]) {
        let shared = |s: &IpNetwork| nets.iter().any(|n| n.contains(s.ip()) || s.contains(n.ip()));
        for (_, known) in self.devices.iter_mut().filter(|(other, _)| **other != device) {
            known.sources.retain(|source| !shared(source));
        }
    }

    /// Whether packets of this address leave by this device.
    #[must_use]
    pub fn sends(&self, ip: IpAddr, device: DeviceIndex) -> bool {
        self.devices.get(&device).is_some_and(|known| known.sources.iter().any(|n| n.contains(ip)))
    }
}
