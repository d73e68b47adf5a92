//! DEL: the kernel first, then the address (design D4), with whatever pieces there are.
//!
//! CNI_NETNS is only a hint where to look: it may be empty, gone, or by now lead to another namespace, even the host's own
//! (D-01). What is taken away is decided by what a link says of itself, never by the path.

use super::{Call, host_failed};
use crate::attach;
use crate::cni::error::{CniError, TRY_AGAIN};
use crate::cni::result;
use crate::daemon::Daemon;
use crate::log::Log;
use crate::tombstone::{self, PendingRelease};
use podwire_hostnet::pod::{self, Teardown};
use podwire_hostnet::{Attachment, Netns, chain, host_ifname};
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
            log.warn("ipamd did not take the release; left it pending", &[("error", &chain(&error))]);
            let netns = Netns::open(&invocation.netns).ok();
            let teardown = Teardown { attachment: &attachment, host_ifnames: &names, netns: netns.as_ref() };
            alone(call, &teardown, log)
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
fn alone(call: &Call<'_>, teardown: &Teardown<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { invocation, conf, started } = *call;
    let deleted = pod::delete_own(teardown);
    let sandbox = attach::sandbox(invocation, conf);
    let pending = PendingRelease::new(&sandbox, &attach::pod(invocation), started.boottime_ms);
    if let Err(source) = pending.write(Path::new(tombstone::DIR)) {
        // Forgotten here, the address would be lost until GC: the runtime is to try again.
        let msg = "ipamd is away and the pending release cannot be written";
        return Err(CniError::new(TRY_AGAIN, msg).because(&source));
    }
    match deleted {
        Ok(_) => Ok(()),
        Err(error) => {
            log.error("cannot delete the link", &[("error", &chain(&error))]);
            Err(host_failed("cannot delete the pod's host interface", &error))
        }
    }
}

/// The names the host veth may have: by pod, by attachment (where ADD did not know the pod), and as ADD's result says.
fn candidates(call: &Call<'_>, attachment: &Attachment) -> Vec<String> {
    let Call { invocation, conf, .. } = *call;
    let mut names = vec![attach::host_name(invocation, conf)];
    let by_attachment = host_ifname(&conf.veth_prefix, "", "", attachment);
    let earlier = conf.prev_result.as_ref().map(|p| result::earlier(p, &invocation.ifname).host_interfaces);
    let further = std::iter::once(by_attachment).chain(earlier.into_iter().flatten());
    for name in further {
        if convert::ifname(&name).is_ok() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
