//! What is read before the pool is made: metadata, ledger, checkpoint, and the kernel's links.

use std::time::Duration;

use anyhow::Context;
use podwire_config::Settings;
use podwire_ec2::imds::NodeFacts;
use podwire_ec2::{Ec2Client, Ec2Options, Identity, Imds, TagSet};
use podwire_hostnet::{Doomed, NodeNet, PodLink, Watch, chain};
use podwire_ledger::{Aside, Ledger, Opened};
use podwire_pool::BootId;
use tokio::runtime::Handle as Runtime;

use crate::driver::Handle;
use crate::executors::host::HostExecutor;
use crate::start::{self, Beginning, Past};
use crate::takeover::{Clocks, Kernel};
use crate::{clock, install, opening, past};

/// Pause between attempts to reach metadata or EC2 at start. *Source*: our choice.
const START_PAUSE: Duration = Duration::from_secs(1);

/// What is known of this node before the pool is made.
pub(crate) struct Node {
    pub(crate) imds: Imds,
    identity: Identity,
    pub(crate) facts: NodeFacts,
    pub(crate) ec2: Ec2Client,
    pub(crate) boot: BootId,
}

impl Node {
    pub(crate) async fn read(settings: &Settings) -> anyhow::Result<Self> {
        let imds = Imds::new();
        let (identity, facts) = read_metadata(&imds).await;
        let (instance, instance_type) = (&identity.instance, &identity.instance_type);
        tracing::info!(%instance, instance_type, region = identity.region, "starting");
        let ec2 = Ec2Client::new(ec2_options(settings, &identity, &facts)?).await;
        Ok(Self { imds, identity, facts, ec2, boot: boot_id()? })
    }

    /// Makes the pool from what the ledger, the kernel and this boot say.
    pub(crate) async fn begin(&self, settings: &Settings) -> anyhow::Result<(Beginning, Ledger)> {
        let pool_settings =
            crate::translate::pool_settings(settings, &self.identity, self.boot.clone(), &self.ec2).await;
        let (mut ledger, opened) = open_ledger(settings, &self.identity, &self.boot)?;
        let beside = past::checkpoint(&settings.paths.backing_store)?;
        let mut net = open_net()?;
        let pods = sweep(&mut net)?;
        let unmarked = net.unmarked_links().context("cannot list the node's veths")?;
        let recovered = matches!(&opened, Opened::Recovered(found) if found.same_boot);
        let past = Past {
            opened,
            beside: &beside,
            kernel: Kernel { pods: &pods, unmarked: &unmarked },
            clocks: Clocks { now: clock::now(), booted_unix_ns: clock::booted_unix_ns() },
        };
        let same_boot = recovered || past.of_this_boot();
        let launched = start::parse_utc(&self.identity.pending_time);
        let begun = start::begin(pool_settings, past, start::is_first_boot(clock::booted_at(), launched));
        if begun.take_over.is_some() {
            ledger.disown();
        }
        // From the snapshot on that founds this life's ledger, or goes on with the last one, the checkpoint is contained in it.
        ledger.contains(beside.checkpoint().map(|file| &*file.mark));
        match &begun.take_over {
            Some(take) if !take.records.is_empty() => {
                past::enter(take, &mut net, &opening::own_plugin(settings))
            }
            Some(_) | None if !same_boot => install::hide_conflist(&settings.paths.cni_conf_dir)?,
            Some(_) | None => {}
        }
        Ok((begun, ledger))
    }

    pub(crate) fn host(&self, settings: &Settings, driver: &Handle) -> anyhow::Result<HostExecutor> {
        let mtu = settings.network.eni_mtu;
        let watch = Watch::open().context("cannot watch the host's networking")?;
        let (net, imds) = (open_net()?, self.imds.clone());
        Ok(HostExecutor::start(net, watch, driver.clone(), imds, mtu, Runtime::current())?)
    }
}

