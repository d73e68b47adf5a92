//! What tests read from the fabric: drops by reason, packets by port.

use std::fs;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ruleset;
use crate::tools;

/// Packets the fabric refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drops {
    /// Source not assigned to the ENI the packet came from.
    pub spoofed: u64,
    /// No security group of the receiving ENI allows it.
    pub group_denied: u64,
    /// For IMDS, but not from a primary ENI.
    pub imds_denied: u64,
}

pub(super) fn drops() -> anyhow::Result<Drops> {
    let listing = tools::nft_list(&["list", "counters", "table", "inet", "vpc"])?;
    let packets =
        |name: &str| packets(&listing, name).with_context(|| format!("nft lists no counter {name}"));
    Ok(Drops {
        spoofed: packets(ruleset::SPOOFED)?,
        group_denied: packets(ruleset::SG_DENIED)?,
        imds_denied: packets(ruleset::IMDS_DENIED)?,
    })
}

fn packets(listing: &Value, name: &str) -> Option<u64> {
    let objects = listing.get("nftables")?.as_array()?;
    let counter =
        objects.iter().filter_map(|object| object.get("counter")).find(|counter| counter["name"] == name);
    counter?.get("packets")?.as_u64()
}

pub(super) fn received(device: &str) -> anyhow::Result<u64> {
    let path = format!("/sys/class/net/{device}/statistics/rx_packets");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim().parse().with_context(|| format!("{path} holds no number"))
}
