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

#[cfg(test)]
mod tests {
    use super::super::testbed::{NODE, cloud_with, new_eni, told};
    use super::super::{Delay, InstanceId};
    use super::*;

    fn code(result: Result<(), ApiError>) -> String {
        result.err().map_or_else(String::new, |refused| refused.code.into_owned())
    }

    #[test]
    fn new_groups_reach_the_wires() {
        let (mut cloud, log) = cloud_with("m5.large");
        let eni = cloud.interfaces_of(&InstanceId::from(NODE))[0].id.clone();
        let group = cloud.groups().next().unwrap().id.clone();
        let mut set = |groups| {
            code(cloud.modify_network_interface_attribute(Millis(1), &eni, &Attribute::Groups(groups)))
        };
        assert_eq!(set(vec![group.clone()]), "");
        assert_eq!(told(&log), ["groups 1"]);
        assert_eq!(set(vec![GroupId::from("sg-0123456789abcdef0")]), "InvalidSecurityGroupID.NotFound");
        assert_eq!(set(vec![group; 6]), "SecurityGroupsPerInterfaceLimitExceeded");
        assert_eq!(told(&log), [""; 0]);
    }

    #[test]
    fn the_primary_ipv6_address_stays_once_it_is_one() {
        let (mut cloud, _) = cloud_with("m5.large");
        let eni = new_eni(&mut cloud, 0).id;
        let set = |cloud: &mut Cloud, on| {
            code(cloud.modify_network_interface_attribute(Millis(1), &eni, &Attribute::PrimaryIpv6(on)))
        };
        assert_eq!(set(&mut cloud, true), "InvalidParameterValue", "there is no address yet");
        let one = super::super::Wanted6 { count: 1, ..super::super::Wanted6::default() };
        cloud.assign_ipv6_addresses(Millis(1), &eni, &one).unwrap();
        assert_eq!(set(&mut cloud, true), "");
        assert_eq!(set(&mut cloud, false), "InvalidParameterValue");
    }

    #[test]
    fn a_permission_is_given_once() {
        let (mut cloud, _) = cloud_with("m5.large");
        let eni = new_eni(&mut cloud, 0).id;
        let mut permit = |account: &str| {
            let made = cloud.create_network_interface_permission(Millis(1), &eni, account, "INSTANCE-ATTACH");
            code(made.map(|_| ()))
        };
        assert_eq!([permit("1"), permit("2"), permit("1")], ["", "", "InvalidPermission.Duplicate"]);
        assert_eq!(cloud.enis_seen(Delay::NONE).count(), 2);
    }
}
