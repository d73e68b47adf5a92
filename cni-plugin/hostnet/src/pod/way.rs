//! What leads a pod's packets out by the ENI that carries its addresses: rules, the ENI's table, the ruleset. Read only.

use super::check::{Way, routes};
use crate::error::{During, HostError};
use crate::netlink::rule::{self, Rule};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::AF_INET;
use crate::nft::read;
use crate::numbers::{MARK_ENI, PRIORITY_ENI_MARK, PRIORITY_PODS, TABLE_PODS};
use crate::plan::ruleset::eni_chain;
use crate::plan::{Layout, routing};
use std::net::IpAddr;

/// Adds to `differences` what is missing.
///
/// *Why one element is asked for and not the whole map*: a node may hold thousands, and a runtime may CHECK every pod at once.
pub(super) fn check(
    host: &mut Socket,
    addresses: &[IpAddr],
    way: Way,
    differences: &mut Vec<String>,
) -> Result<(), HostError> {
    let rules = host.list(&rule::list(AF_INET), rule::parse).during(|| "list routing rules".into())?;
    let missing = wanted_rules(addresses, way).into_iter().filter(|w| rules.iter().all(|s| s.rule != *w));
    differences.extend(missing.map(|rule| format!("rule {rule} is missing")));
    if !way.slot.is_primary() {
        let table = way.slot.table();
        if !routes(host, table)?.iter().any(|route| route.destination.prefix() == 0) {
            differences.push(format!("table {table} has no default route"));
        }
    }
    let mut filter = Socket::netfilter().during(|| "open a netfilter socket".into())?;
    if !read::is_at_work(&mut filter).during(|| "look for nft table ip podwire".into())? {
        differences.push("nft table ip podwire is missing or switched off".into());
    } else if way.layout == Layout::Constant {
        // The primary ENI needs no chain: `main` leads there.
        let wanted = way.slot.mark().filter(|_| !way.slot.is_primary()).map(eni_chain);
        for address in addresses {
            let leads = read::chain_of(&mut filter, *address)
                .during(|| format!("look for {address} in nft table ip podwire"))?;
            if leads != wanted {
                let name = |chain: Option<String>| chain.unwrap_or_else(|| "no chain".into());
                differences.push(format!(
                    "nft table ip podwire leads {address} to {} instead of {}",
                    name(leads),
                    name(wanted.clone())
                ));
            }
        }
    }
    Ok(())
}

fn wanted_rules(addresses: &[IpAddr], way: Way) -> Vec<Rule> {
    let mut wanted = match way.layout {
        Layout::Constant => vec![Rule::all(PRIORITY_PODS, TABLE_PODS)],
        Layout::Compat => {
            addresses.iter().flat_map(|address| routing::pod_rules(*address, Some(way.slot))).collect()
        }
    };
    if let Some(mark) = way.slot.mark().filter(|_| !way.slot.is_primary()) {
        wanted.push(Rule::marked(PRIORITY_ENI_MARK, mark, MARK_ENI, way.slot.table()));
    }
    wanted
}
