//! A network interface as XML, in the two forms that EC2 has: on its own, and within an instance.
//!
//! Source: botocore's service model, shapes `NetworkInterface` and `InstanceNetworkInterface`.

use std::net::Ipv4Addr;

use super::xml::Xml;
use crate::cloud::{Attachment, Cloud, Eni, GroupId, Tags, Tracking, mac_text, private_dns};

/// As `DescribeNetworkInterfaces` and `CreateNetworkInterface` show it.
pub(super) fn interface(xml: &mut Xml, cloud: &Cloud, eni: &Eni) {
    same(xml, cloud, eni);
    xml.leaf("requesterId", &eni.requester).leaf("requesterManaged", eni.managed);
    if let Some(to) = &eni.attachment {
        xml.node("attachment", |xml| {
            attachment(xml, to);
            xml.leaf("instanceId", &to.instance).leaf("instanceOwnerId", &cloud.spec().account);
        });
    }
    if let Some((az, az_id)) = cloud.zone_of(&eni.subnet) {
        xml.leaf("availabilityZone", az).leaf("availabilityZoneId", az_id);
    }
    if eni.primary_ipv6 {
        xml.some("ipv6Address", eni.ipv6.first());
    }
    tags(xml, &eni.tags);
}

/// As `DescribeInstances` shows it.
pub(super) fn within_instance(xml: &mut Xml, cloud: &Cloud, eni: &Eni) {
    same(xml, cloud, eni);
    if let Some(to) = &eni.attachment {
        xml.node("attachment", |xml| attachment(xml, to));
    }
}

/// `<tagSet>`.
pub(super) fn tags(xml: &mut Xml, tags: &Tags) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.leaf("key", key).leaf("value", value);
    });
}

/// `<groupSet>`.
pub(super) fn groups(xml: &mut Xml, cloud: &Cloud, ids: &[GroupId]) {
    xml.list("groupSet", ids, |xml, id| {
        let name = cloud.groups().find(|group| group.id == *id).map(|group| &group.name);
        xml.leaf("groupId", id).some("groupName", name);
    });
}

fn same(xml: &mut Xml, cloud: &Cloud, eni: &Eni) {
    let region = &cloud.spec().region;
    let status = if cloud.is_tied(&eni.id) { "associated" } else { eni.status() };
    xml.leaf("networkInterfaceId", &eni.id)
        .leaf("subnetId", &eni.subnet)
        .leaf("vpcId", &cloud.vpc().id)
        .leaf("description", &eni.description)
        .leaf("ownerId", &cloud.spec().account)
        .leaf("status", status)
        .leaf("macAddress", mac_text(eni.mac))
        .some("privateIpAddress", eni.addresses().next())
        .some("privateDnsName", eni.addresses().next().map(|own| private_dns(own, region)))
        .leaf("sourceDestCheck", eni.source_dest_check)
        .leaf("interfaceType", eni.kind.as_str());
    groups(xml, cloud, &eni.groups);
    xml.list(
        "privateIpAddressesSet",
        eni.addresses().enumerate(),
        |xml, (at, address): (usize, Ipv4Addr)| {
            xml.leaf("privateIpAddress", address)
                .leaf("privateDnsName", private_dns(address, region))
                .leaf("primary", at == 0);
        },
    );
    xml.list("ipv6AddressesSet", eni.ipv6.iter().enumerate(), |xml, (at, address)| {
        xml.leaf("ipv6Address", address).leaf("isPrimaryIpv6", at == 0 && eni.primary_ipv6);
    });
    if !eni.prefixes.is_empty() {
        xml.list("ipv4PrefixSet", &eni.prefixes, |xml, prefix| {
            xml.leaf("ipv4Prefix", prefix);
        });
    }
    if !eni.ipv6_prefixes.is_empty() {
        xml.list("ipv6PrefixSet", &eni.ipv6_prefixes, |xml, prefix| {
            xml.leaf("ipv6Prefix", prefix);
        });
    }
    tracking(xml, &eni.tracking);
}

fn tracking(xml: &mut Xml, tracking: &Tracking) {
    if *tracking != Tracking::default() {
        xml.node("connectionTrackingConfiguration", |xml| {
            xml.some("tcpEstablishedTimeout", tracking.tcp_established)
                .some("udpStreamTimeout", tracking.udp_stream)
                .some("udpTimeout", tracking.udp);
        });
    }
}

fn attachment(xml: &mut Xml, to: &Attachment) {
    xml.leaf("attachmentId", &to.id)
        .leaf("deviceIndex", to.device)
        .leaf("networkCardIndex", to.card)
        .leaf("status", to.status.as_str())
        .leaf("attachTime", to.since)
        .leaf("deleteOnTermination", to.delete_on_termination);
}
