//! The node's kernel as it truly is: which ENIs are set up, and what leaves by which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_pool::{DeviceIndex, HostChange};

use crate::ec2::Ec2;

/// The kernel's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Host {
    /// Set-up devices, with what leaves by them.
    pub devices: BTreeMap<DeviceIndex, BTreeSet<IpNetwork>>,
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
                self.devices.insert(*device, sources.iter().copied().collect());
                Ok(())
            }
            HostChange::AddSources { device, nets, .. } => {
                let known = self.devices.get_mut(device).ok_or("the ENI is not set up")?;
                known.extend(nets.iter().copied());
                for (other, sources) in &mut self.devices {
                    if other != device {
                        sources.retain(|s| !nets.contains(s));
                    }
                }
                Ok(())
            }
            HostChange::RemoveSources { device, nets, .. } => {
                if let Some(known) = self.devices.get_mut(device) {
                    known.retain(|s| !nets.contains(s));
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

    /// Whether packets of this address leave by this device.
    #[must_use]
    pub fn sends(&self, ip: IpAddr, device: DeviceIndex) -> bool {
        self.devices.get(&device).is_some_and(|nets| nets.iter().any(|n| n.contains(ip)))
    }
}
