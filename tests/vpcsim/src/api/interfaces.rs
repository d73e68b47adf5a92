//! `CreateNetworkInterface`, `DescribeNetworkInterfaces`, `ModifyNetworkInterfaceAttribute`,
//! `CreateNetworkInterfacePermission`, `DeleteNetworkInterface`.

use std::net::{IpAddr, Ipv4Addr};

use super::filters::{Filters, Known};
use super::interface_xml::interface;
use super::pages::{ORDINARY, Paging};
use super::params::{
    Param, Params, flag, ipv4, ipv6, must, net4, net6, not_simulated, number, text, well_formed,
};
use super::request::Call;
use super::tags::{at_creation, spec_tags};
use super::xml::Xml;
use crate::cloud::{
    ApiError, Attachment, AttachmentChange, Attribute, Cloud, CreateInterface, Eni, EniId, GroupId,
    InterfaceType, SubnetId, Tracking, Wanted, Wanted6, refuse,
};

/// Parameters of `CreateNetworkInterface`.
pub(super) const CREATE: &[Param] = &[
    must("SubnetId"),
    text("ClientToken"),
    text("Description"),
    flag("DryRun"),
    flag("EnablePrimaryIpv6"),
    text("InterfaceType"),
    text("SecurityGroupId.N"),
    ipv4("PrivateIpAddress"),
    ipv4("PrivateIpAddresses.N.PrivateIpAddress"),
    flag("PrivateIpAddresses.N.Primary"),
    number("SecondaryPrivateIpAddressCount"),
    number("Ipv4PrefixCount"),
    net4("Ipv4Prefix.N.Ipv4Prefix"),
    number("Ipv6AddressCount"),
    ipv6("Ipv6Addresses.N.Ipv6Address"),
    flag("Ipv6Addresses.N.IsPrimaryIpv6"),
    number("Ipv6PrefixCount"),
    net6("Ipv6Prefix.N.Ipv6Prefix"),
    number("ConnectionTrackingSpecification.TcpEstablishedTimeout"),
    number("ConnectionTrackingSpecification.UdpStreamTimeout"),
    number("ConnectionTrackingSpecification.UdpTimeout"),
    text("TagSpecification.N.ResourceType"),
    text("TagSpecification.N.Tag.N.Key"),
    text("TagSpecification.N.Tag.N.Value"),
    not_simulated("Operator.Principal"),
];

pub(super) fn create(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let (primary, addresses) = private_addresses(params)?;
    let groups = params.list("SecurityGroupId.N").into_iter().map(GroupId::from).collect();
    let kind = match params.text("InterfaceType") {
        None => InterfaceType::Interface,
        Some(name) => InterfaceType::parse(name).ok_or_else(|| {
            ApiError::value(format!("Value ({name}) for parameter interfaceType is invalid."))
        })?,
    };
    let tags = at_creation(spec_tags(params, "network-interface")?)?;
    let request = CreateInterface {
        kind,
        description: params.text("Description").unwrap_or_default().to_owned(),
        groups,
        primary,
        wanted: Wanted {
            addresses,
            count: params.count("SecondaryPrivateIpAddressCount"),
            prefixes: params.all("Ipv4Prefix.N.Ipv4Prefix"),
            prefix_count: params.count("Ipv4PrefixCount"),
        },
        wanted6: Wanted6 {
            addresses: params.all("Ipv6Addresses.N.Ipv6Address"),
            count: params.count("Ipv6AddressCount"),
            prefixes: params.all("Ipv6Prefix.N.Ipv6Prefix"),
            prefix_count: params.count("Ipv6PrefixCount"),
        },
        primary_ipv6: params.flag("EnablePrimaryIpv6") == Some(true),
        tracking: tracking(params)?,
        tags,
        client_token: params.text("ClientToken").map(str::to_owned),
        requester: call
            .caller
            .instance
            .as_ref()
            .map_or(&call.caller.access_key, |_| &cloud.spec().account)
            .clone(),
        ..CreateInterface::new(&params.id::<SubnetId>("SubnetId")?)
    };
    let eni = cloud.create_network_interface(call.now, &request)?;
    let mut xml = Xml::new();
    xml.node("networkInterface", |xml| interface(xml, cloud, &eni)).some("clientToken", request.client_token);
    Ok(xml)
}

