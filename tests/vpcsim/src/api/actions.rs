//! The table of all actions.

use super::params::{Param, Params};
use super::request::Call;
use super::xml::Xml;
use super::{addresses, attachments, instances, interfaces, networks, tags, trunks, types};
use crate::cloud::{ApiError, Cloud};

/// One action.
#[derive(Debug)]
pub(super) struct Action {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it changes anything.
    pub(super) mutating: bool,
    /// The parameters that it knows.
    pub(super) params: &'static [Param],
    /// The action that the caller must be allowed too when the request carries tags.
    pub(super) also_needs: Option<&'static str>,
    /// What it does.
    pub(super) run: fn(&mut Cloud, &Call, &Params) -> Result<Xml, ApiError>,
}

type Run = fn(&mut Cloud, &Call, &Params) -> Result<Xml, ApiError>;

const fn reads(name: &'static str, params: &'static [Param], run: Run) -> Action {
    Action { name, mutating: false, params, also_needs: None, run }
}

const fn changes(name: &'static str, params: &'static [Param], run: Run) -> Action {
    Action { name, mutating: true, params, also_needs: None, run }
}

/// Every action that is served.
pub(super) const ACTIONS: &[Action] = &[
    changes("AssignIpv6Addresses", addresses::ASSIGN6, addresses::assign6),
    changes("AssignPrivateIpAddresses", addresses::ASSIGN, addresses::assign),
    changes("AssociateTrunkInterface", trunks::ASSOCIATE, trunks::associate),
    changes("AttachNetworkInterface", attachments::ATTACH, attachments::attach),
    Action {
        also_needs: Some("CreateTags"),
        ..changes("CreateNetworkInterface", interfaces::CREATE, interfaces::create)
    },
    changes("CreateNetworkInterfacePermission", interfaces::PERMIT, interfaces::permit),
    changes("CreateTags", tags::CREATE, tags::create),
    changes("DeleteNetworkInterface", interfaces::DELETE, interfaces::delete),
    changes("DeleteTags", tags::DELETE, tags::delete),
    reads("DescribeInstanceTypes", types::DESCRIBE, types::describe),
    reads("DescribeInstances", instances::DESCRIBE, instances::describe),
    reads("DescribeNetworkInterfaces", interfaces::DESCRIBE, interfaces::describe),
    reads("DescribeSecurityGroups", networks::GROUPS, networks::groups),
    reads("DescribeSubnets", networks::SUBNETS, networks::subnets),
    reads("DescribeTags", tags::DESCRIBE, tags::describe),
    reads("DescribeTrunkInterfaceAssociations", trunks::DESCRIBE, trunks::describe),
    reads("DescribeVpcs", networks::VPCS, networks::vpcs),
    changes("DetachNetworkInterface", attachments::DETACH, attachments::detach),
    changes("DisassociateTrunkInterface", trunks::DISASSOCIATE, trunks::disassociate),
    changes("ModifyNetworkInterfaceAttribute", interfaces::MODIFY, interfaces::modify),
    changes("UnassignIpv6Addresses", addresses::UNASSIGN6, addresses::unassign6),
    changes("UnassignPrivateIpAddresses", addresses::UNASSIGN, addresses::unassign),
];

/// The action of this name.
pub(super) fn find(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.name == name)
}
