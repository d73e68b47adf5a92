//! The VPC's router and the hypervisors' virtual network cards, as one network namespace.
//!
//! An ENI is a veth pair: one end is a *port* in the fabric, the other is born inside its node with the ENI's MAC. The
//! fabric answers ARP for what is assigned somewhere, delivers by permanent neighbours (as AWS does: it never asks the
//! guest), drops sources that are not assigned to the port, and enforces security groups. Everything else of the VPC
//! range is unreachable.

mod counters;
mod port;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};
use ipnetwork::{IpNetwork, Ipv4Network};

use crate::ns::{Keeper, Namespaces};
use crate::wires::{GroupRule, Peer, Port, Wires};
use crate::{node, tools};

pub use counters::Drops;
use port::PluggedPort;

/// Where the instance metadata service listens. Source: EC2 User Guide, "Access instance metadata".
pub const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where EC2's API answers inside the fabric, on port 80. Our choice: TEST-NET-1 (RFC 5737), outside every VPC.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The fabric's side of the link to the internet host (TEST-NET-2, RFC 5737).
pub(crate) const IGW: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Prepares a keeper's namespaces to become a fabric.
///
/// # Errors
/// The kernel refuses a mount.
pub fn furnish() -> anyhow::Result<()> {
    node::fresh_sys()
}

/// Handle to the fabric of one lab; clones are the same fabric.
#[derive(Debug, Clone)]
pub struct Fabric(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    namespaces: Namespaces,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Keeper's process id by instance.
    hosts: BTreeMap<String, u32>,
    ports: BTreeMap<String, PluggedPort>,
    groups: BTreeSet<String>,
    /// Ports made so far; names are not used again.
    made: u32,
}

impl Fabric {
    /// Sets the router up in the keeper's namespace, for these VPC ranges.
    ///
    /// # Errors
    /// `ip` or `nft` is missing or refuses.
    pub fn new(keeper: &Keeper, ranges: &[Ipv4Network]) -> anyhow::Result<Self> {
        let namespaces = keeper.namespaces().clone();
        namespaces.enter(|| {
            sysctls()?;
            let mut batch = format!("addr add {IMDS}/32 dev lo\naddr add {ENDPOINT}/32 dev lo\n");
            for range in ranges {
                writeln!(batch, "route add unreachable {range} metric 4294967295")?;
            }
            tools::ip(&batch)?;
            tools::nft(&ruleset::base(&IMDS.to_string(), &ENDPOINT.to_string()))
        })??;
        Ok(Self(Arc::new(Inner { namespaces, state: Mutex::default() })))
    }

    /// The router's namespaces: listen there for servers of the VPC, capture packets there.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.0.namespaces
    }

    /// ENIs of `instance` will appear in the namespaces of this process from now on.
    pub fn connect_host(&self, instance: &str, keeper_pid: u32) {
        self.state().hosts.insert(instance.to_owned(), keeper_pid);
    }

    /// The instance has booted again, with this keeper: its ENIs appear in the new namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reconnect_host(&self, instance: &str, keeper_pid: u32) -> anyhow::Result<()> {
        let mut state = self.state();
        state.hosts.insert(instance.to_owned(), keeper_pid);
        let mut ports: Vec<_> = state.ports.values().filter(|port| port.spec.instance == instance).collect();
        ports.sort_by_key(|port| (port.spec.card, port.spec.device));
        self.0.namespaces.enter(|| ports.iter().try_for_each(|port| port.replug(keeper_pid)))?
    }

    /// Nothing can be plugged into the instance any more. Its ports stay until they are unplugged, without devices
    /// once its namespace has vanished.
    pub fn disconnect_host(&self, instance: &str) {
        self.state().hosts.remove(instance);
    }

    /// The fabric's device of an ENI (for captures and counters).
    #[must_use]
    pub fn port_device(&self, eni: &str) -> Option<String> {
        self.state().ports.get(eni).map(|port| port.device.clone())
    }

    /// Waits until the port carries packets. A veth end that was up before its peer drops what is sent to it until the
    /// kernel's link watcher has run, which on a busy machine takes a while after the node has set its end up.
    ///
    /// # Errors
    /// The ENI is not plugged, or its node has not set it up within ten seconds.
    pub fn wait_for_carrier(&self, eni: &str) -> anyhow::Result<()> {
        let device = self.port_device(eni).with_context(|| format!("{eni} is not plugged"))?;
        self.0.namespaces.enter(|| port::wait_for_carrier(&device))?
    }

    /// What was dropped so far, and why.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn drops(&self) -> anyhow::Result<Drops> {
        self.0.namespaces.enter(counters::drops)?
    }

    /// Packets the fabric received from this ENI so far: proves by which ENI traffic left a node.
    ///
    /// # Errors
    /// The ENI is not plugged.
    pub fn received_from(&self, eni: &str) -> anyhow::Result<u64> {
        let device = self.port_device(eni).with_context(|| format!("{eni} is not plugged"))?;
        self.0.namespaces.enter(|| counters::received(&device))?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change below is written to the state only after the kernel took it, so a panic leaves it true.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the groups that are not there yet.
    fn ensure_groups<'a>(
        &self,
        state: &mut State,
        groups: impl IntoIterator<Item = &'a String>,
    ) -> anyhow::Result<()> {
        let new: Vec<_> = groups.into_iter().filter(|group| !state.groups.contains(*group)).collect();
        if new.is_empty() {
            return Ok(());
        }
        if let Some(odd) = new.iter().find(|group| !is_group_name(group)) {
            bail!("{odd:?} cannot name a security group");
        }
        let text: String = new.iter().map(|group| ruleset::add_group(group)).collect();
        self.0.namespaces.enter(|| tools::nft(&text))??;
        state.groups.extend(new.into_iter().cloned());
        Ok(())
    }
}

