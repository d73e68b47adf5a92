//! Taking the node over from the incumbent: what its checkpoint says, checked against the kernel. Pure.
//!
//! Nothing an entry or a route speaks for is forgotten: in doubt an address counts as held. Here is no decision about who
//! wrote last; that is [`crate::start`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use podwire_hostnet::{Attachment, PodLink, UnmarkedLink, pod_suffix};
use podwire_ledger::ipam_json::Allocation;
use podwire_pool::{PodRef, Record, SandboxKey, Time};

/// The CNI network both daemons serve. *Source*: incumbent-behaviour §1.4, name of the conflist.
pub const NETWORK: &str = "aws-cni";
/// Interface name of entries whose interface the incumbent did not know. *Source*: incumbent-behaviour §3.1, backfill.
const IFNAME_UNKNOWN: &str = "unknown";
/// Interface name that Kubernetes' runtimes use. *Source*: containerd and CRI-O, `eth0` for the first network.
const IFNAME: &str = "eth0";
/// Start of the container id under which an address is held that only a route speaks for; the link's name follows.
pub const ORPHAN: &str = "unknown-";
/// A host veth of the incumbent's is named by a prefix of at most four characters and eleven hex digits.
/// *Source*: incumbent-behaviour §2.3.
const PREFIX_MAX: usize = 4;
const DIGITS: usize = 11;

/// What the kernel holds.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<'a> {
    /// Host veths that carry our alias.
    pub pods: &'a [PodLink],
    /// The others.
    pub unmarked: &'a [UnmarkedLink],
}

/// How the two clocks relate.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Now, since boot.
    pub now: Time,
    /// When the machine booted. *Unit* nanoseconds since 1970.
    pub booted_unix_ns: i128,
}

/// A host veth to be marked as ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its name.
    pub link: String,
    /// Whose it is.
    pub attachment: Attachment,
    /// What is routed to it.
    pub addresses: Vec<IpAddr>,
}

/// What is taken over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakeOver {
    /// Who holds what.
    pub records: Vec<Record>,
    /// Links to be marked.
    pub marks: Vec<Mark>,
    /// Addresses of pods that are gone: what the kernel has of them is to go too.
    pub dead: Vec<IpAddr>,
    /// How many addresses only a route speaks for.
    pub orphans: usize,
}

impl Kernel<'_> {
    /// Whether a pod runs.
    #[must_use]
    pub fn has_pods(&self) -> bool {
        !self.pods.is_empty() || self.unmarked.iter().any(|link| is_pod_link(&link.name))
    }
}

impl Clocks {
    /// A wall-clock time as time since boot; what lies before the boot or ahead is cut off.
    fn since_boot(self, unix_ns: i64) -> Time {
        let ms = (i128::from(unix_ns) - self.booted_unix_ns).max(0) / 1_000_000;
        Time::from_ms(u64::try_from(ms).unwrap_or(u64::MAX)).min(self.now)
    }
}

