//! Node-wide host networking: applied before the first pod, kept true while the VPC grows.

use std::time::Duration;

use anyhow::Context;
use ipnetwork::IpNetwork;
use podwire_config::settings::network::RandomizeSnat;
use podwire_config::{Settings, settings};
use podwire_ec2::imds::{Imds, NodeFacts};
use podwire_hostnet::features::{self, Missing, Wanted};
use podwire_hostnet::{Layout, NodeConfig, RandomSnat};

use crate::executors::host::HostExecutor;

/// Pause between looks at the VPC's CIDRs. *Source*: incumbent-behaviour §5.1, VPC CIDR refresh. Metadata only, no EC2.
const REFRESH: Duration = Duration::from_secs(30);

/// What the node's networking should be.
#[must_use]
pub fn config(facts: &NodeFacts, settings: &Settings) -> NodeConfig {
    let network = &settings.network;
    NodeConfig {
        primary_mac: facts.primary_mac.0,
        primary_ip: facts.primary_ip,
        vpc_cidrs: facts.vpc_cidrs.clone(),
        external_snat: network.external_snat,
        exclude_snat_cidrs: network.exclude_snat_cidrs.iter().copied().map(IpNetwork::V4).collect(),
        random_snat: match network.randomize_snat {
            RandomizeSnat::Prng => RandomSnat::Prng,
            RandomizeSnat::HashRandom => RandomSnat::HashRandom,
            RandomizeSnat::None => RandomSnat::None,
        },
        node_port_support: network.node_port_support,
        external_service_cidrs: network.external_service_cidrs.iter().copied().map(IpNetwork::V4).collect(),
        veth_prefix: network.veth_prefix.clone(),
        eni_mtu: network.eni_mtu,
        layout: match network.layout {
            settings::network::Layout::Constant => Layout::Constant,
            settings::network::Layout::Compat => Layout::Compat,
        },
    }
}

/// Tells what the kernel lacks, before anything is changed.
///
/// # Errors
/// It lacks something without which the node cannot serve pods.
pub fn try_kernel(config: &NodeConfig) -> anyhow::Result<()> {
    let wanted = Wanted { snat: !config.external_snat, node_port: config.node_port_support };
    let missing = features::missing(wanted).context("cannot ask the kernel what it can do")?;
    for Missing { feature, lost, required } in &missing {
        tracing::error!(feature, lost, required, "the kernel lacks a feature");
    }
    let required: Vec<&str> = missing.iter().filter(|m| m.required).map(|m| m.feature).collect();
    anyhow::ensure!(
        required.is_empty(),
        "the kernel lacks {}; load the modules or use another kernel (5.10 or newer)",
        required.join(", ")
    );
    Ok(())
}

/// Looks at the VPC's CIDRs until the daemon ends; a new one is exempt from SNAT from then on.
pub async fn keep(imds: Imds, host: HostExecutor, mut config: NodeConfig) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let mac = podwire_pool::Mac(config.primary_mac);
        match imds.vpc_cidrs(mac).await {
            Ok(cidrs) if cidrs.is_empty() => {
                tracing::warn!("instance metadata lists no CIDR of the VPC; the known ones stay")
            }
            Ok(cidrs) if cidrs != config.vpc_cidrs => {
                tracing::info!(?cidrs, "the VPC's CIDRs changed");
                let changed = NodeConfig { vpc_cidrs: cidrs, ..config.clone() };
                match host.apply_node(changed.clone()).await {
                    Ok(()) => config = changed,
                    Err(error) => {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "node networking not updated; tried again"
                        );
                    }
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the VPC's CIDRs cannot be read now"),
        }
    }
}