/// The primary address, from either of its two parameters, and the explicit secondary ones.
fn private_addresses(params: &Params) -> Result<(Option<Ipv4Addr>, Vec<Ipv4Addr>), ApiError> {
    let mut primaries: Vec<Ipv4Addr> = params.parsed("PrivateIpAddress").into_iter().collect();
    let mut secondaries = Vec::new();
    for number in params.numbers("PrivateIpAddresses") {
        let Some(address) = params.at("PrivateIpAddresses.N.PrivateIpAddress", &[number]) else {
            return Err(ApiError::missing("PrivateIpAddresses.PrivateIpAddress"));
        };
        let address: Ipv4Addr =
            address.parse().map_err(|_| ApiError::value(format!("Invalid address {address}")))?;
        let primary = params.at("PrivateIpAddresses.N.Primary", &[number]) == Some("true");
        if primary { primaries.push(address) } else { secondaries.push(address) }
    }
    primaries.dedup();
    match primaries.as_slice() {
        [] => Ok((None, secondaries)),
        [one] => Ok((Some(*one), secondaries)),
        [_, _, ..] => Err(ApiError::combination("Only one primary private IP address can be specified")),
    }
}

/// Source of the ranges: Amazon EC2 User Guide, "Security group connection tracking", idle timeouts.
fn tracking(params: &Params) -> Result<Tracking, ApiError> {
    let within = |path: &'static str, range: std::ops::RangeInclusive<u32>| match params.number(path) {
        Some(seconds) if !range.contains(&seconds) => Err(ApiError::value(format!(
            "Value ({seconds}) for parameter {} is invalid. Expecting {} to {} seconds.",
            path.rsplit('.').next().unwrap_or(path),
            range.start(),
            range.end()
        ))),
        seconds => Ok(seconds),
    };
    Ok(Tracking {
        tcp_established: within("ConnectionTrackingSpecification.TcpEstablishedTimeout", 60..=432_000)?,
        udp_stream: within("ConnectionTrackingSpecification.UdpStreamTimeout", 60..=180)?,
        udp: within("ConnectionTrackingSpecification.UdpTimeout", 30..=60)?,
    })
}

