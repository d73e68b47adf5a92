//! What the incumbent left: what it made for the whole node, which goes, and pods that it wired, which are found and marked
//! as ours. Afterwards these are like any pod of ours: their own rules are no longer needed and go when their ENI is set up or
//! their address is released, like every rule that an earlier owner of an address left.

use super::change::Edit;
use super::{NodeNet, Part, not_applied};
use crate::error::{During, HostError};
use crate::names::Attachment;
use crate::netlink::link::{self, Key};
use crate::netlink::route::{self, Route};
use crate::netlink::rule::{self, Rule, SeenRule};
use crate::netlink::uapi::RTPROT_UNSPEC;
use crate::nft::incumbent;
use crate::numbers::{PRIORITY_EXTERNAL_SERVICE, TABLE_MAIN, TABLE_PODS};
use crate::plan::routing;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A veth without an alias of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmarkedLink {
    /// Its name.
    pub name: String,
    /// The addresses that table `main` routes to it, each by itself.
    pub addresses: Vec<IpAddr>,
}

/// Whether `iptables-legacy` holds NAT rules here. Whose they are cannot be told without it.
#[must_use]
pub fn has_legacy_nat() -> bool {
    let tables = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    tables.is_ok_and(|names| names.lines().any(|name| name == "nat"))
}

impl NodeNet {
    /// Takes away what the incumbent made for the whole node and would go on deciding with the settings of its last day: its
    /// SNAT and connection marks in nftables, its rules to external services. Ours does all of it by now, and where the
    /// incumbent gets the node back it makes its own anew at its start. Repeating it does no harm. Returns how much there was.
    ///
    /// # Errors
    /// The node has not been applied, or the kernel refuses; what is left then can be taken away by another call.
    pub fn remove_incumbents(&mut self) -> Result<usize, HostError> {
        let (node, _) = self.node.as_ref().ok_or_else(not_applied)?;
        let wanted = routing::rules(node, []);
        let left = incumbent::find_all(&mut self.filter).during(|| "look for aws-node's nft rules".into())?;
        if !left.is_empty() {
            incumbent::remove(&mut self.filter, &left).during(|| "remove aws-node's nft rules".into())?;
        }
        left.iter().for_each(|part| self.note(Part::Leftover, format!("removed {part}, made by aws-node")));
        let rules = self.seen_rules()?;
        let stale = rules.iter().filter(|s| is_to_external(s) && !wanted.contains(&s.rule));
        let stale: Vec<&Rule> = stale.map(|s| &s.rule).collect();
        for stale in &stale {
            let what = format!("removed rule {stale}, made by aws-node");
            self.attempt(Edit::new(Part::Leftover, what, rule::delete_anyones(stale, RTPROT_UNSPEC)))?;
        }
        Ok(left.len() + stale.len())
    }

    /// Every veth of the host's without an alias of ours.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn unmarked_links(&mut self) -> Result<Vec<UnmarkedLink>, HostError> {
        let links = self.route.list(&link::list(Some("veth")), link::parse).during(|| "list veths".into())?;
        let routes = self.seen_routes(IpAddr::from([0, 0, 0, 0]), TABLE_MAIN)?;
        let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        for found in routes {
            if found.gateway.is_none() && route::is_host(found.destination) {
                addresses.entry(found.device).or_default().push(found.destination.ip());
            }
        }
        let unmarked = links.into_iter().filter(|link| Attachment::from_alias(&link.alias).is_none());
        Ok(unmarked
            .map(|link| UnmarkedLink {
                addresses: addresses.remove(&link.index).unwrap_or_default(),
                name: link.name,
            })
            .collect())
    }

    /// Marks a pod's host veth as this attachment's and routes the pod's addresses to it in our own table too, so that
    /// from here on it is like any pod of ours. Repeating it does no harm.
    ///
    /// # Errors
    /// The link is gone, somebody else's, or the kernel refuses.
    pub fn mark_pod(
        &mut self,
        name: &str,
        attachment: &Attachment,
        addresses: &[IpAddr],
    ) -> Result<(), HostError> {
        let action = || format!("take over pod link {name}");
        let replies = self.route.request(link::get(Key::Name(name))).during(action)?;
        let found = replies.iter().find_map(|r| link::parse(r.kind, &r.payload));
        let Some(link) = found.filter(|link| link.kind == "veth") else {
            return Err(HostError::Foreign { name: name.to_owned(), owner: "no veth".into() });
        };
        if !link.alias.is_empty() && link.alias != attachment.alias() {
            return Err(HostError::Foreign {
                name: name.to_owned(),
                owner: format!("alias {:?}", link.alias),
            });
        }
        let mut edits = Vec::new();
        if link.alias.is_empty() {
            let what = format!("marked {name} as the link of {}", attachment.alias());
            let message = link::set_alias(Key::Index(link.index), &attachment.alias());
            edits.push(Edit::new(Part::PodLink, what, message));
        }
        for address in addresses {
            let route = Route::host(TABLE_PODS, *address, link.index);
            let what = format!("added route {route} to {name}");
            edits.push(Edit::new(Part::PodRoute, what, route::replace(&route)));
        }
        self.send(edits, action)
    }
}

/// Whether a rule has the shape of the incumbent's rules to external services. *Source*: incumbent-behaviour §4.1; it gives
/// none of its rules a protocol, and leaves this priority to nobody else.
fn is_to_external(seen: &SeenRule) -> bool {
    let exact = |to| Rule::to(PRIORITY_EXTERNAL_SERVICE, to, TABLE_MAIN) == seen.rule;
    seen.protocol == RTPROT_UNSPEC && seen.rule.destination.is_some_and(exact)
}
