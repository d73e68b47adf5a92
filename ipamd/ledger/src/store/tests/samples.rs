//! Records to write.

use std::net::{IpAddr, Ipv4Addr};

use podwire_pool::record::{EniRecord, EniStage};
use podwire_pool::{AttachmentId, DeviceIndex, EniId, GroupId, GrowBy, Mac, NetworkCard, SubnetId};

use super::*;

/// One allocation, told apart by its number.
pub(super) fn sample(number: u64) -> Vec<Record> {
    vec![Record::Allocated {
        sandbox: SandboxKey::new(format!("c{number}"), "eth0"),
        pod: PodRef {
            namespace: "default".into(),
            name: format!("web-{number}").into(),
            uid: "u".into(),
            network: "aws-cni".into(),
        },
        addresses: vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).expect("small")))],
        at: Time::from_ms(number),
    }]
}

/// At least one record of every kind, with every optional part both ways.
pub(super) fn all_kinds() -> Vec<Record> {
    let eni = |stage, attachment: Option<&str>| {
        Record::Eni(EniRecord {
            id: EniId::new("eni-1"),
            mac: Mac([2, 0, 0, 0xab, 0xcd, 0xef]),
            attachment: attachment.map(AttachmentId::new),
            card: NetworkCard(0),
            device: DeviceIndex(1),
            subnet: SubnetId::new("subnet-1"),
            subnet_cidr: attachment.map(|_| "10.0.0.0/24".parse().expect("a CIDR")),
            groups: vec![GroupId::new("sg-1"), GroupId::new("sg-2")],
            primary: "10.0.0.5".parse().expect("an address"),
            stage,
        })
    };
    let sandbox = SandboxKey::new("container \"with\"\nodd \u{1F980} text", "eth0");
    let at = Time::from_ms(u64::MAX);
    let started = Time::from_ms(0);
    let net = |text: &str| text.parse().expect("a CIDR");
    let mut records = vec![
        eni(EniStage::Created, None),
        eni(EniStage::Attached, Some("eni-attach-1")),
        eni(EniStage::Leaving, Some("eni-attach-1")),
        Record::Assigned { eni: EniId::new("eni-1"), net: net("10.0.0.16/28"), at },
        Record::Unassigned { eni: EniId::new("eni-1"), net: net("2001:db8::/80"), at },
    ];
    records.extend(sample(7));
    records.extend([
        Record::Released {
            sandbox: sandbox.clone(),
            addresses: vec!["2001:db8::1".parse().expect("an address")],
            started,
            at,
        },
        Record::Tombstone { sandbox, started, at },
        Record::Intent { op: OpId(u64::MAX), create: Some(GrowBy::Addresses(3)), eni: None },
        Record::Intent { op: OpId(1), create: Some(GrowBy::Prefixes(1)), eni: None },
        Record::Intent { op: OpId(2), create: None, eni: Some(EniId::new("eni-1")) },
        Record::Settled { op: OpId(2) },
        Record::OpsUsed { next: OpId(3) },
        Record::EniGone { eni: EniId::new("eni-1") },
    ]);
    records
}
