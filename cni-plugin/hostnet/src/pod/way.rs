//! How packets find a pod and their way out. Read only.

use super::check::Way;
use crate::error::{During, HostError};
use crate::netlink::rule::{self, Rule};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::AF_INET;
use crate::numbers::{PRIORITY_PODS, TABLE_PODS};
use crate::plan::{Layout, routing};
use std::net::IpAddr;

/// Adds to `differences` what is missing.
pub(super) fn check(
    host: &mut Socket,
    addresses: &[IpAddr],
    way: Way,
    differences: &mut Vec<String>,
) -> Result<(), HostError> {
    let rules = host.list(&rule::list(AF_INET), rule::parse).during(|| "list routing rules".into())?;
    let missing = wanted_rules(addresses, way).into_iter().filter(|w| rules.iter().all(|s| s.rule != *w));
    differences.extend(missing.map(|rule| format!("rule {rule} is missing")));
    Ok(())
}

fn wanted_rules(addresses: &[IpAddr], way: Way) -> Vec<Rule> {
    match way.layout {
        Layout::Constant => vec![Rule::all(PRIORITY_PODS, TABLE_PODS)],
        Layout::Compat => {
            addresses.iter().flat_map(|address| routing::pod_rules(*address, Some(way.slot))).collect()
        }
    }
}
