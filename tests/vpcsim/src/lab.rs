//! A whole VPC in this process: cloud, servers, fabric and nodes, gone with everything in it when dropped.
//!
//! # Cleaning up
//! Dropping the lab (also by a panic) ends every process of its nodes and removes all its namespaces; handles kept
//! longer only fail. When the process dies instead — Ctrl-C, SIGTERM, even SIGKILL — the kernel closes the keepers'
//! pipes and they do the same ([`crate::ns::Keeper`]): no signal handler is needed, and none is installed. Should a
//! keeper be killed as well, `vpcsim down --all` finds what is left, and so does the next lab of that name.

mod registration;
mod spec;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};

use crate::api::{self, wall_clock};
use crate::cloud::{Cloud, Delay, InstanceId, InstanceSpec};
use crate::fabric::{ENDPOINT, Fabric, IMDS};
use crate::imds;
use crate::internet::Internet;
use crate::node::{Node, PrimaryAddress};
use crate::ns::Keeper;
use crate::servers::{Servers, listen};
use crate::trouble::TroubleSettings;

pub use registration::{Registration, clear, directory_of, names, owner};
pub use spec::{LabSpec, NodeSpec};

/// A running lab. It ends in this order: servers, nodes, then the other fields as they stand; the name last.
#[derive(Debug)]
pub struct Lab {
    servers: Option<Servers>,
    nodes: Mutex<BTreeMap<String, Node>>,
    internet: Internet,
    fabric: Fabric,
    cloud: Arc<Mutex<Cloud>>,
    endpoint: SocketAddr,
    _keeper: Keeper,
    registration: Registration,
}

impl Lab {
    /// Brings everything up. Needs root, `ip` and `nft`.
    ///
    /// # Errors
    /// The name is taken, the spec contradicts itself, or the kernel refuses.
    pub fn start(spec: LabSpec) -> anyhow::Result<Self> {
        let registration = Registration::take(&spec.name)?;
        let ranges = spec.cloud.vpc_cidrs.clone();
        let remove = registration.directory().to_str();
        let keeper = Keeper::start(&format!("{}/fabric", spec.name), remove, crate::fabric::furnish)?;
        let fabric = Fabric::new(&keeper, &ranges)?;
        let servers = Servers::start()?;
        let internet = Internet::start(&spec.name, &fabric, &ranges, &servers)?;
        let mut cloud =
            Cloud::new(&spec.cloud, Box::new(fabric.clone())).context("the VPC's spec is wrong")?;
        cloud.set_trouble(spec.trouble);
        let cloud = Arc::new(Mutex::new(cloud));
        let endpoint = serve(&servers, &fabric, &cloud, spec.loopback, spec.imds_hop_limit)?;
        let lab = Self {
            servers: Some(servers),
            nodes: Mutex::default(),
            internet,
            fabric,
            cloud,
            endpoint,
            _keeper: keeper,
            registration,
        };
        for node in spec.nodes {
            lab.add_node(node)?;
        }
        Ok(lab)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.registration.name()
    }

