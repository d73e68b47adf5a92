use super::super::testbed::{NODE, ask, cloud_with};
use super::super::{AttachInterface, CreateInterface, InstanceId};
use super::*;

fn make(cloud: &mut Cloud, kind: InterfaceType) -> EniId {
    cloud.create_network_interface(Millis(0), &CreateInterface { kind, ..ask() }).unwrap().id
}

#[test]
fn branches_hang_on_trunks_up_to_the_types_limit() {
    let (mut cloud, _) = cloud_with("m5.large");
    let trunk = make(&mut cloud, InterfaceType::Trunk);
    let attach =
        AttachInterface { eni: trunk.clone(), instance: InstanceId::from(NODE), device: 1, card: None };
    cloud.attach_network_interface(Millis(0), &attach).unwrap();
    for vlan in 1..=9 {
        let branch = make(&mut cloud, InterfaceType::Branch);
        cloud.associate_trunk_interface(Millis(0), &branch, &trunk, Protocol::Vlan(vlan), None).unwrap();
    }
    let tenth = make(&mut cloud, InterfaceType::Branch);
    let refused =
        cloud.associate_trunk_interface(Millis(0), &tenth, &trunk, Protocol::Vlan(10), None).unwrap_err();
    assert_eq!(refused.code, "BranchInterfaceLimitExceeded");
}

#[test]
fn associations_are_refused_for_ec2s_reasons() {
    let (mut cloud, _) = cloud_with("m5.large");
    let (trunk, plain) = (make(&mut cloud, InterfaceType::Trunk), make(&mut cloud, InterfaceType::Interface));
    let (one, two) = (make(&mut cloud, InterfaceType::Branch), make(&mut cloud, InterfaceType::Branch));
    let mut tie = |branch: &EniId, trunk: &EniId, vlan, token: Option<&str>| {
        let made = cloud.associate_trunk_interface(Millis(0), branch, trunk, Protocol::Vlan(vlan), token);
        made.map(|tie| tie.id).map_err(|refused| refused.code.to_string())
    };
    let code = |code: &str| Err(code.to_owned());
    let first = tie(&one, &trunk, 1, Some("t")).unwrap();
    assert_eq!(tie(&one, &trunk, 1, Some("t")), Ok(first), "a repetition");
    assert_eq!(tie(&one, &trunk, 2, Some("t")), code("IdempotentParameterMismatch"));
    assert_eq!(tie(&one, &trunk, 2, None), code("InvalidNetworkInterface.InUse"));
    assert_eq!(tie(&two, &trunk, 1, None), code("InvalidParameterValue"), "VLAN id taken");
    assert_eq!(tie(&two, &plain, 2, None), code("InvalidParameterValue"), "no trunk");
    assert_eq!(tie(&trunk, &trunk, 2, None), code("InvalidParameterValue"), "on itself");
}

#[test]
fn protocols_need_one_parameter_in_range() {
    for (vlan, gre, code) in [
        (None, None, "MissingParameter"),
        (Some(1), Some(1), "InvalidParameterCombination"),
        (Some(0), None, "InvalidParameterValue"),
        (Some(4095), None, "InvalidParameterValue"),
        (Some(70_000), None, "InvalidParameterValue"),
    ] {
        assert_eq!(Protocol::of(vlan, gre).unwrap_err().code, code, "{vlan:?} {gre:?}");
    }
    assert_eq!(Protocol::of(Some(4094), None), Ok(Protocol::Vlan(4094)));
    assert_eq!(Protocol::of(None, Some(9)), Ok(Protocol::Gre(9)));
}
