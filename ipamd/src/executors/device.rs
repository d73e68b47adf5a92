//! Waits for an ENI's device to appear in the node, without holding a thread: it takes EC2 seconds.

use std::pin::pin;
use std::time::Duration;

use podwire_pool::Mac;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio_stream::{Stream, StreamExt};

/// Looks at all devices although none like it was told of: an overrun socket loses messages. *Source*: our choice; a look
/// costs about a millisecond for each few hundred devices.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
            // Told or not, the next look decides: what was told may be over, or be of a device that is just going.
            if let Ok(told) = tokio::time::timeout(LOOK_EVERY, told_of(&mut events, mac)).await {
                told?;
            }
        }
        Ok(())
    };
    let waited = tokio::time::timeout(patience, appearing).await;
    pump.abort();
    waited.unwrap_or(Err(DeviceError::Absent { mac, patience }))
}

/// Returns when the kernel tells of a device with this MAC. What it tells of others, dozens of messages for each pod that
/// comes or goes, costs no look at all devices.
async fn told_of<M>(
    events: &mut (impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, M)> + Unpin),
    mac: Mac,
) -> Result<(), DeviceError> {
    while let Some((event, _)) = events.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = event.payload
            && has_mac(&link, mac)
        {
            return Ok(());
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())
}

async fn is_there(handle: &Handle, mac: Mac) -> Result<bool, rtnetlink::Error> {
    let mut links = pin!(handle.link().get().execute());
    let mut found = false;
    // To its end, so that no reply is left for the next look.
    while let Some(link) = links.next().await {
        found |= has_mac(&link?, mac);
    }
    Ok(found)
}

fn has_mac(link: &LinkMessage, mac: Mac) -> bool {
    link.attributes.iter().any(|a| matches!(a, LinkAttribute::Address(address) if *address == mac.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: RouteNetlinkMessage) -> (NetlinkMessage<RouteNetlinkMessage>, ()) {
        (NetlinkMessage::from(message), ())
    }

    fn link(mac: Mac) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        link
    }

    /// Every look at all devices begins where this returns.
    #[tokio::test]
    async fn only_the_awaited_device_is_news() {
        let (mine, other) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let others = std::iter::repeat_n(RouteNetlinkMessage::NewLink(link(other)), 1_000);
        let going = RouteNetlinkMessage::DelLink(link(mine));
        let all = others.chain([going]).map(event);
        let mut events = tokio_stream::iter(all.clone());
        assert!(told_of(&mut events, mine).await.is_err(), "there was no news until the end");
        let coming = event(RouteNetlinkMessage::NewLink(link(mine)));
        let mut events = tokio_stream::iter(all.chain([coming.clone(), coming]));
        assert!(told_of(&mut events, mine).await.is_ok());
        assert!(events.next().await.is_some(), "it returns at the first");
        assert!(events.next().await.is_none());
    }
}
