//! ADD: look, allocate, wire, answer. What fails is undone; what was there before stays.

use super::{Call, host_failed};
use crate::attach;
use crate::cni::env::Invocation;
use crate::cni::error::{CniError, DECODE, ENVIRONMENT, NETNS};
use crate::cni::netconf::NetConf;
use crate::cni::result;
use crate::daemon::{Daemon, DaemonError};
use crate::log::Log;
use crate::pending_release::PendingRelease;
use podwire_hostnet::pod::{self, PodNet, Teardown};
use podwire_hostnet::{HostError, Netns, chain, mac_text};
use podwire_proto::RELEASED_DIR;
use podwire_proto::v1::{AllocateRequest, Allocation, ReleaseRequest};
use std::path::Path;
use std::time::Duration;

/// Kept of the deadline for wiring, answering and undoing. *Source*: our choice; wiring takes milliseconds.
const RESERVE: Duration = Duration::from_secs(2);

/// Pause before a daemon that went away during the request is asked again. *Source*: our choice.
const PAUSE: Duration = Duration::from_millis(20);

/// A wired pod: the result to print, and how to take it all back should nobody be there to read it.
#[derive(Debug)]
pub(crate) struct Wired {
    pub(crate) result: String,
    undo: Undo,
}

impl Wired {
    /// Takes everything back that this ADD made.
    pub(crate) fn undo(self, log: &mut Log) {
        self.undo.all(log);
    }
}

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<Wired, CniError> {
    let Call { invocation, conf, started } = *call;
    if conf.prev_result_malformed {
        return Err(CniError::new(DECODE, "prevResult is not an object"));
    }
    // The daemon accepts and greets while we look. Whether it is there at all is not the question yet.
    let greeted = Daemon::connect(Duration::ZERO).ok();
    let mut net = look(invocation)?;
    let (mut daemon, allocation) = allocate(call, greeted, log)?;
    let mut undo = Undo::of(call, &allocation);
    let wiring = match attach::wiring(invocation, conf, &allocation) {
        Ok(wiring) => wiring,
        Err(error) => {
            undo.release(&mut daemon, log);
            return Err(error);
        }
    };
    match net.add(&wiring) {
        Ok(wired) => {
            undo.link = Some(wiring.host_ifname.clone());
            if wired.replaced {
                log.warn(
                    "replaced a link left over from an earlier sandbox",
                    &[("link", &wiring.host_ifname)],
                );
            }
            let made = attach::made(&wiring, &wired, &invocation.netns);
            let text = result::render(&made, conf.spoken, &conf.version, conf.prev_result.as_ref());
            log.info(
                "pod wired",
                &[
                    ("ip", &allocation.addresses.join(",")),
                    ("eni", &allocation.eni),
                    ("link", &wiring.host_ifname),
                    ("mac", &mac_text(&wired.pod_mac)),
                    ("duration_ms", &started.instant.elapsed().as_millis().to_string()),
                ],
            );
            Ok(Wired { result: text, undo })
        }
        Err(error) => {
            // An interface that was not there when we looked is another ADD's for this attachment, which the runtime must
            // not run at once (P-18). The address is that one's now. That of a link which stays, stays with it (design D4):
            // the DEL that follows a failed ADD takes both.
            if !matches!(error, HostError::InterfaceTaken { .. } | HostError::LinkStays { .. }) {
                undo.release(&mut daemon, log);
            }
            Err(host_failed("cannot wire the pod", &error))
        }
    }
}

/// Checks the namespace and that the interface's name is free, before anything is changed.
fn look(invocation: &Invocation) -> Result<PodNet, CniError> {
    let netns = open_netns(invocation)?;
    let mut net =
        PodNet::open(netns).map_err(|e| host_failed("cannot use the pod's network namespace", &e))?;
    let ifname = &invocation.ifname;
    match net.has_interface(ifname) {
        Ok(false) => Ok(net),
        Ok(true) => Err(CniError::new(ENVIRONMENT, format!("CNI_IFNAME {ifname} exists already"))
            .details(format!("interface {ifname} is in {}; it has not been touched", invocation.netns))),
        Err(error) => Err(host_failed("cannot look into the pod's network namespace", &error)),
    }
}

/// Opens the pod's namespace and makes sure that it is not the plugin's own.
pub(super) fn open_netns(invocation: &Invocation) -> Result<Netns, CniError> {
    let failed = |e| host_failed("CNI_NETNS cannot be used", &e);
    let netns = Netns::open(&invocation.netns).map_err(failed)?;
    let own = Netns::own().and_then(|own| netns.is_same(&own)).map_err(failed)?;
    if own && !invocation.netns_override {
        let msg = "CNI_NETNS is the plugin's own network namespace";
        return Err(CniError::new(NETNS, msg).details(invocation.netns.clone()));
    }
    Ok(netns)
}

