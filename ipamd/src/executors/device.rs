//! Waits for an ENI's device to appear in the node, without holding a thread: it takes EC2 seconds.

use std::pin::pin;
use std::time::Duration;

use podwire_pool::Mac;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio_stream::StreamExt;

/// Why a device is not there.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The kernel cannot be asked.
    #[error("network devices cannot be listed")]
    Netlink(#[from] rtnetlink::Error),
    /// No routing socket.
    #[error("no routing socket")]
    Socket(#[from] std::io::Error),
    /// It did not appear in time.
    #[error("no device with MAC {mac} appeared within {} s; check that the ENI is attached to this instance", patience.as_secs())]
    Absent {
        /// Whose.
        mac: Mac,
        /// How long was waited.
        patience: Duration,
    },
}

/// Returns when a device with this MAC is there.
///
/// # Errors
/// It does not appear within `patience`, or the kernel cannot be asked.
pub async fn wait_for(mac: Mac, patience: Duration) -> Result<(), DeviceError> {
    // Listening starts before the first look, so that nothing is missed in between.
    let (connection, handle, mut events) = new_multicast_connection(&[MulticastGroup::Link])?;
    let pump = tokio::spawn(connection);
    let appearing = async {
        while !is_there(&handle, mac).await? {
            if events.next().await.is_none() {
                return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
            }
        }
        Ok(())
    };
    let waited = tokio::time::timeout(patience, appearing).await;
    pump.abort();
    waited.unwrap_or(Err(DeviceError::Absent { mac, patience }))
}

async fn is_there(handle: &Handle, mac: Mac) -> Result<bool, rtnetlink::Error> {
    let mut links = pin!(handle.link().get().execute());
    let mut found = false;
    // To its end, so that no reply is left for the next look.
    while let Some(link) = links.next().await {
        found |= link?
            .attributes
            .iter()
            .any(|a| matches!(a, LinkAttribute::Address(address) if *address == mac.0));
    }
    Ok(found)
}