/// Parameters of `DescribeNetworkInterfaces`.
pub(super) const DESCRIBE: &[Param] = &[
    text("NetworkInterfaceId.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("IncludeManagedResources"),
    flag("DryRun"),
];

const PAGING: Paging = Paging { not_with: Some("NetworkInterfaceId"), ..ORDINARY };

/// Source of the names: Amazon EC2 API Reference, `DescribeNetworkInterfaces`.
const FILTERS: Known<Eni> = Known {
    facts: &[
        ("addresses.private-ip-address", |_, eni| addresses(eni)),
        ("addresses.primary", |_, eni| {
            let secondary = (!eni.secondaries.is_empty()).then(|| "false".to_owned());
            std::iter::once("true".to_owned()).chain(secondary).collect()
        }),
        ("attachment.attach-time", |_, eni| of_attachment(eni, |to| to.since.to_string())),
        ("attachment.attachment-id", |_, eni| of_attachment(eni, |to| to.id.to_string())),
        ("attachment.delete-on-termination", |_, eni| {
            of_attachment(eni, |to| to.delete_on_termination.to_string())
        }),
        ("attachment.device-index", |_, eni| of_attachment(eni, |to| to.device.to_string())),
        ("attachment.instance-id", |_, eni| of_attachment(eni, |to| to.instance.to_string())),
        ("attachment.instance-owner-id", |cloud, eni| of_attachment(eni, |_| cloud.spec().account.clone())),
        ("attachment.network-card-index", |_, eni| of_attachment(eni, |to| to.card.to_string())),
        ("attachment.status", |_, eni| {
            eni.attachment
                .as_ref()
                .map_or_else(|| vec!["detached".to_owned()], |to| vec![to.status.as_str().to_owned()])
        }),
        ("availability-zone", |cloud, eni| {
            cloud.zone_of(&eni.subnet).map(|(az, _)| az.to_owned()).into_iter().collect()
        }),
        ("availability-zone-id", |cloud, eni| {
            cloud.zone_of(&eni.subnet).map(|(_, id)| id.to_owned()).into_iter().collect()
        }),
        ("description", |_, eni| vec![eni.description.clone()]),
        ("group-id", |_, eni| eni.groups.iter().map(ToString::to_string).collect()),
        ("group-name", |cloud, eni| {
            cloud
                .groups()
                .filter(|group| eni.groups.contains(&group.id))
                .map(|group| group.name.clone())
                .collect()
        }),
        ("interface-type", |_, eni| vec![eni.kind.as_str().to_owned()]),
        ("ipv6-addresses.ipv6-address", |_, eni| eni.ipv6.iter().map(ToString::to_string).collect()),
        ("mac-address", |_, eni| vec![crate::cloud::mac_text(eni.mac)]),
        ("network-interface-id", |_, eni| vec![eni.id.to_string()]),
        ("owner-id", |cloud, _| vec![cloud.spec().account.clone()]),
        ("private-dns-name", |cloud, eni| vec![crate::cloud::private_dns(eni.primary, &cloud.spec().region)]),
        ("private-ip-address", |_, eni| addresses(eni)),
        ("requester-id", |_, eni| vec![eni.requester.clone()]),
        ("requester-managed", |_, eni| vec![eni.managed.to_string()]),
        ("source-dest-check", |_, eni| vec![eni.source_dest_check.to_string()]),
        ("status", |cloud, eni| {
            vec![if cloud.is_tied(&eni.id) { "associated" } else { eni.status() }.to_owned()]
        }),
        ("subnet-id", |_, eni| vec![eni.subnet.to_string()]),
        ("vpc-id", |cloud, _| vec![cloud.vpc().id.to_string()]),
    ],
    tags: Some(|eni| &eni.tags),
};

fn addresses(eni: &Eni) -> Vec<String> {
    std::iter::once(&eni.primary)
        .chain(&eni.secondaries)
        .map(|address| IpAddr::V4(*address).to_string())
        .collect()
}

fn of_attachment(eni: &Eni, fact: impl Fn(&Attachment) -> String) -> Vec<String> {
    eni.attachment.as_ref().map(fact).into_iter().collect()
}

pub(super) fn describe(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &FILTERS)?;
    let ids = params
        .list("NetworkInterfaceId.N")
        .into_iter()
        .map(well_formed)
        .collect::<Result<Vec<EniId>, _>>()?;
    let lag = cloud.describe_lag(call.now);
    let cloud = &*cloud;
    let seen: Vec<&Eni> = cloud.enis_seen(lag).collect();
    let unknown: Vec<&EniId> = ids.iter().filter(|id| !seen.iter().any(|eni| eni.id == **id)).collect();
    if !unknown.is_empty() {
        return Err(refuse::no_enis(&unknown));
    }
    let wanted = seen.into_iter().filter(|eni| ids.is_empty() || ids.contains(&eni.id));
    let found = wanted.filter(|eni| filters.pass(cloud, eni)).map(|eni| (eni.id.to_string(), eni)).collect();
    let page = PAGING.page(params, &params.identity("DescribeNetworkInterfaces"), found)?;
    Ok(page.write("networkInterfaceSet", |xml, eni| interface(xml, cloud, eni)))
}

