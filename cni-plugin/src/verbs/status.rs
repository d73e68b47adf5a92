//! STATUS: one cached answer of the daemon, within a second (T-08).
//!
//! A daemon that is being restarted does not make the node NotReady (T-10): within the grace period after its last sign of
//! life the answer is still yes, and an ADD waits meanwhile. A full node does not either (T-09): what `ready` means is the
//! daemon's to say.

use super::Call;
use crate::cni::error::{CniError, UNAVAILABLE};
use crate::daemon::{Daemon, DaemonError};
use crate::heartbeat;
use crate::log::Log;
use podwire_hostnet::chain;

pub(super) fn run(call: &Call<'_>, log: &mut Log) -> Result<(), CniError> {
    let Call { conf, started, .. } = *call;
    let left = || started.left(conf.deadlines.status);
    let unavailable =
        |details: String| CniError::new(UNAVAILABLE, "an ADD cannot be served").details(details);
    match Daemon::connect(std::time::Duration::ZERO).and_then(|mut daemon| daemon.status(left())) {
        Ok(status) if status.ready => Ok(()),
        Ok(status) => Err(unavailable(match status.failure {
            Some(failure) => format!("{}: {}", failure.cause, failure.message),
            None => "ipamd does not say why".to_owned(),
        })),
        Err(error @ (DaemonError::Unknown { .. } | DaemonError::Refused(_))) => {
            Err(unavailable(chain(&error)))
        }
        Err(error) if heartbeat::within(conf.deadlines.grace) => {
            log.debug("ipamd does not answer but was alive a moment ago", &[("error", &chain(&error))]);
            Ok(())
        }
        Err(error) => {
            Err(unavailable(format!("{}; is the aws-node pod running on this node?", chain(&error))))
        }
    }
}
