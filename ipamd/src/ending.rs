//! Watches instance metadata for the end of this instance: a Spot interruption or a scale-in. An ENI whose detach such an
//! end interrupts is left behind (pain-points C36), so the pool gives nothing back from then on.

use std::time::Duration;

use podwire_ec2::Imds;
use podwire_pool::Input;

use crate::driver::{Handle, Message};

/// Pause between looks. *Source*: EC2 user guide, "Spot Instance interruption notices": every 5 seconds; the notice comes
/// two minutes before the end.
const EVERY: Duration = Duration::from_secs(5);

/// Looks until the daemon ends. Metadata that cannot be read means nothing: it is asked again.
pub async fn watch(driver: Handle, imds: Imds) {
    let mut told = false;
    loop {
        tokio::time::sleep(EVERY).await;
        match imds.ending().await {
            Ok(Some(notice)) => {
                if !told {
                    tracing::warn!(
                        notice,
                        "this instance is about to end: nothing is detached or given back any more"
                    );
                    told = true;
                }
                // Each time: another source may have said meanwhile that the node is not cordoned.
                if driver.send(Message::Happened(Input::Cordoned(true))).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                // A Spot instance that hibernated and came back has no notice any more.
                if std::mem::take(&mut told) {
                    tracing::info!("this instance is not about to end any more");
                    if driver.send(Message::Happened(Input::Cordoned(false))).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(
                error = error.chain(),
                "instance metadata tells nothing of this instance's end"
            ),
        }
    }
}
