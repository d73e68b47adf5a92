//! Host veths: which pods have one, and their deletion in groups.

use super::eni::all_links;
use super::{NodeNet, Part};
use crate::error::{During, HostError};
use crate::names::Attachment;
use crate::netlink::link::{self, Key, Link};
use crate::netlink::route;
use crate::netlink::socket::{NetlinkError, Socket};
use crate::numbers::{GROUP_BATCH, GROUP_BATCH_MAX, TABLE_PODS};
use crate::pod::belongs;
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

/// A pod's host veth that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// Whose it is.
    pub attachment: Attachment,
    /// Names it may have. Each is only a guess: what decides is whose the link says it is.
    pub names: Vec<String>,
}

/// The links of a batch.
struct Located {
    found: Vec<Option<Link>>,
    /// Why those that no guess found could not be looked for among all links.
    unlisted: Option<NetlinkError>,
}

/// Says of each of these positions whether its link is still to go; or why that is not known.
pub type Still<'a> = dyn FnMut(&[usize]) -> Result<Vec<bool>, String> + 'a;

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
    pub(super) fn routed(&mut self) -> Result<BTreeMap<u32, Vec<IpAddr>>, HostError> {
        let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        for found in self.seen_routes(IpAddr::from([0, 0, 0, 0]), TABLE_PODS)? {
            if route::is_host(found.destination) {
                addresses.entry(found.device).or_default().push(found.destination.ip());
            }
        }
        Ok(addresses)
    }

    /// Deletes the host veths of pods. Each answer is the name of the one that was deleted, `None` where there was none.
    ///
    /// *Why in groups*: one deletion waits for an RCU barrier of 16–20 ms; a group waits once (rust-stack §3c). *Why here
    /// and not in the plugin*: two hundred processes that each wait for the kernel's lock hold up every ADD beside them.
    /// A group deletion takes whatever is in the group, so only checked links enter it. Where somebody else's device
    /// carries that number, the links go one by one and that device stays.
    pub fn delete_pods(&mut self, doomed: &[Doomed]) -> Vec<Result<Option<String>, HostError>> {
        self.delete_pods_if(doomed, &mut |found| Ok(vec![true; found.len()]))
    }

    /// The same where somebody may have changed their mind: once links are found, and before any of them is touched, `still`
    /// is asked about the positions in `doomed` that have one, and says of each whether it is to go.
    ///
    /// *Why in this order*: a container's next life has a link of the same name and alias. One that was there when links were
    /// looked for has begun when `still` looks; one that came later has another index, by which nothing is deleted.
    pub fn delete_pods_if(
        &mut self,
        doomed: &[Doomed],
        still: &mut Still<'_>,
    ) -> Vec<Result<Option<String>, HostError>> {
        let mut answers = Vec::with_capacity(doomed.len());
        for chunk in doomed.chunks(GROUP_BATCH_MAX) {
            let first = answers.len();
            answers.extend(self.delete_batch(chunk, &mut |found| {
                still(&found.iter().map(|position| first + position).collect::<Vec<_>>())
            }));
        }
        answers
    }

    fn delete_batch(
        &mut self,
        doomed: &[Doomed],
        still: &mut Still<'_>,
    ) -> Vec<Result<Option<String>, HostError>> {
        let Located { mut found, unlisted } = match self.locate(doomed) {
            Ok(located) => located,
            Err(error) => return doomed.iter().map(|d| Err(not_found(d, &error))).collect(),
        };
        let looked_for_in_vain: Vec<bool> = found.iter().map(Option::is_none).collect();
        if let Err(reason) = spare(&mut found, still) {
            return doomed.iter().map(|_| Err(HostError::Undecided(reason.clone()))).collect();
        }
        let links: Vec<(&Link, &Attachment)> =
            found.iter().zip(doomed).filter_map(|(link, d)| Some((link.as_ref()?, &d.attachment))).collect();
        let mut outcomes = self.delete_checked(&links).into_iter();
        let unknown = |position: usize| unlisted.as_ref().filter(|_| looked_for_in_vain[position]);
        let answers: Vec<_> = found
            .into_iter()
            .zip(doomed)
            .enumerate()
            .map(|(position, (link, d))| match (link, unknown(position)) {
                (Some(link), _) => outcomes.next().unwrap_or(Ok(())).map(|()| Some(link.name)),
                (None, Some(error)) => Err(not_found(d, error)),
                (None, None) => Ok(None),
            })
            .collect();
        for name in answers.iter().flatten().flatten() {
            self.note(Part::PodLink, format!("deleted {name}"));
        }
        answers
    }

    /// The links that are theirs: by a guessed name, else by whose any link says it is.
    fn locate(&mut self, doomed: &[Doomed]) -> Result<Located, NetlinkError> {
        let guesses =
            || doomed.iter().enumerate().flat_map(|(i, d)| d.names.iter().map(move |name| (i, name)));
        let answers = self.route.batch(guesses().map(|(_, name)| link::get(Key::Name(name))).collect())?;
        let mut found: Vec<Option<Link>> = doomed.iter().map(|_| None).collect();
        for ((i, _), answer) in guesses().zip(answers) {
            match answer.verdict {
                Ok(()) => {
                    let link = answer.replies.iter().find_map(|r| link::parse(r.kind, &r.payload));
                    let link = link.ok_or(NetlinkError::Unreadable("a link query"))?;
                    if belongs(&link, &doomed[i].attachment) {
                        found[i].get_or_insert(link);
                    }
                }
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        if found.iter().all(Option::is_some) {
            return Ok(Located { found, unlisted: None });
        }
        let links = match self.route.list(&link::list(Some("veth")), link::parse) {
            Ok(links) => links,
            Err(error) => return Ok(Located { found, unlisted: Some(error) }),
        };
        for (found, d) in found.iter_mut().zip(doomed).filter(|(found, _)| found.is_none()) {
            *found = links.iter().find(|link| belongs(link, &d.attachment)).cloned();
        }
        Ok(Located { found, unlisted: None })
    }

    /// Deletes links; the answers are in their order.
    fn delete_checked(&mut self, links: &[(&Link, &Attachment)]) -> Vec<Result<(), HostError>> {
        if links.len() > 1 && self.delete_as_group(links).is_ok_and(|all_gone| all_gone) {
            return links.iter().map(|_| Ok(())).collect();
        }
        links.iter().map(|(link, _)| delete_one(&mut self.route, link)).collect()
    }

    /// Returns whether they are gone; not where the group holds anything else.
    fn delete_as_group(&mut self, links: &[(&Link, &Attachment)]) -> Result<bool, HostError> {
        let mut moves = Vec::with_capacity(links.len());
        for (link, attachment) in links {
            if Attachment::from_alias(&link.alias).is_none() {
                // Its ADD was killed half-way, or somebody else wrote there; the alias is what says below that it may go.
                moves.push(link::set_alias(Key::Index(link.index), &attachment.alias()));
            }
            moves.push(link::set_group(link.index, GROUP_BATCH));
        }
        let action = || format!("delete {} links at once", links.len());
        // A link that vanishes here answers ENODEV and is not in the group.
        for answer in self.route.batch(moves).during(action)? {
            answer.verdict.or_else(|e| if e.is_absent() { Ok(()) } else { Err(e) }).during(action)?;
        }
        // What a daemon that was killed here left behind is as good as checked: it carries our alias, too.
        let mut batch = all_links(&mut self.route)?.into_iter().filter(|link| link.group == GROUP_BATCH);
        if batch.any(|link| Attachment::from_alias(&link.alias).is_none()) {
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
        doomed: link.group == GROUP_BATCH,
        name: link.name,
    })
}

/// Leaves out what is no longer to go.
fn spare(found: &mut [Option<Link>], still: &mut Still<'_>) -> Result<(), String> {
    let with_link: Vec<usize> = (0..found.len()).filter(|position| found[*position].is_some()).collect();
    if with_link.is_empty() {
        return Ok(());
    }
    // What nothing is said about stays.
    let mut verdicts = still(&with_link)?.into_iter();
    for position in with_link {
        if verdicts.next() != Some(true) {
            found[position] = None;
        }
    }
    Ok(())
}

fn delete_one(socket: &mut Socket, link: &Link) -> Result<(), HostError> {
    match socket.request(link::delete(Key::Index(link.index))) {
        Ok(_) => Ok(()),
        Err(error) if error.is_absent() => Ok(()),
        Err(error) => Err(error).during(|| format!("delete link {}", link.name)),
    }
}

/// What went wrong for several of them, told of one.
fn not_found(doomed: &Doomed, error: &NetlinkError) -> HostError {
    let source =
        NetlinkError::Refused { errno: error.errno().unwrap_or(Errno::IO), message: error.to_string() };
    HostError::Kernel { action: format!("find the link of {}", doomed.attachment.alias()), source }
}