/// Lists the pods' links, after deleting those whose DEL an earlier life of the daemon did not finish.
fn sweep(net: &mut NodeNet) -> anyhow::Result<Vec<PodLink>> {
    let pods = net.pods().context("cannot list pod links")?;
    let left = pods.iter().filter(|pod| pod.doomed);
    let doomed: Vec<Doomed> =
        left.map(|p| Doomed { attachment: p.attachment.clone(), names: vec![p.name.clone()] }).collect();
    for error in net.delete_pods(&doomed).into_iter().filter_map(Result::err) {
        tracing::warn!(error = chain(&error), "a link left over from an earlier DEL cannot be deleted");
    }
    Ok(pods.into_iter().filter(|pod| !pod.doomed).collect())
}

pub(crate) fn open_net() -> anyhow::Result<NodeNet> {
    NodeNet::open().context("cannot open the host's networking")
}

/// Metadata is needed to start and comes back by itself: wait for it, saying so.
async fn read_metadata(imds: &Imds) -> (Identity, NodeFacts) {
    loop {
        match tokio::join!(imds.identity(), imds.node_facts()) {
            (Ok(identity), Ok(facts)) => return (identity, facts),
            (Err(error), _) | (_, Err(error)) => {
                let error = error.chain();
                tracing::error!(error, "cannot start yet");
            }
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

fn ec2_options(settings: &Settings, identity: &Identity, facts: &NodeFacts) -> anyhow::Result<Ec2Options> {
    Ok(Ec2Options {
        region: identity.region.clone(),
        endpoint: settings.eni.ec2_endpoint.clone(),
        timeout: settings.eni.ec2_timeout,
        instance: identity.instance.clone(),
        zone: identity.zone.clone(),
        vpc: facts.vpc.clone(),
        tags: TagSet {
            instance: identity.instance.to_string(),
            cluster: settings.eni.cluster_name.clone(),
            additional: settings.eni.additional_tags.clone().into_iter().collect(),
        },
        token_salt: random_name()?.chars().take(20).collect(),
    })
}

/// A name that nothing else has, of letters and digits.
fn random_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().chars().filter(|c| *c != '-').collect())
}

fn boot_id() -> anyhow::Result<BootId> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(BootId::new(text.trim()))
}

fn open_ledger(settings: &Settings, identity: &Identity, boot: &BootId) -> anyhow::Result<(Ledger, Opened)> {
    let dir = &settings.paths.ledger_dir;
    let (instance, boot) = (identity.instance.clone(), boot.clone());
    let (cooldown, lineage) = (settings.eni.cooldown, random_name()?.into());
    let who = podwire_ledger::Identity { instance, boot, cooldown, lineage };
    let (ledger, opened) =
        Ledger::open(dir, &who).with_context(|| format!("cannot open the ledger in {}", dir.display()))?;
    tell_opened(&opened);
    Ok((ledger, opened))
}

fn tell_opened(opened: &Opened) {
    let lost = |what: &str, aside: &Aside| {
        let where_to = if aside.is_in_place() {
            "the disk takes no copy; it is set aside before another takes its place"
        } else {
            "it is set aside"
        };
        tracing::error!(path = %aside.path.display(), removed = ?aside.removed, "the ledger {what}; {where_to}, keep the file as evidence");
    };
    match opened {
        Opened::Fresh => tracing::info!("no ledger yet"),
        Opened::Recovered(found) => {
            let (records, same_boot, truncated) =
                (found.records.len(), found.same_boot, found.truncated_tail);
            tracing::info!(records, same_boot, truncated, damaged = found.damaged, "ledger read");
            if let Some(aside) = &found.aside {
                lost("is damaged at its end", aside);
            }
        }
        Opened::Foreign { instance, aside } => lost(&format!("belongs to instance {instance}"), aside),
        Opened::Newer { format, aside } => lost(&format!("has format {format} of a later version"), aside),
        Opened::Corrupt { reason, aside } => lost(&format!("cannot be read: {reason}"), aside),
    }
}
