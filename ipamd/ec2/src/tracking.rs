//! Idle timeouts of security groups' connection tracking: a new ENI gets those that somebody set on the primary one, or
//! connections of pods on it would be forgotten, or kept, unlike those of the node. *Source*: incumbent-behaviour §5.5;
//! Amazon EC2 User Guide, "Security group connection tracking", idle connection tracking timeout.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::types::{ConnectionTrackingSpecificationRequest, NetworkInterface};

/// The timeouts that were set; none where EC2's own hold. *Unit* seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timeouts {
    tcp_established: Option<i32>,
    udp_stream: Option<i32>,
    udp: Option<i32>,
}

impl Timeouts {
    fn of(eni: &NetworkInterface) -> Self {
        let set = eni.connection_tracking_configuration();
        Self {
            tcp_established: set.and_then(|s| s.tcp_established_timeout()),
            udp_stream: set.and_then(|s| s.udp_stream_timeout()),
            udp: set.and_then(|s| s.udp_timeout()),
        }
    }

    /// What to ask for; `None` where nothing was set.
    pub(crate) fn request(self) -> Option<ConnectionTrackingSpecificationRequest> {
        (self != Self::default()).then(|| {
            ConnectionTrackingSpecificationRequest::builder()
                .set_tcp_established_timeout(self.tcp_established)
                .set_udp_stream_timeout(self.udp_stream)
                .set_udp_timeout(self.udp)
                .build()
        })
    }
}

/// What EC2 last said of the primary ENI's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Primary(Arc<Mutex<Option<Timeouts>>>);

impl Primary {
    /// Takes note of them if this is the primary ENI of `instance`.
    pub(crate) fn see(&self, eni: &NetworkInterface, instance: &str) {
        let Some(attachment) = eni.attachment() else { return };
        let is_primary =
            attachment.device_index() == Some(0) && attachment.network_card_index().unwrap_or(0) == 0;
        if is_primary && attachment.instance_id() == Some(instance) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Timeouts::of(eni));
        }
    }

    /// `None` until EC2 has told.
    pub(crate) fn timeouts(&self) -> Option<Timeouts> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::{ConnectionTrackingConfiguration, NetworkInterfaceAttachment};

    fn eni(instance: &str, device: i32, tcp: Option<i32>) -> NetworkInterface {
        let attachment = NetworkInterfaceAttachment::builder().instance_id(instance).device_index(device);
        let set = tcp.map(|t| ConnectionTrackingConfiguration::builder().tcp_established_timeout(t).build());
        NetworkInterface::builder()
            .attachment(attachment.build())
            .set_connection_tracking_configuration(set)
            .build()
    }

    #[test]
    fn only_this_instances_primary_counts() {
        let primary = Primary::default();
        primary.see(&eni("i-other", 0, Some(60)), "i-own");
        primary.see(&eni("i-own", 1, Some(60)), "i-own");
        assert_eq!(primary.timeouts(), None);
        primary.see(&eni("i-own", 0, Some(350)), "i-own");
        let asked = primary.timeouts().and_then(Timeouts::request).expect("set");
        assert_eq!((asked.tcp_established_timeout(), asked.udp_timeout()), (Some(350), None));
        primary.see(&eni("i-own", 0, None), "i-own");
        assert_eq!(primary.timeouts().map(|t| t.request().is_none()), Some(true), "taken back");
    }
}