/// Asks for the address. A daemon that goes away meanwhile is asked again: the same request gets the same answer.
fn allocate(
    call: &Call<'_>,
    mut greeted: Option<Daemon>,
    log: &mut Log,
) -> Result<(Daemon, Allocation), CniError> {
    let Call { invocation, conf, started } = *call;
    let deadlines = &conf.deadlines;
    let left = || started.left(deadlines.add).saturating_sub(RESERVE.min(deadlines.add / 10));
    // A request that was lost may have been given an address all the same.
    let leave_behind = |log: &mut Log| {
        Undo::of(call, &Allocation { is_new: true, ..Allocation::default() }).leave_behind(log);
    };
    let mut asked = false;
    loop {
        // Counted anew: a restart may come when the ADD has waited long for its address.
        let mut daemon =
            match greeted.take().map_or_else(|| Daemon::connect(deadlines.connect.min(left())), Ok) {
                Ok(daemon) => daemon,
                Err(error) => {
                    if asked {
                        leave_behind(log);
                    }
                    return Err(crate::daemon::away(&error));
                }
            };
        asked = true;
        let patience = left();
        let request = AllocateRequest {
            sandbox: Some(attach::sandbox(invocation, conf)),
            pod: Some(attach::pod(invocation)),
            started_boottime_ms: started.boottime_ms,
            // The daemon gives up a little earlier than the plugin, so that its reason arrives.
            patience_ms: u64::try_from((patience - patience / 10).as_millis()).unwrap_or(u64::MAX),
            netns: invocation.netns.clone(),
        };
        match daemon.allocate(&request, patience) {
            Ok(allocation) => return Ok((daemon, allocation)),
            Err(error) if error.is_away() && !left().is_zero() && !matches!(error, DaemonError::Late(_)) => {
                log.warn("ipamd went away during the request; asking again", &[("error", &chain(&error))]);
                std::thread::sleep(PAUSE.min(left()));
            }
            Err(error) => {
                if error.is_away() {
                    leave_behind(log);
                }
                return Err(error.to_cni("no address for the pod"));
            }
        }
    }
}

/// How to take an ADD back.
#[derive(Debug)]
struct Undo {
    invocation: Invocation,
    conf: NetConf,
    boottime_ms: u64,
    /// An allocation that was there before this ADD stays: it is another ADD's.
    release: bool,
    link: Option<String>,
}

impl Undo {
    fn of(call: &Call<'_>, allocation: &Allocation) -> Self {
        Self {
            invocation: call.invocation.clone(),
            conf: call.conf.clone(),
            boottime_ms: call.started.boottime_ms,
            release: allocation.is_new,
            link: None,
        }
    }

    fn all(self, log: &mut Log) {
        if let Some(link) = &self.link {
            let attachment = attach::attachment(&self.invocation);
            let names = std::slice::from_ref(link);
            let teardown = Teardown { attachment: &attachment, host_ifnames: names };
            let deleted = pod::delete_own(&teardown);
            let stays = deleted.is_err();
            if let Err(error) = deleted.and_then(|gone| gone.rules) {
                log.error("cannot take the link back", &[("error", &chain(&error))]);
            }
            if stays {
                // Its address stays with it (design D4): the DEL that follows a failed ADD takes both.
                return;
            }
        }
        match Daemon::connect(Duration::ZERO) {
            Ok(mut daemon) => self.release(&mut daemon, log),
            Err(_) if self.release => self.leave_behind(log),
            Err(_) => {}
        }
    }

    fn release(&self, daemon: &mut Daemon, log: &mut Log) {
        if !self.release {
            return;
        }
        let request = ReleaseRequest {
            sandbox: Some(attach::sandbox(&self.invocation, &self.conf)),
            pod: Some(attach::pod(&self.invocation)),
            started_boottime_ms: self.boottime_ms,
            host_interfaces: Vec::new(),
        };
        if let Err(error) = daemon.release(&request, RESERVE) {
            log.warn("cannot give the address back; left a pending release", &[("error", &chain(&error))]);
            self.leave_behind(log);
        }
    }

    fn leave_behind(&self, log: &mut Log) {
        let sandbox = attach::sandbox(&self.invocation, &self.conf);
        let pending = PendingRelease::new(&sandbox, &attach::pod(&self.invocation), self.boottime_ms);
        if let Err(error) = pending.write(Path::new(RELEASED_DIR)) {
            log.error("cannot leave a pending release; GC will find it", &[("error", &error.to_string())]);
        }
    }
}
