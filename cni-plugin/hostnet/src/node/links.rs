//! Host veths: which pods have one, and their deletion in groups.

use super::eni::all_links;
use super::{NodeNet, Part};
use crate::error::{During, HostError};
use crate::names::Attachment;
use crate::netlink::link::{self, Key, Link};
use crate::netlink::route;
use crate::netlink::socket::{NetlinkError, Socket};
use crate::numbers::{GROUP_BATCH, GROUP_BATCH_MAX, GROUP_DOOMED, TABLE_PODS};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A pod's host veth as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// The link's name.
    pub name: String,
    /// Whose it is.
    pub attachment: Attachment,
    /// The addresses routed to it.
    pub addresses: Vec<IpAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it waits for its deletion.
    pub doomed: bool,
}

impl NodeNet {
    /// Every host veth that carries an alias of ours.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn pods(&mut self) -> Result<Vec<PodLink>, HostError> {
        let links =
            self.route.list(&link::list(Some("veth")), link::parse).during(|| "list pod links".into())?;
        let mut addresses = self.routed()?;
        Ok(links.into_iter().filter_map(|l| pod_link(l, &mut addresses)).collect())
    }

    /// Addresses by the device they are routed to, from our own table.
    fn routed(&mut self) -> Result<BTreeMap<u32, Vec<IpAddr>>, HostError> {
        let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        for found in self.seen_routes(IpAddr::from([0, 0, 0, 0]), TABLE_PODS)? {
            if route::is_host(found.destination) {
                addresses.entry(found.device).or_default().push(found.destination.ip());
            }
        }
        Ok(addresses)
    }

    /// Deletes host veths that a plugin has taken down and put into the deletion group. A link that is gone already
    /// counts as deleted; one that is not ours, or not in the group, is left alone and is an error.
    ///
    /// *Why in groups*: one deletion waits for an RCU barrier of 16–20 ms; a group waits once (rust-stack §3c). *Why a
    /// second group*: a group deletion takes whatever is in the group, so the batch gets one that only checked links
    /// enter. Where somebody else's device carries that number, the links go one by one and that device stays.
    pub fn delete_links(&mut self, names: &[String]) -> Vec<(String, Result<(), HostError>)> {
        names.chunks(GROUP_BATCH_MAX).flat_map(|chunk| self.delete_batch(chunk)).collect()
    }

    fn delete_batch(&mut self, names: &[String]) -> Vec<(String, Result<(), HostError>)> {
        let requests = names.iter().map(|n| link::get(Key::Name(n))).collect();
        let answers = match self.route.batch(requests) {
            Ok(answers) => answers,
            Err(error) => return names.iter().map(|n| (n.clone(), Err(socket_failed(n, &error)))).collect(),
        };
        let mut doomed = Vec::new();
        let mut results = Vec::new();
        for (name, answer) in names.iter().zip(answers) {
            let found = answer.replies.iter().find_map(|r| link::parse(r.kind, &r.payload));
            match (answer.verdict, found) {
                (Ok(()), Some(link)) => match deletable(&link) {
                    Ok(()) => doomed.push((name.clone(), link.index)),
                    Err(error) => results.push((name.clone(), Err(error))),
                },
                (Err(error), _) if error.is_absent() => results.push((name.clone(), Ok(()))),
                (verdict, _) => {
                    let verdict = verdict.and(Err(NetlinkError::Unreadable("a link query")));
                    results.push((name.clone(), verdict.during(|| format!("find link {name}"))));
                }
            }
        }
        let deleted = self.delete_checked(&doomed);
        for ((name, _), _) in doomed.iter().zip(&deleted).filter(|(_, outcome)| outcome.is_ok()) {
            self.note(Part::PodLink, format!("deleted {name}"));
        }
        results.extend(doomed.into_iter().map(|(name, _)| name).zip(deleted));
        results
    }

    /// Deletes links by their indexes; the answers are in the order of the links.
    fn delete_checked(&mut self, links: &[(String, u32)]) -> Vec<Result<(), HostError>> {
        if links.len() > 1 && self.delete_as_group(links).is_ok_and(|all_gone| all_gone) {
            return links.iter().map(|_| Ok(())).collect();
        }
        links.iter().map(|(name, index)| delete_one(&mut self.route, name, *index)).collect()
    }

    /// Returns whether they are gone; not where the group holds anything else.
    fn delete_as_group(&mut self, links: &[(String, u32)]) -> Result<bool, HostError> {
        // A link that vanishes here answers ENODEV and is not in the group.
        let moves = links.iter().map(|(_, index)| link::set_group(*index, GROUP_BATCH)).collect();
        let action = || format!("delete {} links at once", links.len());
        for answer in self.route.batch(moves).during(action)? {
            answer.verdict.or_else(|e| if e.is_absent() { Ok(()) } else { Err(e) }).during(action)?;
        }
        // What a daemon that was killed here left behind is as good as checked: it carries our alias, too.
        let mut batch = all_links(&mut self.route)?.into_iter().filter(|link| link.group == GROUP_BATCH);
        if batch.any(|link| deletable(&link).is_err()) {
            return Ok(false);
        }
        match self.route.request(link::delete_group(GROUP_BATCH)) {
            Ok(_) => Ok(true),
            // The group is empty: everything vanished.
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(true),
            // One device without a way to be deleted refuses the lot.
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error).during(action),
        }
    }
}

fn pod_link(link: Link, addresses: &mut BTreeMap<u32, Vec<IpAddr>>) -> Option<PodLink> {
    Some(PodLink {
        attachment: Attachment::from_alias(&link.alias)?,
        addresses: addresses.remove(&link.index).unwrap_or_default(),
        up: link.up,
        doomed: matches!(link.group, GROUP_DOOMED | GROUP_BATCH),
        name: link.name,
    })
}

fn deletable(link: &Link) -> Result<(), HostError> {
    let ours = Attachment::from_alias(&link.alias).is_some();
    if ours && matches!(link.group, GROUP_DOOMED | GROUP_BATCH) {
        return Ok(());
    }
    let owner =
        if ours { "a pod that has not been deleted".to_owned() } else { format!("alias {:?}", link.alias) };
    Err(HostError::Foreign { name: link.name.clone(), owner })
}

fn delete_one(socket: &mut Socket, name: &str, index: u32) -> Result<(), HostError> {
    match socket.request(link::delete(Key::Index(index))) {
        Ok(_) => Ok(()),
        Err(error) if error.is_absent() => Ok(()),
        Err(error) => Err(error).during(|| format!("delete link {name}")),
    }
}

fn socket_failed(name: &str, error: &NetlinkError) -> HostError {
    let source =
        NetlinkError::Refused { errno: error.errno().unwrap_or(Errno::IO), message: error.to_string() };
    HostError::Kernel { action: format!("find link {name}"), source }
}
