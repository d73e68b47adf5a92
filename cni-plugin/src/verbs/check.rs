//! CHECK: result, ledger and kernel must agree. Changes nothing (K-10).

use super::{Call, add, host_failed};
use crate::attach;
use crate::cni::error::{CONFIG, CniError, DATAPATH};
use crate::cni::result::{self, Earlier};
use crate::daemon::{self, Daemon};
use crate::log::Log;
use podwire_hostnet::pod::{self, PodNet};
use podwire_proto::convert;
use std::net::IpAddr;

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { invocation, conf, started } = *call;
    let Some(previous) = &conf.prev_result else {
        return Err(CniError::new(CONFIG, "CHECK needs prevResult"));
    };
    let earlier = result::earlier(previous, &invocation.ifname);
    let netns = add::open_netns(invocation)?;
    let left = || started.left(conf.deadlines.del);
    let away = |e| daemon::away(&e);
    let mut daemon = Daemon::connect(left().min(conf.deadlines.status)).map_err(away)?;
    let sandbox = attach::sandbox(invocation, conf);
    let found = daemon.inspect(sandbox, left()).map_err(|e| e.to_cni("cannot ask ipamd"))?;
    let Some(allocation) = found.allocation else {
        let msg = "the ledger holds no address for this attachment";
        return Err(CniError::new(DATAPATH, msg));
    };
    let held = convert::addresses(&allocation.addresses).unwrap_or_default();
    let mut differences = against_result(&earlier, &invocation.ifname, &held);
    // K-07: all may be well here, and the VPC not lead here any more.
    differences.extend(found.doubt.map(|doubt| doubt.message));
    let wiring = attach::wiring(invocation, conf, &allocation)?;
    let failed = |e| host_failed("cannot look at the pod's interface", &e);
    let mut net = PodNet::open(netns).map_err(failed)?;
    differences.extend(pod::check(&mut net, &wiring, earlier.pod_mac.as_deref()).map_err(failed)?);
    if differences.is_empty() {
        return Ok(());
    }
    let text = differences.join("; ");
    log.warn("CHECK found differences", &[("differences", &text)]);
    Err(CniError::new(DATAPATH, "the pod's interface is not what ADD made").details(text))
}

/// K-03: the result is the expectation.
fn against_result(earlier: &Earlier, ifname: &str, held: &[IpAddr]) -> Vec<String> {
    let mut differences = Vec::new();
    if !earlier.lists_pod {
        differences.push(format!("prevResult does not list {ifname}"));
    }
    for address in held.iter().filter(|a| !earlier.addresses.contains(a)) {
        differences.push(format!("the ledger holds {address}, which prevResult does not list"));
    }
    differences
}