    /// Runs an instance and boots its node: the primary ENI is plugged and configured when this returns.
    ///
    /// # Errors
    /// The name is taken, EC2's rules forbid it, or the kernel refuses. Nothing is left then.
    pub fn add_node(&self, spec: NodeSpec) -> anyhow::Result<Node> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.contains_key(&spec.name) {
            bail!("node {} is there already", spec.name);
        }
        let mut instance = spec.instance;
        instance.subnet = self.subnet(&instance.subnet, nodes.len())?;
        let id = instance.id.get_or_insert_with(|| instance_id(self.name(), &spec.name)).clone();
        let node = Node::boot(self.name(), &spec.name, &id)?;
        self.fabric.connect_host(&id, node.pid());
        if let Err(error) = self.launch(&node, &instance) {
            self.discard(&node);
            return Err(error).with_context(|| format!("cannot add node {}", spec.name));
        }
        nodes.insert(spec.name, node.clone());
        Ok(node)
    }

    /// Terminates the instance and ends its node.
    ///
    /// # Errors
    /// There is no such node, or the kernel refuses.
    pub fn remove_node(&self, name: &str) -> anyhow::Result<()> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.remove(name).with_context(|| format!("there is no node {name}"))?;
        self.discard(&node);
        Ok(())
    }

    /// Ends everything on the node and boots it again, with its ENIs and its disk; see [`Node::restart`].
    ///
    /// # Errors
    /// There is no such node, or the kernel refuses.
    pub fn reboot_node(&self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name).with_context(|| format!("there is no node {name}"))?;
        node.restart()?;
        self.fabric.reconnect_host(node.instance_id(), node.pid())?;
        let address = node.primary().context("the node was never configured")?;
        node.configure_primary(address)?;
        self.fabric.wait_for_carrier(&self.primary_eni(&node)?)
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every node, by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// EC2's state, shared with the servers. Do not keep it locked: they wait.
    #[must_use]
    pub fn cloud(&self) -> Arc<Mutex<Cloud>> {
        Arc::clone(&self.cloud)
    }

    /// The same, locked for one expression.
    pub fn with_cloud<T>(&self, f: impl FnOnce(&mut Cloud) -> T) -> T {
        f(&mut lock(&self.cloud))
    }

    /// From now on this trouble and no other.
    pub fn trouble(&self, settings: TroubleSettings) {
        lock(&self.cloud).set_trouble(settings);
    }

    /// The router: counters, captures.
    #[must_use]
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The host outside.
    #[must_use]
    pub fn internet(&self) -> &Internet {
        &self.internet
    }

    /// EC2's endpoint for programs on the machine itself: `AWS_ENDPOINT_URL_EC2`.
    #[must_use]
    pub fn outside_endpoint(&self) -> String {
        format!("http://{}", self.endpoint)
    }

    /// EC2's endpoint for programs in a node: `AWS_ENDPOINT_URL_EC2`.
    #[must_use]
    pub fn node_endpoint(&self) -> String {
        format!("http://{ENDPOINT}")
    }

    /// What its directory under `/run/vpcsim` is.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.registration.directory()
    }

    /// The same as dropping it, for readers.
    pub fn shutdown(self) {
        drop(self);
    }

    /// The subnet that `wanted` means: an id, a CIDR, or the next in turn.
    fn subnet(&self, wanted: &str, turn: usize) -> anyhow::Result<String> {
        let cloud = lock(&self.cloud);
        let mut subnets = cloud.subnets_seen(Delay::NONE);
        if wanted.is_empty() {
            let count = cloud.spec().subnets.len().max(1);
            let next = subnets.nth(turn % count).context("the VPC has no subnet")?;
            return Ok(next.id.to_string());
        }
        let meant = subnets.find(|subnet| subnet.id.as_str() == wanted || subnet.cidr.to_string() == wanted);
        Ok(meant.with_context(|| format!("the VPC has no subnet {wanted}"))?.id.to_string())
    }

    fn launch(&self, node: &Node, instance: &InstanceSpec) -> anyhow::Result<()> {
        let view = {
            let mut cloud = lock(&self.cloud);
            let launched = cloud.run_instance(wall_clock(), instance)?;
            cloud.true_view(&launched.instance).context("the instance does not run")?
        };
        let primary = view.interfaces.first().context("the instance has no primary ENI")?;
        let main = primary.vpc_cidrs.first().context("the VPC has no range")?;
        node.configure_primary(PrimaryAddress {
            address: view.local_ipv4,
            subnet: primary.subnet_cidr,
            resolver: Ipv4Addr::from(u32::from(main.network()) + 2),
            ipv6: primary.ipv6s.first().copied(),
        })?;
        self.fabric.wait_for_carrier(primary.eni.as_str())
    }

    fn primary_eni(&self, node: &Node) -> anyhow::Result<String> {
        let instance = InstanceId::from(node.instance_id());
        let view = lock(&self.cloud).true_view(&instance).context("the instance does not run")?;
        Ok(view.interfaces.first().context("the instance has no primary ENI")?.eni.to_string())
    }

    /// The devices vanish with the node; the cloud unplugs its ports when the instance has ended.
    fn discard(&self, node: &Node) {
        let instance = InstanceId::from(node.instance_id());
        if let Err(error) = lock(&self.cloud).terminate_instance(wall_clock(), &instance) {
            // Its launch failed: nothing to terminate.
            tracing::debug!(%error, %instance, "not terminated");
        }
        node.power_off();
        self.fabric.disconnect_host(node.instance_id());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.servers.take());
        for node in self.nodes() {
            node.power_off();
        }
    }
}

/// Starts every server of the lab; answers where the loopback one listens.
fn serve(
    servers: &Servers,
    fabric: &Fabric,
    cloud: &Arc<Mutex<Cloud>>,
    loopback: SocketAddr,
    hop_limit: u32,
) -> anyhow::Result<SocketAddr> {
    let at = |address: Ipv4Addr| SocketAddr::from(SocketAddrV4::new(address, 80));
    let metadata = imds::serve(listen(fabric.namespaces(), at(IMDS))?, Arc::clone(cloud), hop_limit);
    servers.spawn(reported("metadata", metadata));
    let inside = listen(fabric.namespaces(), at(ENDPOINT))?;
    servers.spawn(reported("EC2", api::serve(inside, Arc::clone(cloud), pending())));
    let outside = TcpListener::bind(loopback).with_context(|| format!("cannot listen on {loopback}"))?;
    let endpoint = outside.local_addr()?;
    servers.spawn(reported("EC2", api::serve(outside, Arc::clone(cloud), pending())));
    servers.spawn(api::keep_time(Arc::clone(cloud), pending()));
    Ok(endpoint)
}

/// A server that ends before its lab is a fault worth a word.
async fn reported(name: &'static str, server: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, name, "a server of the lab ended");
    }
}

fn lock(cloud: &Mutex<Cloud>) -> MutexGuard<'_, Cloud> {
    cloud.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same lab and name make the same id, as far as EC2's shape allows: 17 hexadecimal digits, the first 0.
fn instance_id(lab: &str, node: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (lab, node).hash(&mut hasher);
    format!("i-0{:016x}", hasher.finish())
}