/// Puts the witnesses together. First our own links, whose aliases cannot be wrong; then the entries whose pod is alive;
/// then routes that nobody explains. `of_this_boot`: the entries were written since the machine booted.
#[must_use]
pub fn take_over(entries: &[Allocation], of_this_boot: bool, kernel: Kernel<'_>, clocks: Clocks) -> TakeOver {
    let mut take = TakeOver::default();
    let mut held = Held::default();
    for pod in kernel.pods {
        let sandbox = key(&pod.attachment);
        // When it began is in its entry. Without one it is as old as can be: it must not pass for younger than its own DEL.
        let entry = entries.iter().find(|entry| self::sandbox(entry) == sandbox);
        let at = entry.map(|entry| clocks.since_boot(entry.allocated_unix_ns)).unwrap_or_default();
        let whose = pod_of(entries, &sandbox);
        held.hold(sandbox, whose, pod.addresses.iter().copied(), at);
    }
    for entry in entries {
        if !alive(entry, of_this_boot, kernel) {
            take.dead.extend(entry.addresses());
            continue;
        }
        let sandbox = sandbox(entry);
        let attachment =
            Attachment { container_id: sandbox.container_id.to_string(), ifname: sandbox.ifname.to_string() };
        let (whose, at) = (pod_of(entries, &sandbox), clocks.since_boot(entry.allocated_unix_ns));
        let addresses = held.hold(sandbox, whose, entry.addresses(), at);
        let link = link_of(entry, kernel).filter(|_| !addresses.is_empty());
        take.marks.extend(link.map(|link| Mark { link: link.name.clone(), attachment, addresses }));
    }
    for link in kernel.unmarked.iter().filter(|link| is_pod_link(&link.name)) {
        let sandbox = SandboxKey::new(format!("{ORPHAN}{}", link.name), IFNAME);
        let addresses = link.addresses.iter().copied();
        take.orphans += held.hold(sandbox, PodRef::default(), addresses, clocks.now).len();
    }
    take.dead.retain(|ip| !held.addresses.contains(ip));
    take.records = held.records();
    // Two marks on one link: the one whose address is routed to it wins, else the younger, which comes last in the file.
    take.marks.reverse();
    take.marks.sort_by_key(|mark| (mark.link.clone(), !is_routed(mark, kernel)));
    take.marks.dedup_by(|later, first| later.link == first.link);
    take
}

/// A ledger that may lack its newest records, with what is taken over. An address that is routed to a link of ours belongs to
/// the sandbox in the link's alias, whoever held it in the ledger. What others say fills in where the ledger says nothing:
/// the pool leaves an address to whom it is given first.
#[must_use]
pub fn reconciled(ledger: &[Record], take: &TakeOver, pods: &[PodLink]) -> Vec<Record> {
    let said = holdings(ledger);
    let links: BTreeSet<SandboxKey> = pods.iter().map(|pod| key(&pod.attachment)).collect();
    let corrects = |record: &&Record| {
        let Record::Allocated { sandbox, addresses, .. } = record else { return false };
        let known = said.get(sandbox).copied().unwrap_or_default();
        links.contains(sandbox) && addresses.iter().any(|ip| !known.contains(ip))
    };
    let (corrections, others): (Vec<&Record>, Vec<&Record>) = take.records.iter().partition(corrects);
    let corrected = holdings(corrections.iter().copied());
    let addresses: BTreeSet<IpAddr> = corrected.values().copied().flatten().copied().collect();
    let stands = |record: &&Record| {
        let (sandbox, of) = match record {
            Record::Allocated { sandbox, addresses, .. } | Record::Released { sandbox, addresses, .. } => {
                (sandbox, &**addresses)
            }
            Record::Tombstone { sandbox, .. } => (sandbox, &[][..]),
            Record::Eni(_) | Record::EniGone { .. } | Record::Assigned { .. } | Record::Unassigned { .. } => {
                return true;
            }
            Record::Intent { .. } | Record::Settled { .. } | Record::OpsUsed { .. } => return true,
        };
        !corrected.contains_key(sandbox) && !of.iter().any(|ip| addresses.contains(ip))
    };
    ledger.iter().filter(stands).chain(corrections).chain(others).cloned().collect()
}

/// What each sandbox holds after these.
fn holdings<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<&'a SandboxKey, &'a [IpAddr]> {
    let mut held = BTreeMap::new();
    for record in records {
        if let Record::Allocated { sandbox, addresses, .. } = record {
            held.insert(sandbox, &**addresses);
        } else if let Record::Released { sandbox, .. } = record {
            held.remove(sandbox);
        }
    }
    held
}

/// Who holds what, as far as it is known. *Invariant*: no address twice.
#[derive(Debug, Default)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    order: Vec<SandboxKey>,
    of: BTreeMap<SandboxKey, (PodRef, Vec<IpAddr>, Time)>,
}

