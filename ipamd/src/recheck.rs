//! Reads this instance's ENIs from metadata again and again. Metadata is a hint (design D1): what it shows differently,
//! such as other security groups or an ENI that somebody detached, makes the pool ask EC2, and nothing else.

use std::time::Duration;

use podwire_ec2::Imds;
use podwire_pool::{OpId, Snapshot, SnapshotSource};
use tokio::sync::oneshot;

use crate::driver::{Handle, Message};

/// Pause between looks. *Source*: incumbent-behaviour §5.1 (reconcile with metadata every 60 s).
const EVERY: Duration = Duration::from_secs(60);

/// Looks until the daemon ends. Metadata that cannot be read means nothing: it is asked again.
pub async fn keep(driver: Handle, imds: Imds) {
    loop {
        tokio::time::sleep(EVERY).await;
        // Before the look: what is asked for meanwhile is not in it.
        let Some(as_of) = newest(&driver).await else { return };
        match imds.enis().await {
            Ok(seen) => {
                let snapshot = Snapshot { source: SnapshotSource::Metadata, as_of, enis: seen.enis };
                if driver.send(Message::Saw(snapshot)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "the instance's ENIs cannot be read again now"),
        }
    }
}

/// The operation asked for last; `None` when the driver has gone.
pub(crate) async fn newest(driver: &Handle) -> Option<OpId> {
    let (reply, newest) = oneshot::channel();
    driver.send(Message::Newest { reply }).await.ok()?;
    newest.await.ok()
}
