//! `ModifyNetworkInterfaceAttribute` and `CreateNetworkInterfacePermission`.

use super::ids::{AttachmentId, EniId, GroupId, PermissionId};
use super::{ApiError, Cloud, Millis, Tracking, refuse};

/// The attribute to change; EC2 takes one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Description.
    Description(String),
    /// Security groups; at least one.
    Groups(Vec<GroupId>),
    /// Source/destination check.
    SourceDestCheck(bool),
    /// A property of the attachment.
    Attachment(AttachmentChange),
    /// Connection tracking timeouts.
    Tracking(Tracking),
    /// The first IPv6 address becomes the primary one; cannot be taken back.
    PrimaryIpv6(bool),
}

/// A change of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentChange {
    /// Which attachment.
    pub id: AttachmentId,
    /// Whether the interface goes with the instance.
    pub delete_on_termination: bool,
}

/// A permission on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Its id.
    pub id: PermissionId,
    /// The interface.
    pub eni: EniId,
    /// The account that it is given to.
    pub account: String,
    /// `INSTANCE-ATTACH` or `EIP-ASSOCIATE`.
    pub permission: String,
}

impl Cloud {
    /// `ModifyNetworkInterfaceAttribute`.
    ///
    /// A change of the source/destination check reaches the wires when the interface is next plugged in.
    ///
    /// # Errors
    /// EC2's refusals; nothing has changed then.
    pub fn modify_network_interface_attribute(
        &mut self,
        now: Millis,
        id: &EniId,
        attribute: &Attribute,
    ) -> Result<(), ApiError> {
        self.act(now, |cloud| {
            cloud.own(id)?;
            match attribute {
                Attribute::Description(text) => cloud.eni_mut(id)?.description.clone_from(text),
                Attribute::SourceDestCheck(check) => cloud.eni_mut(id)?.source_dest_check = *check,
                Attribute::Tracking(tracking) => cloud.eni_mut(id)?.tracking = *tracking,
                Attribute::Groups(groups) => {
                    let groups = cloud.check_groups(groups)?;
                    cloud.eni_mut(id)?.groups = groups;
                    cloud.regroup_if_plugged(id);
                }
                Attribute::Attachment(change) => {
                    let to = cloud.eni_mut(id)?.attachment.as_mut().filter(|to| to.id == change.id);
                    to.ok_or_else(|| refuse::no_attachment(&change.id))?.delete_on_termination =
                        change.delete_on_termination;
                }
                Attribute::PrimaryIpv6(wanted) => {
                    let eni = cloud.eni_mut(id)?;
                    if eni.primary_ipv6 && !wanted {
                        return Err(ApiError::value("The primary IPv6 address cannot be disabled"));
                    }
                    if *wanted && eni.ipv6.is_empty() {
                        return Err(ApiError::value(format!("Interface '{id}' has no IPv6 address")));
                    }
                    eni.primary_ipv6 = *wanted;
                }
            }
            Ok(())
        })
    }

    /// `CreateNetworkInterfacePermission`.
    ///
    /// # Errors
    /// There is no such interface, or that account has that permission already.
    pub fn create_network_interface_permission(
        &mut self,
        now: Millis,
        eni: &EniId,
        account: &str,
        permission: &str,
    ) -> Result<Permission, ApiError> {
        self.act(now, |cloud| {
            cloud.own(eni)?;
            let same = |known: &&Permission| {
                known.eni == *eni && known.account == account && known.permission == permission
            };
            if cloud.permissions.values().find(same).is_some() {
                return Err(ApiError::new(
                    "InvalidPermission.Duplicate",
                    format!("The permission '{permission}' on '{eni}' for '{account}' already exists"),
                ));
            }
            let made = Permission {
                id: cloud.mint.id(),
                eni: eni.clone(),
                account: account.to_owned(),
                permission: permission.to_owned(),
            };
            cloud.permissions.insert(made.id.clone(), made.clone());
            Ok(made)
        })
    }
}
