//! `AttachNetworkInterface` and `DetachNetworkInterface`.

use super::params::{Param, Params, flag, must, must_number, not_simulated, number};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::{ApiError, AttachInterface, Cloud};

/// Parameters of `AttachNetworkInterface`.
pub(super) const ATTACH: &[Param] = &[
    must("NetworkInterfaceId"),
    must("InstanceId"),
    must_number("DeviceIndex"),
    number("NetworkCardIndex"),
    not_simulated("EnaQueueCount"),
    not_simulated("EnaSrdSpecification.EnaSrdEnabled"),
    not_simulated("EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled"),
    flag("DryRun"),
];

pub(super) fn attach(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let request = AttachInterface {
        eni: params.id("NetworkInterfaceId")?,
        instance: params.id("InstanceId")?,
        device: params.number("DeviceIndex").ok_or_else(|| ApiError::missing("DeviceIndex"))?,
        card: params.number("NetworkCardIndex"),
    };
    let attachment = cloud.attach_network_interface(call.now, &request)?;
    let mut xml = Xml::new();
    xml.leaf("attachmentId", &attachment.id).leaf("networkCardIndex", attachment.card);
    Ok(xml)
}

/// Parameters of `DetachNetworkInterface`.
pub(super) const DETACH: &[Param] = &[must("AttachmentId"), flag("Force"), flag("DryRun")];

pub(super) fn detach(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let force = params.flag("Force") == Some(true);
    cloud.detach_network_interface(call.now, &params.id("AttachmentId")?, force)?;
    Ok(Xml::done())
}