/// Parameters of `ModifyNetworkInterfaceAttribute`.
pub(super) const MODIFY: &[Param] = &[
    must("NetworkInterfaceId"),
    text("Description.Value"),
    flag("SourceDestCheck.Value"),
    text("SecurityGroupId.N"),
    text("Attachment.AttachmentId"),
    flag("Attachment.DeleteOnTermination"),
    flag("EnablePrimaryIpv6"),
    number("ConnectionTrackingSpecification.TcpEstablishedTimeout"),
    number("ConnectionTrackingSpecification.UdpStreamTimeout"),
    number("ConnectionTrackingSpecification.UdpTimeout"),
    not_simulated("AssociatePublicIpAddress"),
    not_simulated("AssociatedSubnetId.N"),
    not_simulated("Attachment.DefaultEnaQueueCount"),
    not_simulated("Attachment.EnaQueueCount"),
    not_simulated("EnaSrdSpecification.EnaSrdEnabled"),
    not_simulated("EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled"),
    flag("DryRun"),
];

pub(super) fn modify(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let id: EniId = params.id("NetworkInterfaceId")?;
    let mut wanted = Vec::new();
    if let Some(description) = params.text("Description.Value") {
        wanted.push(Attribute::Description(description.to_owned()));
    }
    if let Some(check) = params.flag("SourceDestCheck.Value") {
        wanted.push(Attribute::SourceDestCheck(check));
    }
    let groups = params.list("SecurityGroupId.N");
    if !groups.is_empty() {
        wanted.push(Attribute::Groups(groups.into_iter().map(GroupId::from).collect()));
    }
    if params.any("Attachment") {
        let (Some(_), Some(delete_on_termination)) =
            (params.text("Attachment.AttachmentId"), params.flag("Attachment.DeleteOnTermination"))
        else {
            return Err(ApiError::missing("Attachment.AttachmentId and Attachment.DeleteOnTermination"));
        };
        let id = params.id("Attachment.AttachmentId")?;
        wanted.push(Attribute::Attachment(AttachmentChange { id, delete_on_termination }));
    }
    if params.any("ConnectionTrackingSpecification") {
        wanted.push(Attribute::Tracking(tracking(params)?));
    }
    if let Some(enable) = params.flag("EnablePrimaryIpv6") {
        wanted.push(Attribute::PrimaryIpv6(enable));
    }
    // Source: Amazon EC2 API Reference, `ModifyNetworkInterfaceAttribute`: one attribute at a time.
    match wanted.as_slice() {
        [one] => cloud.modify_network_interface_attribute(call.now, &id, one).map(|()| Xml::done()),
        [] => Err(ApiError::missing("Attribute")),
        [_, _, ..] => Err(ApiError::combination("You can specify only one attribute at a time")),
    }
}

/// Parameters of `CreateNetworkInterfacePermission`.
pub(super) const PERMIT: &[Param] = &[
    must("NetworkInterfaceId"),
    must("Permission"),
    text("AwsAccountId"),
    not_simulated("AwsService"),
    flag("DryRun"),
];

pub(super) fn permit(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let eni: EniId = params.id("NetworkInterfaceId")?;
    let permission = params.text("Permission").unwrap_or_default();
    if !matches!(permission, "INSTANCE-ATTACH" | "EIP-ASSOCIATE") {
        return Err(ApiError::value(format!("Value ({permission}) for parameter permission is invalid.")));
    }
    let account = params.text("AwsAccountId").ok_or_else(|| ApiError::missing("AwsAccountId"))?;
    let made = cloud.create_network_interface_permission(call.now, &eni, account, permission)?;
    let mut xml = Xml::new();
    xml.node("interfacePermission", |xml| {
        xml.leaf("networkInterfacePermissionId", &made.id)
            .leaf("networkInterfaceId", &made.eni)
            .leaf("awsAccountId", &made.account)
            .leaf("permission", &made.permission)
            .node("permissionState", |xml| {
                xml.leaf("state", "granted");
            });
    });
    Ok(xml)
}

/// Parameters of `DeleteNetworkInterface`.
pub(super) const DELETE: &[Param] = &[must("NetworkInterfaceId"), flag("DryRun")];

pub(super) fn delete(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    cloud.delete_network_interface(call.now, &params.id("NetworkInterfaceId")?)?;
    Ok(Xml::done())
}
