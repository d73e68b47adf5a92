//! Changes the host's networking for the pool, on one thread that owns it and repairs it. Devices are
//! waited for before ([`device`]), so that one that does not appear holds up nothing there.

mod counters;
mod schedule;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_ec2::Imds;
use podwire_hostnet::{EniConfig, EniSlot, HostError, NodeConfig, NodeNet, Waker, Watch};
use podwire_pool::{DeviceIndex, HostChange, Input, Mac, NetworkCard, OpId};
use tokio::runtime::Handle as Runtime;
use tokio::sync::oneshot;

use crate::driver::{Handle, Message};
use crate::executors::device;
use crate::vital;
use worker::Worker;

pub use counters::HostCounters;

/// How long an attached ENI's device may take to appear. *Source*: our choice; EC2 needs 2–10 s (design §7, EC2 model).
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between questions to metadata about a new ENI's subnet. *Source*: our choice.
const METADATA_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
enum Job {
    Node(Box<NodeConfig>, oneshot::Sender<Result<(), HostError>>),
    Eni(OpId, Box<EniConfig>),
    Change(OpId, HostChange),
}

/// Makes the changes.
#[derive(Debug, Clone)]
pub struct HostExecutor {
    jobs: Sender<Job>,
    waker: Waker,
    counters: Arc<HostCounters>,
    driver: Handle,
    imds: Imds,
    mtu: u32,
    runtime: Runtime,
}

impl HostExecutor {
    /// Starts the thread. `net` and `watch` were opened in the node's namespace.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        net: NodeNet,
        watch: Watch,
        driver: Handle,
        imds: Imds,
        mtu: u32,
        runtime: Runtime,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let (waker, counters) = (watch.waker(), Arc::new(HostCounters::default()));
        let worker = Worker::new(net, watch, inbox, driver.clone(), Arc::clone(&counters));
        std::thread::Builder::new().name(vital::HOST_NETWORKING.into()).spawn(move || worker.run())?;
        Ok(Self { jobs, waker, counters, driver, imds, mtu, runtime })
    }

    /// What has been changed and repaired so far.
    #[must_use]
    pub fn counters(&self) -> Arc<HostCounters> {
        Arc::clone(&self.counters)
    }

    /// Makes the node's own part so.
    ///
    /// # Errors
    /// The kernel refuses, or the thread is gone.
    pub async fn apply_node(&self, node: NodeConfig) -> anyhow::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.queue(Job::Node(Box::new(node), done));
        Ok(outcome.await??)
    }

    /// Starts one change.
    pub fn change(&self, op: OpId, change: HostChange) {
        if let HostChange::ConfigureEni { .. } = change {
            let executor = self.clone();
            self.runtime.spawn(async move { executor.prepare(op, change).await });
        } else {
            self.queue(Job::Change(op, change));
        }
    }

    fn queue(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("the host networking thread is gone");
        }
        self.waker.wake();
    }

    async fn prepare(self, op: OpId, change: HostChange) {
        match self.eni_config(change).await {
            Ok(config) => self.queue(Job::Eni(op, Box::new(config))),
            Err(reason) => {
                tracing::warn!(%op, reason, "an ENI is not ready for configuration");
                let failed = Message::Happened(Input::Host { op, outcome: Err(reason.into()) });
                if self.driver.send(failed).await.is_err() {
                    tracing::debug!(%op, "host networking answered after the driver had stopped");
                }
            }
        }
    }

    /// Everything the thread needs, once the device is there.
    async fn eni_config(&self, change: HostChange) -> Result<EniConfig, String> {
        let HostChange::ConfigureEni { eni: _, mac, card, device, primary, subnet_cidr, sources } = change
        else {
            return Err("not a configuration of an ENI".into());
        };
        device::wait_for(mac, DEVICE_PATIENCE).await.map_err(|e| format!("{:#}", anyhow::Error::new(e)))?;
        let subnet = match subnet_cidr {
            Some(cidr) => cidr,
            None => self.subnet_of(mac).await?,
        };
        Ok(EniConfig { slot: slot(card, device), mac: mac.0, primary, subnet, mtu: self.mtu, sources })
    }

    /// Asks metadata until it knows the ENI: EC2's own answers do not carry the subnet's CIDR.
    async fn subnet_of(&self, mac: Mac) -> Result<IpNetwork, String> {
        let ask = async {
            loop {
                match self.imds.subnet_cidr(mac).await {
                    Ok(cidr) => return cidr,
                    Err(error) => tracing::debug!(%mac, %error, "metadata does not know the ENI yet"),
                }
                tokio::time::sleep(METADATA_PAUSE).await;
            }
        };
        let waited = tokio::time::timeout(DEVICE_PATIENCE, ask).await;
        waited.map_err(|_| {
            format!("instance metadata does not list {mac} after {} s", DEVICE_PATIENCE.as_secs())
        })
    }
}

const fn slot(card: NetworkCard, device: DeviceIndex) -> EniSlot {
    EniSlot { card: card.0, device: device.0 }
}
