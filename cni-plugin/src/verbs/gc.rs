//! GC: hands the runtime's list to the daemon, which releases what is not on it.

use super::Call;
use crate::cni::error::CniError;
use crate::daemon::{self, Daemon};
use crate::log::Log;
use podwire_proto::v1::{CollectRequest, Sandbox};

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { conf, started, .. } = *call;
    // No list is not an empty list (G-07): libcni leaves it out when it knows nothing.
    let Some(valid) = &conf.valid_attachments else {
        log.warn("the runtime gives no list of valid attachments; nothing collected", &[]);
        return Ok(());
    };
    let sandbox = |one: &crate::cni::netconf::ValidAttachment| Sandbox {
        container_id: one.container_id.clone(),
        ifname: one.ifname.clone(),
        network: conf.name.clone(),
    };
    let request = CollectRequest {
        network: conf.name.clone(),
        valid: valid.iter().map(sandbox).collect(),
        started_boottime_ms: started.boottime_ms,
    };
    let left = || started.left(conf.deadlines.del);
    let mut daemon = Daemon::connect(left().min(conf.deadlines.status)).map_err(|e| daemon::away(&e))?;
    let collected = daemon.collect(request, left()).map_err(|e| e.to_cni("cannot collect"))?;
    for one in &collected {
        log.info("collected", &[("sandbox", &one.container_id), ("ifname", &one.ifname)]);
    }
    log.info("GC done", &[("valid", &valid.len().to_string()), ("collected", &collected.len().to_string())]);
    Ok(())
}
