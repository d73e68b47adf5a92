//! Interfaces on instances: `AttachNetworkInterface` and `DetachNetworkInterface`.

use super::agenda::Event;
use super::eni::{Attachment, AttachmentStatus, InterfaceType};
use super::ids::{AttachmentId, EniId, InstanceId};
use super::place::InstanceState;
use super::{ApiError, Cloud, Millis, refuse};

/// What `AttachNetworkInterface` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachInterface {
    /// The interface.
    pub eni: EniId,
    /// The instance.
    pub instance: InstanceId,
    /// Device index on the card.
    pub device: u32,
    /// Network card; `None`: card 0.
    pub card: Option<u32>,
}

impl Cloud {
    /// `AttachNetworkInterface`: begins it; the device is there when the status says `attached`.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn attach_network_interface(
        &mut self,
        now: Millis,
        request: &AttachInterface,
    ) -> Result<Attachment, ApiError> {
        self.act(now, |cloud| {
            let card = request.card.unwrap_or(0);
            cloud.check_attach(request, card)?;
            let attachment = Attachment {
                id: cloud.mint.id(),
                instance: request.instance.clone(),
                card,
                device: request.device,
                status: AttachmentStatus::Attaching,
                since: cloud.now,
                delete_on_termination: false,
            };
            cloud.eni_mut(&request.eni)?.attachment = Some(attachment.clone());
            let event = Event::Attached(request.eni.clone(), attachment.id.clone());
            cloud.plan(cloud.spec.timings.attach, event);
            Ok(attachment)
        })
    }

    /// `DetachNetworkInterface`: begins it; the device is there until the attachment is gone.
    ///
    /// # Errors
    /// There is no such attachment, it is an instance's primary one, or not in a state to be detached.
    pub fn detach_network_interface(
        &mut self,
        now: Millis,
        id: &AttachmentId,
        force: bool,
    ) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            let holder =
                cloud.enis.values().find(|eni| eni.attachment.as_ref().is_some_and(|to| to.id == *id));
            let Some((eni, to)) = holder.and_then(|eni| Some((eni.id.clone(), eni.attachment.clone()?)))
            else {
                return Err(refuse::no_attachment(id));
            };
            if to.card == 0 && to.device == 0 {
                return Err(ApiError::new(
                    "OperationNotPermitted",
                    "The network interface at device index 0 and networkCard index 0 cannot be detached.",
                ));
            }
            match to.status {
                AttachmentStatus::Attached => {}
                AttachmentStatus::Attaching | AttachmentStatus::Detaching if force => {}
                status @ (AttachmentStatus::Attaching | AttachmentStatus::Detaching) => {
                    return Err(ApiError::new(
                        "IncorrectState",
                        format!(
                            "The attachment '{id}' is in state '{}' and cannot be detached",
                            status.as_str()
                        ),
                    ));
                }
            }
            let was_plugged = to.status != AttachmentStatus::Attaching;
            if let Some(attachment) = &mut cloud.eni_mut(&eni)?.attachment
                && was_plugged
            {
                attachment.status = AttachmentStatus::Detaching;
            }
            if was_plugged {
                cloud.plan(cloud.spec.timings.detach, Event::Detached(eni, id.clone()));
            } else {
                // Forced while attaching: the device never appears.
                cloud.eni_mut(&eni)?.attachment = None;
            }
            Ok(())
        })
    }

    fn check_attach(&self, request: &AttachInterface, card: u32) -> Result<(), ApiError> {
        let AttachInterface { eni: eni_id, instance: instance_id, device, .. } = request;
        let eni = self.own(eni_id)?;
        let instance = self.instances.get(instance_id).ok_or_else(|| refuse::no_instance(instance_id))?;
        if instance.state != InstanceState::Running {
            return Err(ApiError::new(
                "IncorrectInstanceState",
                format!(
                    "The instance '{instance_id}' is not in a valid state for this operation: it is '{}'",
                    instance.state.code_and_name().1
                ),
            ));
        }
        if eni.attachment.is_some() || self.trunks.values().any(|tie| tie.branch == *eni_id) {
            return Err(ApiError::new(
                "InvalidNetworkInterface.InUse",
                format!("Interface: [{eni_id}] in use."),
            ));
        }
        if eni.kind == InterfaceType::Branch {
            return Err(ApiError::new(
                "OperationNotPermitted",
                format!(
                    "Branch interface '{eni_id}' cannot be attached; associate it with a trunk interface"
                ),
            ));
        }
        let az = self.subnets.get(&eni.subnet).map(|subnet| subnet.az.as_str());
        if az != Some(instance.az.as_str()) {
            return Err(ApiError::combination(
                "You may not attach a network interface to an instance if they are not in the same availability zone",
            ));
        }
        let mut others = self.enis.values().filter_map(|other| other.attached_to(instance_id));
        if others.any(|to| to.card == card && to.device == *device) {
            return Err(ApiError::value(format!(
                "Instance '{instance_id}' already has an interface attached at device index '{device}'."
            )));
        }
        self.check_attach_fits(eni, instance_id, card)?;
        if eni.kind == InterfaceType::Trunk && instance.limits.branches == 0 {
            return Err(ApiError::new(
                "UnsupportedOperation",
                format!("Instance type '{}' does not support trunk interfaces", instance.limits.name),
            ));
        }
        self.check_address_usage(self.attach_usage(instance_id))
    }
}

#[cfg(test)]
mod tests;
