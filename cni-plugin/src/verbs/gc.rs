//! GC: takes away what the runtime no longer lists, the kernel first, then the addresses (design D4).
//!
//! The daemon says what its ledger holds beyond the list; the plugin takes the interfaces of those away; then the daemon
//! releases them. What cannot be taken away keeps its address and is told at the end (G-04).

use super::Call;
use crate::cni::error::{CniError, DATAPATH, TRY_AGAIN};
use crate::cni::netconf::ValidAttachment;
use crate::daemon::{self, Daemon};
use crate::log::Log;
use podwire_hostnet::pod::{self, Teardown};
use podwire_hostnet::{Attachment, NodeNet, PodLink, chain};
use podwire_proto::v1::{CollectRequest, Sandbox};

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
    let mut request = CollectRequest {
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
    if links.len() >= LIVING_MIN && links.len().saturating_mul(2) > held {
        return Err(too_many(&links, held));
    }
    let failures = take_away(&links, &mut request, log);
    request.dry_run = false;
    let collected = daemon.collect(&request, left()).map_err(refused)?.collected;
    for one in &collected {
        let reason = "the runtime no longer lists it";
        log.info("collected", &[("sandbox", &one.container_id), ("ifname", &one.ifname), ("reason", reason)]);
    }
    log.info("GC done", &[("valid", &valid.len().to_string()), ("collected", &collected.len().to_string())]);
    if failures.is_empty() {
        return Ok(());
    }
    Err(CniError::new(DATAPATH, "some interfaces could not be taken away").details(failures.join("; ")))
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
    Ok(links.into_iter().filter(|link| !link.doomed && is_dead(&link.attachment)).collect())
}

fn too_many(links: &[PodLink], held: usize) -> CniError {
    let names: Vec<&str> = links.iter().map(|l| l.attachment.container_id.as_str()).collect();
    CniError::new(TRY_AGAIN, "refused to collect most of the running pods").details(format!(
        "{} of {held} attachments are not listed by the runtime although their namespaces live: {}; has the runtime lost its state?",
        links.len(),
        names.join(", ")
    ))
}

/// Takes the links away. One that stays is listed as valid from then on: its address is not free.
fn take_away(links: &[PodLink], request: &mut CollectRequest, log: &mut Log) -> Vec<String> {
    let mut failures = Vec::new();
    for link in links {
        let names = std::slice::from_ref(&link.name);
        let teardown = Teardown { attachment: &link.attachment, host_ifnames: names };
        let deleted = pod::delete_own(&teardown);
        if deleted.is_err() {
            request.valid.push(Sandbox {
                container_id: link.attachment.container_id.clone(),
                ifname: link.attachment.ifname.clone(),
                network: request.network.clone(),
            });
        }
        if let Err(error) = deleted.and_then(|gone| gone.rules) {
            log.error("cannot take the interface away", &[("link", &link.name), ("error", &chain(&error))]);
            failures.push(format!("{}: {}", link.name, chain(&error)));
        }
    }
    failures
}
