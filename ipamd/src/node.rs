//! Node-wide host networking: applied before the first pod, kept true while the VPC grows.

use std::time::Duration;

use anyhow::Context;
use ipnetwork::IpNetwork;
use podwire_config::settings::network::RandomizeSnat;
use podwire_config::{Settings, settings};
use podwire_ec2::imds::{Imds, ImdsError, NodeFacts};
use podwire_hostnet::features::{self, Missing, Wanted};
use podwire_hostnet::{Layout, NodeConfig, RandomSnat};

use crate::executors::host::HostExecutor;

/// Pause between looks at the VPC's CIDRs. *Source*: incumbent-behaviour §5.1, VPC CIDR refresh. Metadata only, no EC2.
const REFRESH: Duration = Duration::from_secs(30);
/// Looks in a row that lack the same CIDRs before these are believed to be gone. *Source*: our choice; removing a CIDR from
/// a VPC is rare and never urgent.
const GONE_AFTER: u32 = 5;

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
    let mut sightings = Sightings::default();
    loop {
        tokio::time::sleep(REFRESH).await;
        let mac = podwire_pool::Mac(config.primary_mac);
        let seen = match imds.vpc_cidrs(mac).await {
            Ok(seen) => seen,
            Err(error @ ImdsError::Nonsense { .. }) => {
                tracing::warn!(%error, "the known CIDRs of the VPC stay");
                continue;
            }
            Err(error @ (ImdsError::Unreadable { .. } | ImdsError::Absent { .. })) => {
                tracing::debug!(%error, "the VPC's CIDRs cannot be read now");
                continue;
            }
        };
        let cidrs = sightings.after(&config.vpc_cidrs, &seen);
        if cidrs == config.vpc_cidrs {
            continue;
        }
        tracing::info!(?cidrs, "the VPC's CIDRs changed");
        let changed = NodeConfig { vpc_cidrs: cidrs, ..config.clone() };
        match host.apply_node(changed.clone()).await {
            Ok(()) => config = changed,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "node networking not updated; tried again");
            }
        }
    }
}

/// What metadata left out lately. It may lag and omit (design D1), and a CIDR that is forgotten puts the node's address in
/// front of pods' new connections to it: only a list that lacks the same ones again and again is believed.
#[derive(Debug, Default)]
struct Sightings {
    missing: Vec<IpNetwork>,
    looks: u32,
}

impl Sightings {
    /// What the VPC's CIDRs are after a look: `known` as it is when metadata only tells them in another order.
    fn after(&mut self, known: &[IpNetwork], seen: &[IpNetwork]) -> Vec<IpNetwork> {
        let missing: Vec<IpNetwork> = known.iter().copied().filter(|cidr| !seen.contains(cidr)).collect();
        self.looks = if missing == self.missing { self.looks.saturating_add(1) } else { 1 };
        self.missing = missing;
        let gone = |cidr: &&IpNetwork| self.looks >= GONE_AFTER && self.missing.contains(cidr);
        let mut cidrs: Vec<IpNetwork> = known.iter().filter(|cidr| !gone(cidr)).copied().collect();
        for cidr in seen {
            if !cidrs.contains(cidr) {
                cidrs.push(*cidr);
            }
        }
        cidrs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }

    proptest::proptest! {
        /// A prefix that the settings take is one that host networking and the plugin take, and the other way round.
        #[test]
        fn one_rule_for_veth_prefixes(prefix in "eth|lo|vlan|[ -~]{1,5}|.{1,3}") {
            let name = settings::network::VETH_PREFIX.name;
            let source = std::collections::BTreeMap::from([(name, prefix.as_str())]);
            let taken = podwire_hostnet::check_prefix(&prefix).is_ok();
            proptest::prop_assert_eq!(Settings::parse(&source).is_ok(), taken);
        }
    }

    #[test]
    fn cidrs_in_another_order_are_the_same() {
        let known = cidrs(&["10.0.0.0/16", "100.64.0.0/16"]);
        let mut sightings = Sightings::default();
        for _ in 0..2 * GONE_AFTER {
            let seen = cidrs(&["100.64.0.0/16", "10.0.0.0/16", "10.0.0.0/16"]);
            assert_eq!(sightings.after(&known, &seen), known);
        }
    }

    #[test]
    fn cidr_that_is_added_counts_at_once_although_another_is_missing() {
        let known = cidrs(&["10.0.0.0/16", "100.64.0.0/16"]);
        let all = cidrs(&["10.0.0.0/16", "100.64.0.0/16", "10.9.0.0/16"]);
        assert_eq!(Sightings::default().after(&known, &cidrs(&["10.9.0.0/16", "10.0.0.0/16"])), all);
    }

    #[test]
    fn cidr_goes_only_after_the_same_was_missing_several_times_in_a_row() {
        let known = cidrs(&["10.0.0.0/16", "100.64.0.0/16"]);
        let first = cidrs(&["10.0.0.0/16"]);
        let mut sightings = Sightings::default();
        // Other lists in between: everything begins anew.
        for between in [&known, &cidrs(&["100.64.0.0/16"]), &cidrs(&["10.8.0.0/16"])] {
            for _ in 1..GONE_AFTER {
                assert_eq!(sightings.after(&known, &first), known);
            }
            let after = sightings.after(&known, between);
            assert!(known.iter().all(|cidr| after.contains(cidr)), "{after:?}");
        }
        for _ in 1..GONE_AFTER {
            assert_eq!(sightings.after(&known, &first), known);
        }
        assert_eq!(sightings.after(&known, &first), first);
    }
}
