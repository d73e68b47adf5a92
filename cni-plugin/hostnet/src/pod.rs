//! The pod's side of host networking. Used by the plugin, one pod at a time.
//!
//! ADD asks for no list of anything, moves no device between namespaces, and sends three batches: the pair, the pod's
//! half, the host's half. What fails is undone by deleting the pair: everything made hangs on it.

mod check;
mod del;
mod way;

pub use check::{End, Expected, Seen, Way, check};
pub(crate) use del::belongs;
pub use del::{LinkGone, Teardown, delete_own};

use crate::error::{During, HostError};
use crate::names::{Attachment, is_host_mac};
use crate::netlink::link::{self, Key, Link, VethPair};
use crate::netlink::rule::{self, Rule};
use crate::netlink::socket::{Answer, NetlinkError, Socket};
use crate::netlink::{addr, host_bits, neigh, route};
use crate::netns::Netns;
use crate::numbers::EniSlot;
use crate::plan::{pod as plan, routing};
use crate::sysctl;
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

/// What a pod's interface should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWiring {
    /// Whose it is; its interface name is the one inside the pod.
    pub attachment: Attachment,
    /// The host end's name.
    pub host_ifname: String,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// MTU of both ends.
    pub mtu: u32,
    /// In layout compat the ENI that carries the addresses: they get rules of their own.
    pub compat: Option<EniSlot>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wired {
    /// MAC of the host end.
    pub host_mac: [u8; 6],
    /// MAC of the pod's end.
    pub pod_mac: [u8; 6],
    /// A link left over from an earlier sandbox had the name and was replaced.
    pub replaced: bool,
}

/// Sockets in the host's and in a pod's namespace.
#[derive(Debug)]
pub struct PodNet {
    host: Socket,
    pod: Socket,
    netns: Netns,
}

impl PodNet {
    /// Opens both sockets; the calling thread is in the host's namespace before and after.
    ///
    /// # Errors
    /// The pod's namespace cannot be entered, or the kernel gives no socket.
    pub fn open(netns: Netns) -> Result<Self, HostError> {
        let host = Socket::route().during(|| "open a routing socket".into())?;
        let pod =
            netns.within(Socket::route)?.during(|| format!("open a routing socket in {}", netns.path()))?;
        Ok(Self { host, pod, netns })
    }

