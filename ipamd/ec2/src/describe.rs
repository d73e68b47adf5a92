//! SDK shapes → the pool's observations. What cannot be understood is left out and said, never guessed.

use std::net::{IpAddr, Ipv6Addr};

use aws_sdk_ec2::types::{AttachmentStatus, NetworkInterface};
use ipnetwork::IpNetwork;
use podwire_pool::{
    AttachmentId, DeviceIndex, EniId, GroupId, InstanceId, NetworkCard, ObservedEni, SubnetId,
};

/// Why one ENI of an answer could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{eni}: {what}")]
pub struct ShapeError {
    /// Which ENI.
    pub eni: String,
    /// What was missing or wrong.
    pub what: &'static str,
}

/// Converts one ENI as EC2 describes it.
///
/// # Errors
/// Something without which nothing can be said of the ENI is missing: id, MAC or subnet.
pub fn observed(eni: &NetworkInterface) -> Result<ObservedEni, ShapeError> {
    let fail =
        |what| ShapeError { eni: eni.network_interface_id().unwrap_or("an ENI without id").to_owned(), what };
    let id = eni.network_interface_id().ok_or_else(|| fail("has no id"))?;
    let mac = eni.mac_address().and_then(|m| m.parse().ok()).ok_or_else(|| fail("has no MAC address"))?;
    let primary = match eni.private_ip_address() {
        Some(own) => own.parse().map_err(|_| fail("has a primary address that is none"))?,
        None => without_ipv4(eni),
    };
    let addresses = eni
        .private_ip_addresses()
        .iter()
        .filter(|a| !a.primary().unwrap_or(false))
        .filter_map(|a| a.private_ip_address()?.parse().ok())
        .filter(|a| *a != primary)
        .collect();
    let prefixes: Vec<IpNetwork> =
        eni.ipv4_prefixes().iter().filter_map(|p| p.ipv4_prefix()?.parse().ok()).collect();
    let attachment = eni.attachment();
    Ok(ObservedEni {
        id: EniId::new(id),
        mac,
        attachment: attachment.and_then(|a| a.attachment_id()).map(AttachmentId::new),
        instance: attachment.and_then(|a| a.instance_id()).map(InstanceId::new),
        card: NetworkCard(attachment.and_then(|a| a.network_card_index()).map_or(0, index)),
        device: DeviceIndex(attachment.and_then(|a| a.device_index()).map_or(0, index)),
        subnet: SubnetId::new(eni.subnet_id().ok_or_else(|| fail("has no subnet"))?),
        subnet_cidr: None,
        groups: eni.groups().iter().filter_map(|g| g.group_id()).map(GroupId::new).collect(),
        primary,
        addresses,
        prefixes,
        kind: eni.interface_type().map(|t| t.as_str().into()),
        tags: Some(
            eni.tag_set()
                .iter()
                .filter_map(|t| Some((t.key()?.into(), t.value().unwrap_or("").into())))
                .collect(),
        ),
        attached: attachment.and_then(|a| a.status()) == Some(&AttachmentStatus::Attached),
    })
}

/// What stands for the primary address of an ENI without IPv4: its IPv6 address, or `::` where it has none at all, as an
/// EFA-only one. The pool takes neither for an address of ours, but has to know that the ENI's place is taken.
fn without_ipv4(eni: &NetworkInterface) -> IpAddr {
    let first = eni.ipv6_addresses().iter().find_map(|a| a.ipv6_address()?.parse().ok());
    first.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

/// EC2's indexes are small and never negative; a negative one is nonsense and reads as 0.
fn index(raw: i32) -> u32 {
    u32::try_from(raw).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::{
        NetworkInterfaceAttachment, NetworkInterfaceIpv6Address, NetworkInterfacePrivateIpAddress,
        NetworkInterfaceType, Tag,
    };

    #[test]
    fn described_eni_keeps_primary_apart_from_secondaries() {
        let address = |ip: &str, primary| {
            NetworkInterfacePrivateIpAddress::builder().private_ip_address(ip).primary(primary).build()
        };
        let eni = NetworkInterface::builder()
            .network_interface_id("eni-1")
            .mac_address("02:00:00:00:00:01")
            .subnet_id("subnet-1")
            .private_ip_address("10.0.0.5")
            .private_ip_addresses(address("10.0.0.5", true))
            .private_ip_addresses(address("10.0.0.6", false))
            .attachment(
                NetworkInterfaceAttachment::builder()
                    .attachment_id("eni-attach-1")
                    .instance_id("i-1")
                    .device_index(1)
                    .status(AttachmentStatus::Attaching)
                    .build(),
            )
            .tag_set(Tag::builder().key("k").value("v").build())
            .build();
        let seen = observed(&eni).expect("complete");
        assert_eq!(seen.addresses, ["10.0.0.6".parse::<IpAddr>().expect("address")]);
        assert_eq!(seen.device, DeviceIndex(1));
        assert!(!seen.attached);
        assert_eq!(seen.tags, Some(vec![("k".into(), "v".into())]));
    }

    /// EFA-only and IPv6-only ENIs have no IPv4 address, and take a place of the instance all the same.
    #[test]
    fn eni_without_ipv4_is_seen_at_its_place() {
        let plain = NetworkInterface::builder()
            .network_interface_id("eni-1")
            .mac_address("02:00:00:00:00:01")
            .subnet_id("subnet-1")
            .attachment(
                NetworkInterfaceAttachment::builder()
                    .device_index(1)
                    .status(AttachmentStatus::Attached)
                    .build(),
            );
        let v6 = NetworkInterfaceIpv6Address::builder().ipv6_address("2600::9").build();
        for (eni, own, kind) in [
            (plain.clone().interface_type(NetworkInterfaceType::EfaOnly), "::", "efa-only"),
            (
                plain.interface_type(NetworkInterfaceType::Interface).ipv6_addresses(v6),
                "2600::9",
                "interface",
            ),
        ] {
            let seen = observed(&eni.build()).expect("understood");
            assert_eq!((seen.card, seen.device, seen.attached), (NetworkCard(0), DeviceIndex(1), true));
            assert_eq!((seen.primary, seen.kind.as_deref()), (own.parse().expect("an address"), Some(kind)));
            assert!(seen.addresses.is_empty() && seen.prefixes.is_empty(), "nothing for pods");
        }
    }

    #[test]
    fn eni_without_mac_refused_by_name() {
        let eni = NetworkInterface::builder().network_interface_id("eni-1").build();
        assert_eq!(observed(&eni), Err(ShapeError { eni: "eni-1".into(), what: "has no MAC address" }));
    }
}
