//! Taking a pod's interface away.

use super::check::routes;
use super::find;
use crate::error::{During, HostError};
use crate::names::Attachment;
use crate::netlink::link::{self, Key, Link};
use crate::netlink::rule::{self, SeenRule};
use crate::netlink::socket::Socket;
use crate::netlink::uapi::AF_INET;
use crate::numbers::TABLE_PODS;
use crate::plan::routing;
use std::net::IpAddr;

/// What is known of an interface that is to go.
#[derive(Debug)]
pub struct Teardown<'a> {
    /// Whose it is.
    pub attachment: &'a Attachment,
    /// Names its host end may have. Each is only a guess: what decides is whose the link says it is.
    pub host_ifnames: &'a [String],
}

/// The attachment has no host veth any more, so that its address may be given back (design D4).
#[derive(Debug)]
#[must_use]
pub struct LinkGone {
    /// Whether there was one.
    pub was_there: bool,
    /// Whether the rules went that lead nowhere without it. Those that stay hold up nothing: the daemon removes the rules of
    /// an address when it begins to cool.
    pub rules: Result<(), HostError>,
}

/// Deletes the attachment's host veth itself, for want of a daemon to do so, and then what rules of layout compat lead
/// nowhere.
///
/// # Errors
/// The kernel refuses: the link may still be there, and its address must stay with it.
pub fn delete_own(teardown: &Teardown<'_>) -> Result<LinkGone, HostError> {
    let mut host = open()?;
    let Some(link) = locate(&mut host, teardown.host_ifnames, teardown.attachment)? else {
        return Ok(LinkGone { was_there: false, rules: Ok(()) });
    };
    let was_there = match host.request(link::delete(Key::Index(link.index))) {
        Ok(_) => true,
        Err(error) if error.is_absent() => false,
        Err(error) => return Err(error).during(|| format!("delete link {}", link.name)),
    };
    Ok(LinkGone { was_there, rules: forget_rules(&mut host) })
}

/// Removes our rules for single addresses that are routed nowhere. The link, once down, no longer tells its addresses; but
/// a pod's rules come after its routes, so that a rule without a route is one whose pod is gone.
fn forget_rules(host: &mut Socket) -> Result<(), HostError> {
    let rules = host.list(&rule::list(AF_INET), rule::parse).during(|| "list routing rules".into())?;
    let of_pods: Vec<_> = rules
        .into_iter()
        .filter(SeenRule::is_ours)
        .filter_map(|s| Some((routing::address_of(&s.rule)?, s.rule)))
        .collect();
    if of_pods.is_empty() {
        return Ok(());
    }
    let routes = routes(host, TABLE_PODS)?;
    let routed = |address: &IpAddr| routes.iter().any(|r| r.destination.ip() == *address);
    let stale = of_pods.iter().filter(|(address, _)| !routed(address));
    // Somebody else may remove the same rule at the same time.
    let answers = host.batch(stale.map(|(_, r)| rule::delete(r)).collect());
    let answers = answers.during(|| "remove the rules of pods that are gone".into())?;
    let failure = answers.into_iter().filter_map(|a| a.verdict.err()).find(|e| !e.is_absent());
    failure.map_or(Ok(()), Err).during(|| "remove the rules of a pod that is gone".into())
}

fn open() -> Result<Socket, HostError> {
    Socket::route().during(|| "open a routing socket".into())
}

/// The attachment's host veth: by a guessed name, else by whose any link says it is. With neither the pod's name nor ADD's
/// result nobody can guess, and an address must not be given back under a link that was only not found (design D4).
pub(super) fn locate(
    host: &mut Socket,
    names: &[String],
    attachment: &Attachment,
) -> Result<Option<Link>, HostError> {
    for name in names {
        if let Some(link) = find(host, Key::Name(name))?
            && belongs(&link, attachment)
        {
            return Ok(Some(link));
        }
    }
    let links = host.list(&link::list(Some("veth")), link::parse).during(|| "list pod links".into())?;
    Ok(links.into_iter().find(|link| belongs(link, attachment)))
}

/// Whether a link says that it is this attachment's: by alias, or by MAC where it has no alias of ours: not yet, or not any
/// more, since somebody else has written there.
pub(crate) fn belongs(link: &Link, attachment: &Attachment) -> bool {
    link.alias == attachment.alias()
        || (Attachment::from_alias(&link.alias).is_none() && link.mac == Some(attachment.host_mac()))
}