    /// Whether the pod has an interface of that name already.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn has_interface(&mut self, ifname: &str) -> Result<bool, HostError> {
        Ok(find(&mut self.pod, Key::Name(ifname))?.is_some())
    }

    /// Makes the pod's interface.
    ///
    /// # Errors
    /// A name is taken, or the kernel refuses. Everything this call made has been removed, except where the error is
    /// [`HostError::LinkStays`].
    pub fn add(&mut self, wiring: &PodWiring) -> Result<Wired, HostError> {
        plan::check(&wiring.addresses)?;
        let (link, replaced) = self.create(wiring)?;
        match self.configure(wiring, &link) {
            Ok(()) => Ok(Wired {
                host_mac: wiring.attachment.host_mac(),
                pod_mac: wiring.attachment.pod_mac(),
                replaced,
            }),
            Err(error) => {
                let rules = self.host.batch(rules(wiring).map(|r| rule::delete(&r)).collect());
                let rules = rules.map(drop).during(|| format!("remove the rules of {} again", link.name));
                Err(self.take_back(&link, both(error, rules.err())))
            }
        }
    }

    /// Makes the pair; a link of ours that has the host name is replaced once.
    fn create(&mut self, wiring: &PodWiring) -> Result<(Link, bool), HostError> {
        let taken = match self.try_create(wiring)? {
            Created::Made(link) => return Ok((link, false)),
            Created::NameTaken(link) => link,
        };
        if Attachment::from_alias(&taken.alias).is_none() && !taken.mac.is_some_and(is_host_mac) {
            let owner = format!("alias {:?}, kind {:?}", taken.alias, taken.kind);
            return Err(HostError::Foreign { name: taken.name, owner });
        }
        // A link of this very attachment with its other end in place is no leftover: another ADD has just made it.
        let ifname = &wiring.attachment.ifname;
        if belongs(&taken, &wiring.attachment) && self.has_interface(ifname)? {
            return Err(taken_in(&self.netns, ifname));
        }
        match self.host.request(link::delete(Key::Index(taken.index))) {
            Ok(_) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error).during(|| format!("replace stale link {}", taken.name)),
        }
        match self.try_create(wiring)? {
            Created::Made(link) => Ok((link, true)),
            // Another ADD for this attachment, which replaced the same leftover a moment before: the address is that one's.
            Created::NameTaken(link) if belongs(&link, &wiring.attachment) => {
                Err(taken_in(&self.netns, ifname))
            }
            Created::NameTaken(link) => {
                Err(HostError::Foreign { name: link.name, owner: "another ADD for the same pod".into() })
            }
        }
    }

    fn try_create(&mut self, wiring: &PodWiring) -> Result<Created, HostError> {
        let pair = VethPair {
            name: &wiring.host_ifname,
            mac: wiring.attachment.host_mac(),
            peer_name: &wiring.attachment.ifname,
            peer_mac: wiring.attachment.pod_mac(),
            peer_netns: self.netns.as_fd(),
            mtu: wiring.mtu,
        };
        let batch = vec![link::create_veth(&pair), link::get(Key::Name(&wiring.host_ifname))];
        let action = || format!("make the veth pair {} and {}", wiring.host_ifname, wiring.attachment.ifname);
        let answers = match self.host.batch(batch).during(action) {
            Ok(answers) => answers,
            // Perhaps it was made. It is not deleted: it may as well be another ADD's for this attachment.
            Err(unknown) => {
                return Err(match self.look_again(wiring) {
                    Ok(Some(link)) => link_stays(&link.name, unknown),
                    Ok(None) => unknown,
                    Err(unseen) => link_stays(&wiring.host_ifname, both(unknown, Some(unseen))),
                });
            }
        };
        let [made, read] = <[Answer; 2]>::try_from(answers)
            .map_err(|_| NetlinkError::Unreadable("a veth request"))
            .during(action)?;
        let found = read.replies.iter().find_map(|r| link::parse(r.kind, &r.payload));
        match (made.verdict, found) {
            (Ok(()), Some(link)) => Ok(Created::Made(link)),
            (Ok(()), None) => {
                let source = read.verdict.err().unwrap_or(NetlinkError::Unreadable("a link query"));
                let unread = HostError::Kernel { action: action(), source };
                Err(match self.look_again(wiring) {
                    // Made by the same batch a moment ago: it is no other ADD's.
                    Ok(Some(link)) => self.take_back(&link, unread),
                    Ok(None) => unread,
                    Err(unseen) => link_stays(&wiring.host_ifname, both(unread, Some(unseen))),
                })
            }
            (Err(error), Some(link)) if error.errno() == Some(Errno::EXIST) => Ok(Created::NameTaken(link)),
            (Err(error), None) if error.errno() == Some(Errno::EXIST) => {
                Err(taken_in(&self.netns, &wiring.attachment.ifname))
            }
            (Err(error), _) => Err(error).during(action),
        }
    }

    /// The host end of a pair that may have been made, and of which the index is not known.
    fn look_again(&mut self, wiring: &PodWiring) -> Result<Option<Link>, HostError> {
        let found = find(&mut self.host, Key::Name(&wiring.host_ifname))?;
        Ok(found.filter(|link| belongs(link, &wiring.attachment)))
    }

    /// Deletes the pair that this call made, because of `failure`. Returns what to tell.
    fn take_back(&mut self, link: &Link, failure: HostError) -> HostError {
        match self.host.request(link::delete(Key::Index(link.index))) {
            Ok(_) => failure,
            Err(left) if left.is_absent() => failure,
            Err(left) => {
                let left = Err::<(), _>(left).during(|| format!("remove {} again", link.name));
                link_stays(&link.name, both(failure, left.err()))
            }
        }
    }

    fn configure(&mut self, wiring: &PodWiring, link: &Link) -> Result<(), HostError> {
        let action = || format!("configure {} in {}", wiring.attachment.ifname, self.netns.path());
        // The kernel reports a veth's peer as its lower device.
        let device = link.peer.ok_or(NetlinkError::Unreadable("a link query")).during(action)?;
        self.pod.all(pod_half(wiring, device)).during(action)?;
        // A pod must not be able to give the host a default route by router advertisements.
        sysctl::write_if_present(&format!("/proc/sys/net/ipv6/conf/{}/accept_ra", link.name), "0")?;
        let key = Key::Index(link.index);
        let mut batch = vec![link::set_alias(key, &wiring.attachment.alias()), link::set_up(key)];
        batch.extend(plan::host_routes(&wiring.addresses, link.index).iter().map(route::replace));
        self.host.all(batch).during(|| format!("configure {}", link.name))?;
        self.add_rules(wiring)
    }

    /// After the routes: the daemon takes a rule to an address that is routed nowhere for one that was left over. It may
    /// have added the same rule already.
    fn add_rules(&mut self, wiring: &PodWiring) -> Result<(), HostError> {
        let batch = rules(wiring).map(|r| rule::add(&r)).collect();
        let action = || format!("add the rules of {}", wiring.host_ifname);
        for answer in self.host.batch(batch).during(action)? {
            let there = |e: &NetlinkError| e.errno() == Some(Errno::EXIST);
            answer.verdict.or_else(|e| if there(&e) { Ok(()) } else { Err(e) }).during(action)?;
        }
        Ok(())
    }
}

