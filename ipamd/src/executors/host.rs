//! Changes the host's networking for the pool. Quick changes go to one thread in order; configuring an ENI, which waits
//! for its device to appear, has a thread of its own so that nothing else waits with it.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_ec2::Imds;
use podwire_hostnet::{EniConfig, EniSlot, NodeNet};
use podwire_pool::{HostChange, Input, Mac, OpId};
use tokio::runtime::Handle as Runtime;

use crate::driver::{Handle, Message};

/// How long an attached ENI's device may take to appear. *Source*: our choice; EC2 needs 2–10 s (design §7, EC2 model).
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between questions to metadata about a new ENI's subnet. *Source*: our choice.
const METADATA_PAUSE: Duration = Duration::from_millis(250);

/// Makes the changes.
#[derive(Debug)]
pub struct HostExecutor {
    quick: Sender<(OpId, HostChange)>,
    shared: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    driver: Handle,
    imds: Imds,
    mtu: u32,
    runtime: Runtime,
}

impl HostExecutor {
    /// Starts the thread for quick changes. `net` was opened in the node's namespace.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(net: NodeNet, driver: Handle, imds: Imds, mtu: u32, runtime: Runtime) -> std::io::Result<Self> {
        let (quick, inbox) = channel();
        let shared = Shared { driver, imds, mtu, runtime };
        let reporter = shared.driver.clone();
        std::thread::Builder::new().name("hostnet".into()).spawn(move || serve(net, &inbox, &reporter))?;
        Ok(Self { quick, shared })
    }

    /// Starts one change.
    pub fn change(&self, op: OpId, change: HostChange) {
        if let HostChange::ConfigureEni { .. } = change {
            self.configure(op, change);
        } else if self.quick.send((op, change)).is_err() {
            tracing::error!(%op, "the host networking thread is gone");
        }
    }

    fn configure(&self, op: OpId, change: HostChange) {
        let shared = self.shared.clone();
        self.shared.runtime.spawn(async move {
            let outcome = configure(&shared, change).await.map_err(Into::into);
            report(&shared.driver, op, outcome).await;
        });
    }
}

async fn configure(shared: &Shared, change: HostChange) -> Result<(), String> {
    let HostChange::ConfigureEni { eni: _, mac, card, device, primary, subnet_cidr, sources } = change else {
        return Err("not a configuration of an ENI".into());
    };
    let subnet = match subnet_cidr {
        Some(cidr) => cidr,
        None => subnet_of(&shared.imds, mac).await?,
    };
    let slot = EniSlot { card: card.0, device: device.0 };
    let config = EniConfig { slot, mac: mac.0, primary, subnet, mtu: shared.mtu, sources };
    let work = move || NodeNet::open().and_then(|mut net| net.apply_eni(&config, DEVICE_PATIENCE));
    let done = shared.runtime.spawn_blocking(work).await.map_err(|e| e.to_string())?;
    done.map_err(|e| e.to_string())
}

/// Asks metadata until it knows the ENI: EC2's own answers do not carry the subnet's CIDR.
async fn subnet_of(imds: &Imds, mac: Mac) -> Result<IpNetwork, String> {
    let ask = async {
        loop {
            match imds.subnet_cidr(mac).await {
                Ok(cidr) => return cidr,
                Err(error) => tracing::debug!(%mac, %error, "metadata does not know the ENI yet"),
            }
            tokio::time::sleep(METADATA_PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(DEVICE_PATIENCE, ask).await;
    waited.map_err(|_| format!("instance metadata does not list {mac} after {} s", DEVICE_PATIENCE.as_secs()))
}

async fn report(driver: &Handle, op: OpId, outcome: Result<(), Box<str>>) {
    if let Err(reason) = &outcome {
        tracing::warn!(%op, %reason, "host networking change failed");
    }
    if driver.send(Message::Happened(Input::Host { op, outcome })).await.is_err() {
        tracing::debug!(%op, "host networking answered after the driver had stopped");
    }
}

fn serve(mut net: NodeNet, inbox: &Receiver<(OpId, HostChange)>, driver: &Handle) {
    while let Ok((op, change)) = inbox.recv() {
        let outcome = make(&mut net, &change).map_err(Into::into);
        if let Err(reason) = &outcome {
            tracing::warn!(%op, %reason, ?change, "host networking change failed");
        }
        if driver.send_blocking(Message::Happened(Input::Host { op, outcome })).is_err() {
            break;
        }
    }
}

fn make(net: &mut NodeNet, change: &HostChange) -> Result<(), String> {
    let slot = |card: &podwire_pool::NetworkCard, device: &podwire_pool::DeviceIndex| EniSlot {
        card: card.0,
        device: device.0,
    };
    let done = match change {
        HostChange::AddSources { card, device, nets } => net.add_sources(slot(card, device), nets),
        HostChange::RemoveSources { card, device, nets } => net.remove_sources(slot(card, device), nets),
        HostChange::RemoveEni { eni: _, card, device } => net.remove_eni(slot(card, device)),
        HostChange::Flush { address } => flush(net, *address),
        HostChange::ConfigureEni { .. } => return Err("configuring an ENI is not a quick change".into()),
    };
    done.map_err(|e| e.to_string())
}

fn flush(net: &mut NodeNet, address: IpAddr) -> Result<(), podwire_hostnet::HostError> {
    net.flush_address(address)
}
