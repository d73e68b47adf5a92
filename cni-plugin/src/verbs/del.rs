//! DEL: the kernel first, then the address (design D4), with whatever pieces there are.
//!
//! CNI_NETNS is not looked at: it may be empty, gone, or by now lead to another namespace, even the host's own (D-01). What is
//! taken away is decided by what a link says of itself.

use super::{Call, host_failed};
use crate::attach;
use crate::cni::error::{CniError, TRY_AGAIN};
use crate::cni::result;
use crate::daemon::Daemon;
use crate::log::Log;
use crate::pending_release::PendingRelease;
use podwire_hostnet::pod::{self, LinkGone, Teardown};
use podwire_hostnet::{Attachment, HostError, chain, host_ifname};
use podwire_proto::RELEASED_DIR;
use podwire_proto::convert;
use podwire_proto::v1::ReleaseRequest;
use std::path::Path;

/// *Source*: sched(7), "The nice value".
const LEAST_URGENT: i32 = 19;

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { invocation, conf, started } = *call;
    give_way();
    let attachment = attach::attachment(invocation);
    let names = candidates(call, &attachment);
    let request = ReleaseRequest {
        sandbox: Some(attach::sandbox(invocation, conf)),
        pod: Some(attach::pod(invocation)),
        started_boottime_ms: started.boottime_ms,
        host_interfaces: names.clone(),
    };
    let left = || started.left(conf.deadlines.del);
    let outcome = Daemon::connect(std::time::Duration::ZERO).and_then(|mut d| d.release(&request, left()));
    match outcome {
        Ok(released) => {
            log.info(
                "pod unwired",
                &[
                    ("ip", &released.addresses.join(",")),
                    ("link", &released.host_interface),
                    ("duration_ms", &started.instant.elapsed().as_millis().to_string()),
                ],
            );
            Ok(())
        }
        Err(error) => {
            log.warn("ipamd did not take the release", &[("error", &chain(&error))]);
            // A runtime that ended while the daemon was waited for may have begun the container's next life meanwhile, with a
            // link of the same name and alias.
            if !started.is_waited_for() {
                let msg = "the runtime that asked is gone; its next DEL ends this";
                return Err(CniError::new(TRY_AGAIN, msg).because(&error));
            }
            let teardown = Teardown { attachment: &attachment, host_ifnames: &names };
            alone(call, &teardown)
        }
    }
}

/// Lets everything else go first: a pod that ends can wait a little, one that starts should not, least of all for the end of
/// two hundred others while a node is drained.
fn give_way() {
    // One that may not is as urgent as the rest.
    let _ = rustix::process::setpriority_process(None, LEAST_URGENT);
}

/// What the daemon would have done: the link, and a note for when it comes back.
fn alone(call: &Call<'_>, teardown: &Teardown<'_>) -> Result<(), CniError> {
    let Call { invocation, conf, started } = *call;
    let deleted = pod::delete_own(teardown);
    let sandbox = attach::sandbox(invocation, conf);
    let pending = PendingRelease::new(&sandbox, &attach::pod(invocation), started.boottime_ms);
    leave_behind(deleted, &pending, Path::new(RELEASED_DIR))
}

/// Leaves the release pending, if the link is gone. The daemon takes it in without a look at any link: with one still there,
/// another pod would get the address of a pod that is wired (design D4). The runtime repeats the DEL instead.
fn leave_behind(
    deleted: Result<LinkGone, HostError>,
    pending: &PendingRelease,
    dir: &Path,
) -> Result<(), CniError> {
    let gone = deleted.map_err(|error| host_failed("cannot delete the pod's host interface", &error))?;
    if let Err(source) = pending.write(dir) {
        // Forgotten here, the address would be lost until GC: the runtime is to try again.
        let msg = "ipamd is away and the pending release cannot be written";
        return Err(CniError::new(TRY_AGAIN, msg).because(&source));
    }
    gone.rules.map_err(|error| host_failed("cannot remove the pod's routing rules", &error))
}

/// The names the host veth may have: by pod, by attachment (where ADD did not know the pod), and as ADD's result says.
pub(super) fn candidates(call: &Call<'_>, attachment: &Attachment) -> Vec<String> {
    let Call { invocation, conf, .. } = *call;
    let mut names = vec![attach::host_name(invocation, conf)];
    let by_attachment = host_ifname(&conf.veth_prefix, "", "", attachment);
    let earlier = conf.prev_result.as_ref().map(|p| result::earlier(p, &invocation.ifname).hosts);
    let named = earlier.into_iter().flatten().map(|host| host.name);
    let further = std::iter::once(by_attachment).chain(named);
    for name in further {
        if convert::ifname(&name).is_ok() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwire_proto::v1::{Pod, Sandbox};

    fn refused() -> HostError {
        HostError::Setting("the kernel says no".into())
    }

    /// What a DEL without daemon says, and how many files it leaves, when the kernel did this.
    fn left_behind(deleted: Result<LinkGone, HostError>) -> (Option<String>, usize) {
        let dir = tempfile::tempdir().expect("a directory");
        let sandbox = Sandbox { container_id: "c1".into(), ifname: "eth0".into(), network: "aws-cni".into() };
        let pending = PendingRelease::new(&sandbox, &Pod::default(), 7);
        let error = leave_behind(deleted, &pending, dir.path()).err();
        (error.map(|e| e.msg), std::fs::read_dir(dir.path()).expect("a directory").count())
    }

    #[test]
    fn release_is_left_pending_only_when_the_link_is_gone() {
        let gone = |was_there, rules| Ok(LinkGone { was_there, rules });
        let link_stays = Some("cannot delete the pod's host interface".to_owned());
        let rules_stay = Some("cannot remove the pod's routing rules".to_owned());
        assert_eq!(left_behind(Err(refused())), (link_stays, 0));
        assert_eq!(left_behind(gone(true, Ok(()))), (None, 1));
        assert_eq!(left_behind(gone(false, Ok(()))), (None, 1));
        assert_eq!(left_behind(gone(true, Err(refused()))), (rules_stay, 1));
    }
}