/// The rules of the pod's own; none in layout constant.
fn rules(wiring: &PodWiring) -> impl Iterator<Item = Rule> {
    let addresses = wiring.compat.iter().flat_map(|slot| wiring.addresses.iter().map(move |ip| (*ip, *slot)));
    addresses.flat_map(|(address, slot)| routing::pod_rules(address, Some(slot)))
}

/// A failure, and that of undoing what went before it.
fn both(error: HostError, undo: Option<HostError>) -> HostError {
    match undo {
        None => error,
        Some(undo) => HostError::Several(vec![error, undo]),
    }
}

fn link_stays(link: &str, failure: HostError) -> HostError {
    HostError::LinkStays { link: link.to_owned(), failure: Box::new(failure) }
}

fn taken_in(netns: &Netns, ifname: &str) -> HostError {
    HostError::InterfaceTaken { ifname: ifname.to_owned(), netns: netns.path().to_owned() }
}

enum Created {
    Made(Link),
    NameTaken(Link),
}

/// *Why a permanent neighbour*: nobody has the gateway's address, so nobody would answer for it.
fn pod_half(wiring: &PodWiring, device: u32) -> Vec<crate::netlink::wire::Message> {
    let mut batch = vec![link::set_up(Key::Index(device))];
    batch.extend(wiring.addresses.iter().map(|ip| addr::add(device, *ip, host_bits(*ip), true)));
    batch.extend(plan::pod_routes(&wiring.attachment.ifname, device).iter().map(route::replace));
    batch.push(neigh::permanent(device, IpAddr::V4(plan::GATEWAY), wiring.attachment.host_mac()));
    batch
}

/// Asks for one link; `None` when there is none.
fn find(socket: &mut Socket, key: Key<'_>) -> Result<Option<Link>, HostError> {
    match socket.request(link::get(key)) {
        Ok(replies) => Ok(replies.iter().find_map(|r| link::parse(r.kind, &r.payload))),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error).during(|| format!("find link {key:?}")),
    }
}

/// Opens, looks whether the name is free, and wires: the whole of an ADD's kernel work.
///
/// # Errors
/// As [`PodNet::open`] and [`PodNet::add`]; also when the pod has an interface of that name.
pub fn add(netns: Netns, wiring: &PodWiring) -> Result<Wired, HostError> {
    let mut net = PodNet::open(netns)?;
    let ifname = &wiring.attachment.ifname;
    if net.has_interface(ifname)? {
        return Err(taken_in(&net.netns, ifname));
    }
    net.add(wiring)
}