impl Held {
    /// Adds what nobody holds yet of these to what the sandbox holds, and returns it.
    fn hold(
        &mut self,
        sandbox: SandboxKey,
        pod: PodRef,
        addresses: impl Iterator<Item = IpAddr>,
        at: Time,
    ) -> Vec<IpAddr> {
        let new: Vec<IpAddr> = addresses.filter(|ip| self.addresses.insert(*ip)).collect();
        if let Some((_, known, _)) = self.of.get_mut(&sandbox) {
            known.extend(&new);
        } else if !new.is_empty() {
            self.order.push(sandbox.clone());
            self.of.insert(sandbox, (pod, new.clone(), at));
        }
        new
    }

    fn records(mut self) -> Vec<Record> {
        let records = self.order.into_iter().filter_map(|sandbox| {
            let (pod, addresses, at) = self.of.remove(&sandbox)?;
            Some(Record::Allocated { sandbox, pod, addresses, at })
        });
        records.collect()
    }
}

/// Whether a name looks like a pod's host veth.
fn is_pod_link(name: &str) -> bool {
    let Some(at) = name.len().checked_sub(DIGITS) else { return false };
    (1..=PREFIX_MAX).contains(&at)
        && name.get(at..).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// As the incumbent decides (incumbent-testcases F08): a pod lives while a link is there whose name ends with its hash;
/// an entry that names no pod is believed. That, though, only when it is of this boot or routed.
fn alive(entry: &Allocation, of_this_boot: bool, kernel: Kernel<'_>) -> bool {
    if entry.pod_namespace.is_empty() && entry.pod_name.is_empty() {
        let routed = |ip: IpAddr| kernel.unmarked.iter().any(|link| link.addresses.contains(&ip));
        return of_this_boot || entry.addresses().any(routed);
    }
    let suffix = pod_suffix(&entry.pod_namespace, &entry.pod_name);
    let marked = kernel.pods.iter().map(|pod| &pod.name);
    let mut names = kernel.unmarked.iter().map(|link| &link.name).chain(marked);
    names.any(|name| name.ends_with(&suffix))
}

/// The unmarked link that is this entry's.
fn link_of<'a>(entry: &Allocation, kernel: Kernel<'a>) -> Option<&'a UnmarkedLink> {
    let routed = |link: &&UnmarkedLink| entry.addresses().any(|ip| link.addresses.contains(&ip));
    let suffix = pod_suffix(&entry.pod_namespace, &entry.pod_name);
    let named = |link: &&UnmarkedLink| link.name.ends_with(&suffix);
    let links = || kernel.unmarked.iter().filter(|link| is_pod_link(&link.name));
    links().find(routed).or_else(|| links().find(named))
}

fn is_routed(mark: &Mark, kernel: Kernel<'_>) -> bool {
    let link = kernel.unmarked.iter().find(|link| link.name == mark.link);
    link.is_some_and(|link| mark.addresses.iter().any(|ip| link.addresses.contains(ip)))
}

fn key(attachment: &Attachment) -> SandboxKey {
    SandboxKey::new(attachment.container_id.as_str(), attachment.ifname.as_str())
}

/// The sandbox as the runtime will name it at its DEL.
fn sandbox(entry: &Allocation) -> SandboxKey {
    let SandboxKey { container_id, ifname } = &entry.sandbox;
    let ifname = if &**ifname == IFNAME_UNKNOWN { IFNAME } else { &**ifname };
    SandboxKey::new(container_id.clone(), ifname)
}

fn pod_of(entries: &[Allocation], key: &SandboxKey) -> PodRef {
    let entry = entries.iter().find(|entry| sandbox(entry) == *key);
    entry.map_or_else(PodRef::default, |entry| PodRef {
        namespace: entry.pod_namespace.clone(),
        name: entry.pod_name.clone(),
        uid: "".into(),
        network: NETWORK.into(),
    })
}

#[cfg(test)]
mod tests;
