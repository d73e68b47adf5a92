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
use std::time::{Duration, Instant};

/// How long a pod may lack something before that is drift. *Why not at once*: a plugin gives its link a name, sets it up and
/// adds its routes in one message, and a look may fall in between. *Source*: our choice; the kernel works through such a
/// message in well under a millisecond, unless a hypervisor takes the processor away in between.
const WIRING: Duration = Duration::from_millis(100);

/// A pod's own link, not waiting for its deletion.
pub(super) struct Live {
    link: Link,
    /// Whose it is; unknown where somebody overwrote the alias, so that only the MAC still says that it is one of ours.
    attachment: Option<Attachment>,
}

impl NodeNet {
    /// A pod's route comes back while its own host veth is there, carries its sandbox's alias and is not in the deletion
    /// group (design D19). Without the alias a pod keeps what it has, and gets nothing back. In our own table
    /// nothing else may be; `main` is a mirror, of which only our part is looked at. `again_at`: when to look once more, at what
    /// may only just be being wired.
    pub(super) fn repair_pod_routes(
        &mut self,
        held: &mut dyn FnMut(&Attachment) -> Vec<IpAddr>,
        again_at: &mut Option<Instant>,
    ) -> Result<(), HostError> {
        let like = IpAddr::from([0, 0, 0, 0]);
        let (seen, mirror) = (self.all_routes(like, TABLE_PODS)?, self.all_routes(like, TABLE_MAIN)?);
        // After the routes: that of a pod which is wired between the two looks would seem to be nobody's.
        let (live, now) = (self.live_pods()?, Instant::now());
        let mut failures = Vec::new();
        let of_pod = |r: &Route| r.protocol == PROTOCOL && live.contains_key(&r.device);
        let stale = seen.iter().filter(|r| !of_pod(r));
        for route in stale {
            let what = format!("removed route {route}, which is no pod's");
            failures.extend(self.attempt(Edit::new(Part::PodRoute, what, route::delete(route))).err());
        }
        let before = std::mem::take(&mut self.unwired);
        for (index, pod) in &live {
            let routed = |r: &&Route| r.device == *index && r.protocol == PROTOCOL;
            let mut addresses: Vec<IpAddr> = seen.iter().filter(routed).map(|r| r.destination.ip()).collect();
            let present = |r: &Route| {
                let table = if r.table == TABLE_PODS { &seen } else { &mirror };
                pod.link.up && table.iter().any(|s| s.destination == r.destination && s.device == r.device)
            };
            if !addresses.is_empty() && plan::host_routes(&addresses, *index).iter().all(present) {
                continue;
            }
            if addresses.is_empty() && pod.attachment.is_none() {
                // Its plugin has not named it yet: only then does the wiring begin that is waited for.
                continue;
            }
            let since = *before.get(index).unwrap_or(&now);
            self.unwired.insert(*index, since);
            if now.saturating_duration_since(since) < WIRING {
                let again = since + WIRING;
                *again_at = Some(again_at.map_or(again, |at| at.min(again)));
                continue;
            }
            if addresses.is_empty() || !pod.link.up {
                addresses = pod.attachment.as_ref().map_or_else(Vec::new, &mut *held);
            }
            let routes = plan::host_routes(&addresses, *index);
            let missing: Vec<&Route> = routes.iter().filter(|r| !present(r)).collect();
            failures.extend(self.rewire(&pod.link, &missing, &mirror));
        }
        several(failures)
    }

    /// Sets a pod's link up where that is what took its routes, and adds them. Returns what failed.
    fn rewire(&mut self, link: &Link, missing: &[&Route], mirror: &[Route]) -> Vec<HostError> {
        let mut edits = Vec::new();
        if !link.up && !missing.is_empty() {
            let up = link::set_up(Key::Index(link.index));
            edits.push(Edit::new(Part::PodRoute, format!("set {} up", link.name), up));
        }
        for route in missing {
            // One that leads nowhere holds the place, and would be taken for the pod's.
            let holds =
                |r: &&Route| !r.leads_on() && r.destination == route.destination && r.table == route.table;
            edits.extend(mirror.iter().filter(holds).map(|nowhere| {
                let what = format!("removed route {nowhere}, which stands in a pod's way");
                Edit::new(Part::PodRoute, what, route::delete(nowhere))
            }));
            let what = format!("added route {route} to {}", link.name);
            edits.push(Edit::new(Part::PodRoute, what, route::add(route)));
        }
        edits.into_iter().filter_map(|edit| self.attempt(edit).err()).collect()
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
