//! Routes to running pods. Links are never made here: a pod without its own link has no way to be reached anyway.

use super::change::Edit;
use super::{NodeNet, Part, several};
use crate::error::{During, HostError};
use crate::names::{Attachment, is_host_mac};
use crate::netlink::link::{self, Key, Link};
use crate::netlink::route::{self, Route};
use crate::numbers::{GROUP_BATCH, PROTOCOL, TABLE_MAIN, TABLE_PODS};
use crate::plan::pod as plan;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A pod's own link, not waiting for its deletion.
pub(super) struct Live {
    link: Link,
    /// Whose it is; unknown where somebody overwrote the alias, so that only the MAC still says that it is one of ours.
    attachment: Option<Attachment>,
}

impl NodeNet {
    /// A pod's route comes back while its own host veth is there, carries its sandbox's alias and is not in the deletion
    /// group (design D19). Without the alias a pod keeps what it has, and gets nothing back. In our own table nothing else may be; `main` is a mirror, of which only our part is looked at.
    pub(super) fn repair_pod_routes(
        &mut self,
        held: &mut dyn FnMut(&Attachment) -> Vec<IpAddr>,
    ) -> Result<(), HostError> {
        let like = IpAddr::from([0, 0, 0, 0]);
        let (seen, mirror) = (self.all_routes(like, TABLE_PODS)?, self.all_routes(like, TABLE_MAIN)?);
        // After the routes: that of a pod which is wired between the two looks would seem to be nobody's.
        let live = self.live_pods()?;
        let mut failures = Vec::new();
        let of_pod = |r: &Route| r.protocol == PROTOCOL && live.contains_key(&r.device);
        let stale = seen.iter().filter(|r| !of_pod(r));
        for route in stale {
            let what = format!("removed route {route}, which is no pod's");
            failures.extend(self.attempt(Edit::new(Part::PodRoute, what, route::delete(route))).err());
        }
        for (index, pod) in &live {
            let routed = |r: &&Route| r.device == *index && r.protocol == PROTOCOL;
            let mut addresses: Vec<IpAddr> = seen.iter().filter(routed).map(|r| r.destination.ip()).collect();
            if addresses.is_empty() || !pod.link.up {
                addresses = pod.attachment.as_ref().map_or_else(Vec::new, &mut *held);
            }
            if addresses.is_empty() {
                continue;
            }
            if !pod.link.up {
                let what = format!("set {} up", pod.link.name);
                let edit = Edit::new(Part::PodRoute, what, link::set_up(Key::Index(*index)));
                failures.extend(self.attempt(edit).err());
            }
            let present = |r: &Route| {
                let table = if r.table == TABLE_PODS { &seen } else { &mirror };
                pod.link.up && table.iter().any(|s| s.destination == r.destination && s.device == r.device)
            };
            for route in plan::host_routes(&addresses, *index).iter().filter(|r| !present(r)) {
                // One that leads nowhere holds the place, and would be taken for the pod's.
                let holds = |r: &&Route| {
                    !r.leads_on() && r.destination == route.destination && r.table == route.table
                };
                for nowhere in mirror.iter().filter(holds) {
                    let what = format!("removed route {nowhere}, which stands in a pod's way");
                    failures
                        .extend(self.attempt(Edit::new(Part::PodRoute, what, route::delete(nowhere))).err());
                }
                let what = format!("added route {route} to {}", pod.link.name);
                failures.extend(self.attempt(Edit::new(Part::PodRoute, what, route::add(route))).err());
            }
        }
        several(failures)
    }

    /// Makes one change; that its object is gone, going, or there already is no failure.
    pub(super) fn attempt(&mut self, edit: Edit) -> Result<(), HostError> {
        match self.route.request(edit.message) {
            Ok(_) => {
                self.made.note(edit.change);
                Ok(())
            }
            Err(error) if error.is_absent() => Ok(()),
            Err(error) if matches!(error.errno(), Some(Errno::EXIST | Errno::NETDOWN)) => Ok(()),
            Err(error) => Err(error).during(|| format!("make a change: {}", edit.change.what)),
        }
    }

    pub(super) fn live_pods(&mut self) -> Result<BTreeMap<u32, Live>, HostError> {
        let links =
            self.route.list(&link::list(Some("veth")), link::parse).during(|| "list pod links".into())?;
        let live = links.into_iter().filter(|l| l.group != GROUP_BATCH).filter_map(|link| {
            let attachment = Attachment::from_alias(&link.alias);
            let ours = attachment.is_some() || link.mac.is_some_and(is_host_mac);
            ours.then_some((link.index, Live { link, attachment }))
        });
        Ok(live.collect())
    }
}
