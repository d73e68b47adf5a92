//! GC: ends what the runtime no longer lists.
//!
//! The daemon says what its ledger holds beyond the list; then exactly that is released, one after the other and each as by a
//! DEL that started with this GC: the link first, then the address (design D4), nothing of a life that began later. What cannot
//! be released is told at the end (G-04).

use super::Call;
use crate::cni::error::{CniError, TRY_AGAIN};
use crate::cni::netconf::ValidAttachment;
use crate::daemon::{self, Daemon};
use crate::log::Log;
use podwire_hostnet::{Attachment, NodeNet, PodLink, chain, host_ifname};
use podwire_proto::v1::{CollectRequest, Pod, ReleaseRequest, Sandbox};

/// A GC that would take the interfaces of this many running pods, and of more than half of the network's, is a runtime
/// that has lost its memory rather than pods that have died (G-12). *Source*: our choice.
const LIVING_MIN: usize = 5;

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { conf, started, .. } = *call;
    // No list is not an empty list (G-07): libcni leaves it out when it knows nothing.
    let Some(valid) = &conf.valid_attachments else {
        log.warn("the runtime gives no list of valid attachments; nothing collected", &[]);
        return Ok(());
    };
    let sandbox = |one: &ValidAttachment| Sandbox {
        container_id: one.container_id.clone(),
        ifname: one.ifname.clone(),
        network: conf.name.clone(),
    };
    let request = CollectRequest {
        network: conf.name.clone(),
        valid: valid.iter().map(sandbox).collect(),
        started_boottime_ms: started.boottime_ms,
        dry_run: true,
    };
    let left = || started.left(conf.deadlines.del);
    let mut daemon = Daemon::connect(left().min(conf.deadlines.status)).map_err(|e| daemon::away(&e))?;
    let refused = |e: daemon::DaemonError| e.to_cni("cannot collect");
    let dead = daemon.collect(&request, left()).map_err(refused)?;
    let links = links_of(&dead.collected)?;
    let held = usize::try_from(dead.held).unwrap_or(usize::MAX);
    // What waits for its deletion already is no running pod's.
    let living: Vec<&PodLink> = links.iter().filter(|link| !link.doomed).collect();
    if living.len() >= LIVING_MIN && living.len().saturating_mul(2) > held {
        return Err(too_many(&living, held));
    }
    let failures = release(call, &mut daemon, &dead.collected, &links, log);
    let collected = dead.collected.len() - failures.len();
    log.info("GC done", &[("valid", &valid.len().to_string()), ("collected", &collected.to_string())]);
    if failures.is_empty() {
        return Ok(());
    }
    Err(CniError::new(TRY_AGAIN, "some attachments could not be collected").details(failures.join("; ")))
}

/// The host links of these attachments. A link's own mark says whose it is.
fn links_of(dead: &[Sandbox]) -> Result<Vec<PodLink>, CniError> {
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |e| super::host_failed("cannot list the pods' interfaces", &e);
    let links = NodeNet::open().and_then(|mut net| net.pods()).map_err(failed)?;
    let is_dead =
        |a: &Attachment| dead.iter().any(|s| s.container_id == a.container_id && s.ifname == a.ifname);
    Ok(links.into_iter().filter(|link| is_dead(&link.attachment)).collect())
}

fn too_many(links: &[&PodLink], held: usize) -> CniError {
    let names: Vec<&str> = links.iter().map(|l| l.attachment.container_id.as_str()).collect();
    CniError::new(TRY_AGAIN, "refused to collect most of the running pods").details(format!(
        "{} of {held} attachments are not listed by the runtime although their namespaces live: {}; has the runtime lost its state?",
        links.len(),
        names.join(", ")
    ))
}

/// Releases the dead one by one; returns what could not be.
///
/// *Why not all in one call*: the daemon would decide anew, and take an ADD with it that was only waiting when it was asked.
fn release(
    call: &Call<'_>,
    daemon: &mut Daemon,
    dead: &[Sandbox],
    links: &[PodLink],
    log: &mut Log,
) -> Vec<String> {
    let Call { conf, started, .. } = *call;
    let mut failures = Vec::new();
    for one in dead {
        let attachment = Attachment { container_id: one.container_id.clone(), ifname: one.ifname.clone() };
        let own = links.iter().filter(|link| link.attachment == attachment).map(|link| link.name.clone());
        // A name that nothing has makes the daemon look for a link all the same: one may have been made just now.
        let unmarked = host_ifname(&conf.veth_prefix, "", "", &attachment);
        let request = ReleaseRequest {
            sandbox: Some(one.clone()),
            pod: Some(Pod::default()),
            started_boottime_ms: started.boottime_ms,
            host_interfaces: own.chain([unmarked]).collect(),
        };
        let who = [("sandbox", one.container_id.as_str()), ("ifname", one.ifname.as_str())];
        match daemon.release(&request, started.left(conf.deadlines.del)) {
            Ok(_) => log.info("collected", &[who[0], who[1], ("reason", "the runtime no longer lists it")]),
            Err(error) => {
                let reason = chain(&error);
                log.error("cannot collect", &[who[0], who[1], ("error", &reason)]);
                failures.push(format!("{}/{}: {reason}", one.container_id, one.ifname));
            }
        }
    }
    failures
}
