//! Pods that the incumbent wired: finding them and marking them as ours. Afterwards they are like any pod of ours: their
//! own rules are no longer needed and go when their ENI is set up or their address is released, like every rule that an
//! earlier owner of an address left.

use super::change::Edit;
use super::{NodeNet, Part};
use crate::error::{During, HostError};
use crate::names::Attachment;
use crate::netlink::link::{self, Key};
use crate::netlink::route::{self, Route};
use crate::numbers::{TABLE_MAIN, TABLE_PODS};
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

impl NodeNet {
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
