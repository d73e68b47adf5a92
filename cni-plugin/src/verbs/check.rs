//! CHECK: result, ledger and kernel must agree. Changes nothing (K-10).
//!
//! A daemon that is away is no difference: a runtime that restores its pods while the daemon is being rolled would restart them
//! all. Then the result and the kernel must agree.

use super::{Call, add, del, host_failed};
use crate::attach;
use crate::cni::error::{CONFIG, CniError, DATAPATH};
use crate::cni::result::{self, Earlier, Named};
use crate::daemon::{Daemon, DaemonError};
use crate::log::Log;
use podwire_hostnet::pod::{self, End, Expected, PodNet, Way};
use podwire_hostnet::{Netns, chain, mac_text};
use podwire_proto::v1::InspectResponse;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { invocation, conf, .. } = *call;
    let Some(previous) = &conf.prev_result else {
        return Err(CniError::new(CONFIG, "CHECK needs prevResult"));
    };
    let earlier = result::earlier(previous, &invocation.ifname);
    let netns = add::open_netns(invocation)?;
    let held = match inspect(call) {
        Ok(found) => Held::of_ledger(found)?,
        Err(error) if error.is_away() || error.is_anothers() => {
            log.warn(
                "ipamd is away, or another's; compared with the result of ADD alone",
                &[("error", &chain(&error))],
            );
            // IPv6 addresses are another plugin's: none of ours can be wired yet.
            let addresses = earlier.addresses.iter().copied().filter(IpAddr::is_ipv4).collect();
            Held { addresses, ..Held::default() }
        }
        Err(error) => return Err(error.to_cni("cannot ask ipamd")),
    };
    let mut differences = held.differences;
    differences.extend(against_addresses(&earlier, &invocation.ifname, &held.addresses));
    differences.extend(against_sandbox(&earlier, &netns));
    let attachment = attach::attachment(invocation);
    let names = del::candidates(call, &attachment);
    let expected =
        Expected { attachment: &attachment, host_ifnames: &names, addresses: &held.addresses, way: held.way };
    let failed = |e| host_failed("cannot look at the pod's interface", &e);
    let mut net = PodNet::open(netns).map_err(failed)?;
    let seen = pod::check(&mut net, &expected).map_err(failed)?;
    differences.extend(seen.differences);
    differences.extend(seen.host.and_then(|host| against_ends(&earlier.hosts, &host)));
    differences.extend(seen.pod.and_then(|pod| against_ends(earlier.pod.as_slice(), &pod)));
    if differences.is_empty() {
        return Ok(());
    }
    let text = differences.join("; ");
    log.warn("CHECK found differences", &[("differences", &text)]);
    Err(CniError::new(DATAPATH, "the pod's interface is not what ADD made").details(text))
}

/// What should be wired.
#[derive(Debug, Default)]
struct Held {
    addresses: Vec<IpAddr>,
    /// Unknown while the daemon is away, for the layout may have been changed since ADD, and where it does not know the ENI.
    way: Option<Way>,
    differences: Vec<String>,
}

impl Held {
    fn of_ledger(found: InspectResponse) -> Result<Self, CniError> {
        let Some(allocation) = found.allocation else {
            let msg = "the ledger holds no address for this attachment";
            return Err(CniError::new(DATAPATH, msg));
        };
        Ok(Self {
            addresses: attach::addresses(&allocation)?,
            way: (!allocation.eni.is_empty()).then(|| attach::way(&allocation)),
            // K-07: all may be well here, and the VPC not lead here any more.
            differences: found.doubt.map(|doubt| doubt.message).into_iter().collect(),
        })
    }
}

/// What the daemon knows of the attachment. It is not waited for: nothing better comes of it.
fn inspect(call: &Call<'_>) -> Result<InspectResponse, DaemonError> {
    let Call { invocation, conf, started } = *call;
    let sandbox = attach::sandbox(invocation, conf);
    let patience = started.left(conf.deadlines.del).min(conf.deadlines.status);
    Daemon::connect(Duration::ZERO)?.inspect(sandbox, patience)
}

/// K-03: the result is the expectation. What a later plugin in the chain adds to it is not ours.
fn against_addresses(earlier: &Earlier, ifname: &str, held: &[IpAddr]) -> Vec<String> {
    if earlier.addresses.is_empty() {
        return vec![format!("prevResult lists no address of {ifname}")];
    }
    let unlisted = held.iter().filter(|a| !earlier.addresses.contains(a));
    unlisted.map(|a| format!("the ledger holds {a}, which prevResult does not list")).collect()
}

/// The result may name the same namespace by another path.
fn against_sandbox(earlier: &Earlier, netns: &Netns) -> Option<String> {
    let path = &earlier.sandbox;
    if path.is_empty() || path == netns.path() {
        return None;
    }
    let same = Netns::open(path).and_then(|theirs| theirs.is_same(netns));
    (!same.is_ok_and(|same| same))
        .then(|| format!("prevResult puts the pod's interface into {path} instead of {}", netns.path()))
}

/// An end of the pair against the interfaces that it may be. A MAC that is not given is not known: the incumbent gave none.
fn against_ends(listed: &[Named], end: &End) -> Option<String> {
    let Some(named) = listed.iter().find(|named| named.name == end.name) else {
        return Some(format!("prevResult does not list {}", end.name));
    };
    let (Some(wanted), Some(present)) = (&named.mac, end.mac.as_ref().map(mac_text)) else { return None };
    (!wanted.eq_ignore_ascii_case(&present))
        .then(|| format!("interface {} has MAC {present} instead of {wanted}", end.name))
}