impl Wires for Fabric {
    fn plug(&mut self, spec: &Port) -> anyhow::Result<()> {
        let mut state = self.state();
        if state.ports.contains_key(&spec.eni) {
            bail!("{} is plugged already", spec.eni);
        }
        let keeper = *state
            .hosts
            .get(&spec.instance)
            .with_context(|| format!("instance {} has no namespace", spec.instance))?;
        self.ensure_groups(&mut state, &spec.groups)?;
        state.made += 1;
        let port = PluggedPort::new(spec.clone(), format!("f-{}", state.made));
        self.0.namespaces.enter(|| port.create(keeper))??;
        state.ports.insert(spec.eni.clone(), port);
        Ok(())
    }

    fn unplug(&mut self, eni: &str) -> anyhow::Result<()> {
        let mut state = self.state();
        let port = state.ports.get(eni).with_context(|| format!("{eni} is not plugged"))?;
        self.0.namespaces.enter(|| port.remove())??;
        state.ports.remove(eni);
        Ok(())
    }

    fn route(&mut self, eni: &str, net: IpNetwork) -> anyhow::Result<()> {
        let mut state = self.state();
        let port = state.ports.get_mut(eni).with_context(|| format!("{eni} is not plugged"))?;
        self.0.namespaces.enter(|| port.add_route(net))??;
        port.routes.insert(net);
        Ok(())
    }

    fn unroute(&mut self, eni: &str, net: IpNetwork) -> anyhow::Result<()> {
        let mut state = self.state();
        let port = state.ports.get_mut(eni).with_context(|| format!("{eni} is not plugged"))?;
        if !port.routes.contains(&net) {
            bail!("{net} is not routed to {eni}");
        }
        self.0.namespaces.enter(|| port.remove_route(net))??;
        port.routes.remove(&net);
        Ok(())
    }

    fn set_groups(&mut self, eni: &str, groups: &[String]) -> anyhow::Result<()> {
        let mut state = self.state();
        self.ensure_groups(&mut state, groups)?;
        let port = state.ports.get_mut(eni).with_context(|| format!("{eni} is not plugged"))?;
        self.0.namespaces.enter(|| port.regroup(groups))??;
        port.spec.groups = groups.to_vec();
        Ok(())
    }

    fn set_group_rules(&mut self, group: &str, ingress: &[GroupRule]) -> anyhow::Result<()> {
        let mut state = self.state();
        let named = ingress.iter().filter_map(|rule| match &rule.peer {
            Peer::Group(name) => Some(name),
            Peer::Cidr(_) => None,
        });
        self.ensure_groups(&mut state, named.chain([&group.to_owned()]))?;
        let text = ruleset::group_rules(group, ingress);
        self.0.namespaces.enter(|| tools::nft(&text))?
    }
}

/// Group ids become parts of nft names.
fn is_group_name(group: &str) -> bool {
    !group.is_empty() && group.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// A router that does not second-guess: proxies ARP at once on every new port, accepts asymmetric paths, sends no
/// redirects (all of which new devices inherit from `default`).
fn sysctls() -> anyhow::Result<()> {
    for (name, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/default/proxy_arp", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/conf/default/accept_dad", "0"),
    ] {
        let path = format!("/proc/sys/net/{name}");
        match fs::write(&path, value) {
            // A kernel without IPv6 has no IPv6 to forward.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && name.starts_with("ipv6") => {}
            other => other.with_context(|| format!("cannot set {path}"))?,
        }
    }
    Ok(())
}
