#![allow(clippy::unwrap_used, reason = "a test that finds what it did not expect has to stop")]

use super::*;
use crate::ids::{BootId, InstanceId};
use crate::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};

fn settings(manage_untagged: bool) -> Settings {
    Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("b"),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 4, ipv4_per_eni: 15 },
        max_eni: None,
        max_pods: 58,
        primary_excluded: false,
        manage_untagged,
        cooldown: std::time::Duration::from_secs(30),
        gather: std::time::Duration::ZERO,
        cluster: None,
        subnets: SubnetPolicy::default(),
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        seed: 1,
    }
}

struct Case {
    what: &'static str,
    kind: &'static str,
    place: (u32, u32),
    instance: &'static str,
    primary: &'static str,
    tags: &'static [(&'static str, &'static str)],
}

const PLAIN: Case = Case {
    what: "untagged",
    kind: "interface",
    place: (0, 1),
    instance: "i-1",
    primary: "10.0.0.9",
    tags: &[],
};

fn role(case: &Case, manage_untagged: bool) -> Role {
    let (card, device) = case.place;
    let seen = ObservedEni {
        id: EniId::new("eni-1"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        attachment: Some(AttachmentId::new("a")),
        instance: Some(InstanceId::new(case.instance)),
        card: NetworkCard(card),
        device: DeviceIndex(device),
        subnet: SubnetId::new("subnet-1"),
        subnet_cidr: None,
        groups: Vec::new(),
        primary: case.primary.parse().unwrap(),
        addresses: Vec::new(),
        prefixes: Vec::new(),
        kind: Some(case.kind.into()),
        tags: Some(case.tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
        attached: true,
    };
    role_of(&seen, &settings(manage_untagged))
}

/// C39: what is not ours is not touched, whatever marks it (incumbent-behaviour §5.7).
#[test]
fn enis_of_others_are_foreign_whatever_marks_them() {
    let own: &[(&str, &str)] = &[(TAG_INSTANCE, "i-1")];
    let cases = [
        (
            Case { what: "no_manage", tags: &[(TAG_INSTANCE, "i-1"), (TAG_NO_MANAGE, "true")], ..PLAIN },
            Role::Foreign,
        ),
        (
            Case {
                what: "no_manage=false",
                tags: &[(TAG_INSTANCE, "i-1"), (TAG_NO_MANAGE, "false")],
                ..PLAIN
            },
            Role::Secondary,
        ),
        (Case { what: "another node's", tags: &[(TAG_INSTANCE, "i-2")], ..PLAIN }, Role::Foreign),
        (Case { what: "attached elsewhere", instance: "i-2", tags: own, ..PLAIN }, Role::Foreign),
        (Case { what: "EFA", kind: "efa", tags: own, ..PLAIN }, Role::Foreign),
        (Case { what: "EFA-only", kind: "efa-only", tags: own, ..PLAIN }, Role::Foreign),
        (Case { what: "trunk", kind: "trunk", tags: own, ..PLAIN }, Role::Foreign),
        (Case { what: "branch", kind: "branch", tags: own, ..PLAIN }, Role::Foreign),
        (Case { what: "second card", place: (1, 1), tags: own, ..PLAIN }, Role::Foreign),
        (
            Case { what: "EFA-only without address", kind: "efa-only", primary: "::", tags: own, ..PLAIN },
            Role::Foreign,
        ),
        (Case { what: "IPv6-only", primary: "2600::9", tags: own, ..PLAIN }, Role::Foreign),
        (Case { what: "ours", tags: own, ..PLAIN }, Role::Secondary),
        (Case { what: "primary", place: (0, 0), ..PLAIN }, Role::Primary),
        (Case { what: "primary EFA", kind: "efa", place: (0, 0), ..PLAIN }, Role::Primary),
    ];
    for (case, expected) in cases {
        for manage_untagged in [true, false] {
            assert_eq!(role(&case, manage_untagged), expected, "{}", case.what);
        }
    }
    assert_eq!(role(&PLAIN, true), Role::Borrowed);
    assert_eq!(role(&PLAIN, false), Role::Foreign);
}
