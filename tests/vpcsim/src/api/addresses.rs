//! Addresses and prefixes of interfaces: assign and unassign, IPv4 and IPv6.

use super::params::{Param, Params, flag, ipv4, ipv6, must, net4, net6, number};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::{ApiError, Assigned6, Cloud, EniId, Wanted, Wanted6};

/// Parameters of `AssignPrivateIpAddresses`. It knows no `DryRun`.
pub(super) const ASSIGN: &[Param] = &[
    must("NetworkInterfaceId"),
    ipv4("PrivateIpAddress.N"),
    number("SecondaryPrivateIpAddressCount"),
    net4("Ipv4Prefix.N"),
    number("Ipv4PrefixCount"),
    flag("AllowReassignment"),
];

pub(super) fn assign(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let id: EniId = params.id("NetworkInterfaceId")?;
    let wanted = Wanted {
        addresses: params.all("PrivateIpAddress.N"),
        count: params.count("SecondaryPrivateIpAddressCount"),
        prefixes: params.all("Ipv4Prefix.N"),
        prefix_count: params.count("Ipv4PrefixCount"),
    };
    let allow = params.flag("AllowReassignment") == Some(true);
    let assigned = cloud.assign_private_ip_addresses(call.now, &id, &wanted, allow)?;
    let mut xml = Xml::new();
    xml.leaf("networkInterfaceId", &id)
        .list("assignedPrivateIpAddressesSet", &assigned.addresses, |xml, address| {
            xml.leaf("privateIpAddress", address);
        })
        .list("assignedIpv4PrefixSet", &assigned.prefixes, |xml, prefix| {
            xml.leaf("ipv4Prefix", prefix);
        })
        .leaf("return", true);
    Ok(xml)
}

/// Parameters of `UnassignPrivateIpAddresses`.
pub(super) const UNASSIGN: &[Param] =
    &[must("NetworkInterfaceId"), ipv4("PrivateIpAddress.N"), net4("Ipv4Prefix.N")];

pub(super) fn unassign(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let id: EniId = params.id("NetworkInterfaceId")?;
    let (addresses, prefixes) = (params.all("PrivateIpAddress.N"), params.all("Ipv4Prefix.N"));
    cloud.unassign_private_ip_addresses(call.now, &id, &addresses, &prefixes)?;
    Ok(Xml::done())
}

/// Parameters of `AssignIpv6Addresses`.
pub(super) const ASSIGN6: &[Param] = &[
    must("NetworkInterfaceId"),
    ipv6("Ipv6Addresses.N"),
    number("Ipv6AddressCount"),
    net6("Ipv6Prefix.N"),
    number("Ipv6PrefixCount"),
];

pub(super) fn assign6(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let id: EniId = params.id("NetworkInterfaceId")?;
    let wanted = Wanted6 {
        addresses: params.all("Ipv6Addresses.N"),
        count: params.count("Ipv6AddressCount"),
        prefixes: params.all("Ipv6Prefix.N"),
        prefix_count: params.count("Ipv6PrefixCount"),
    };
    let assigned = cloud.assign_ipv6_addresses(call.now, &id, &wanted)?;
    Ok(listed6(&id, "assigned", &assigned))
}

/// Parameters of `UnassignIpv6Addresses`.
pub(super) const UNASSIGN6: &[Param] =
    &[must("NetworkInterfaceId"), ipv6("Ipv6Addresses.N"), net6("Ipv6Prefix.N")];

pub(super) fn unassign6(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let id: EniId = params.id("NetworkInterfaceId")?;
    let gone = Assigned6 { addresses: params.all("Ipv6Addresses.N"), prefixes: params.all("Ipv6Prefix.N") };
    cloud.unassign_ipv6_addresses(call.now, &id, &gone)?;
    Ok(listed6(&id, "unassigned", &gone))
}

/// Here, unlike in IPv4, the items are the addresses themselves.
fn listed6(id: &EniId, what: &str, listed: &Assigned6) -> Xml {
    let mut xml = Xml::new();
    xml.leaf("networkInterfaceId", id)
        .node(&format!("{what}Ipv6Addresses"), |xml| {
            for address in &listed.addresses {
                xml.leaf("item", address);
            }
        })
        .node(&format!("{what}Ipv6PrefixSet"), |xml| {
            for prefix in &listed.prefixes {
                xml.leaf("item", prefix);
            }
        });
    xml
}
