//! Pods taken over from the incumbent whose DEL may never reach us: while the incumbent's plugin was still in place, or
//! because nobody knows their sandbox. When such a pod's link is gone for good, its address is released.

use std::time::Duration;

use podwire_hostnet::{Attachment, NodeNet};
use podwire_pool::{Answer, Holding, Input, SandboxKey};
use tokio::sync::oneshot;

use crate::clock;
use crate::driver::{Handle, Message};
use crate::rpc::server::IpamService;
use crate::takeover::{Mark, ORPHAN};

/// Pause between looks. *Source*: our choice; nobody waits for these addresses.
const PAUSE: Duration = Duration::from_secs(10);
/// Looks in a row that must miss a link. *Source*: our choice; a DEL under way ends in between.
const MISSES: u32 = 2;

/// A pod that is watched by its link.
#[derive(Debug)]
struct Watched {
    link: String,
    sandbox: SandboxKey,
    misses: u32,
}

impl Watched {
    /// A later pod of the same name has a link of the same name, which says whose it is. One that says nothing may be this
    /// pod's though its sandbox is known: it could not be marked, and goes on working all the same.
    fn is_there(&self, present: &[Present]) -> bool {
        let orphan = self.sandbox.container_id.starts_with(ORPHAN);
        let own = |owner: &Option<SandboxKey>| owner.as_ref().is_none_or(|o| !orphan && *o == self.sandbox);
        present.iter().any(|(link, owner)| *link == self.link && own(owner))
    }
}

/// A veth, and whose it says it is.
type Present = (String, Option<SandboxKey>);

/// Watches the links of pods that were taken over, until all are gone or the daemon ends.
pub async fn watch(marks: Vec<Mark>, driver: Handle, service: IpamService) {
    let marked = marks.into_iter().map(|mark| Watched {
        link: mark.link,
        sandbox: SandboxKey::new(mark.attachment.container_id, mark.attachment.ifname),
        misses: 0,
    });
    let mut watched: Vec<Watched> = marked.chain(orphans(&driver).await).collect();
    while !watched.is_empty() {
        tokio::time::sleep(PAUSE).await;
        match tokio::task::spawn_blocking(links).await {
            Ok(Ok(present)) => look(&mut watched, &present, &service).await,
            Ok(Err(error)) => tracing::debug!(%error, "links of pods taken over cannot be listed now"),
            Err(error) => tracing::error!(%error, "links of pods taken over were not listed"),
        }
    }
}

/// Addresses held for pods nobody knows, of this life or an earlier one.
async fn orphans(driver: &Handle) -> Vec<Watched> {
    let (reply, answer) = oneshot::channel();
    if driver.send(Message::Holdings { reply }).await.is_err() {
        return Vec::new();
    }
    let holdings = answer.await.map(|(_, holdings)| holdings).unwrap_or_default();
    let link = |holding: &Holding| holding.sandbox.container_id.strip_prefix(ORPHAN).map(str::to_owned);
    let watched = holdings
        .iter()
        .filter_map(|holding| Some((link(holding)?, holding)))
        .map(|(link, holding)| Watched { link, sandbox: holding.sandbox.clone(), misses: 0 });
    watched.collect()
}

/// All veths.
fn links() -> Result<Vec<Present>, podwire_hostnet::HostError> {
    let mut net = NodeNet::open()?;
    let mut present: Vec<Present> = net.unmarked_links()?.into_iter().map(|link| (link.name, None)).collect();
    present.extend(net.pods()?.into_iter().map(|pod| {
        let Attachment { container_id, ifname } = pod.attachment;
        (pod.name, Some(SandboxKey::new(container_id, ifname)))
    }));
    Ok(present)
}

async fn look(watched: &mut Vec<Watched>, present: &[Present], service: &IpamService) {
    for pod in watched.iter_mut() {
        pod.misses = if pod.is_there(present) { 0 } else { pod.misses + 1 };
    }
    let (gone, left) = std::mem::take(watched).into_iter().partition(|pod| pod.misses >= MISSES);
    *watched = left;
    for Watched { link, sandbox, .. } in gone {
        let (key, started) = (sandbox.clone(), clock::now());
        match service.ask(|request| Input::Release { request, sandbox, started }).await {
            Ok(Answer::Released(addresses)) if addresses.is_empty() => {}
            Ok(Answer::Released(addresses)) => {
                tracing::info!(link, sandbox = %key.container_id, ?addresses, "a pod taken over is gone; released");
            }
            Ok(_) | Err(_) => watched.push(Watched { link, sandbox: key, misses: 0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_is_there_while_its_link_is_marked_or_not() {
        let of = |id: &str| SandboxKey::new(id, "eth0");
        let orphan = format!("{ORPHAN}eni1");
        for (whose, owner, there) in [
            ("c1", Some(None), true),
            ("c1", Some(Some("c1")), true),
            ("c1", Some(Some("c2")), false),
            ("c1", None, false),
            (orphan.as_str(), Some(None), true),
            (orphan.as_str(), Some(Some("c2")), false),
            (orphan.as_str(), None, false),
        ] {
            let pod = Watched { link: "eni1".into(), sandbox: of(whose), misses: 0 };
            let present: Vec<Present> =
                owner.into_iter().map(|owner| ("eni1".to_owned(), owner.map(of))).collect();
            assert_eq!(pod.is_there(&present), there, "{whose}, {owner:?}");
        }
    }
}
