use super::super::testbed::{FAR_SUBNET, NODE, ask, cloud_with, new_eni, run, told};
use super::super::{CreateInterface, Eni, SubnetId, Wanted};
use super::*;

fn request(eni: &EniId, device: u32) -> AttachInterface {
    AttachInterface { eni: eni.clone(), instance: InstanceId::from(NODE), device, card: None }
}

fn status(cloud: &Cloud, eni: &EniId) -> Option<AttachmentStatus> {
    cloud.interface(eni).unwrap().attachment.as_ref().map(|to| to.status)
}

#[test]
fn the_device_appears_when_attached_and_vanishes_when_detached() {
    let (mut cloud, log) = cloud_with("m5.large");
    let wanted = Wanted { addresses: vec![[10, 0, 1, 50].into()], ..Wanted::default() };
    let ask = CreateInterface { primary: Some([10, 0, 1, 60].into()), wanted, ..ask() };
    let eni = cloud.create_network_interface(Millis(0), &ask).unwrap().id;
    let to = cloud.attach_network_interface(Millis(1000), &request(&eni, 1)).unwrap();
    cloud.tick(Millis(1999));
    assert_eq!((status(&cloud, &eni), told(&log)), (Some(AttachmentStatus::Attaching), vec![]));
    cloud.tick(Millis(2000));
    assert_eq!(status(&cloud, &eni), Some(AttachmentStatus::Attached));
    assert_eq!(told(&log), [format!("plug {NODE} 0/1 10.0.1.60"), "route 10.0.1.50/32".to_owned()]);
    cloud.detach_network_interface(Millis(3000), &to.id, false).unwrap();
    let in_use = cloud.delete_network_interface(Millis(3500), &eni).unwrap_err();
    assert_eq!(in_use.code, "InvalidParameterValue");
    assert_eq!((status(&cloud, &eni), told(&log)), (Some(AttachmentStatus::Detaching), vec![]));
    cloud.tick(Millis(4000));
    assert_eq!((status(&cloud, &eni), told(&log)), (None, vec![format!("unplug {eni}")]));
    assert_eq!(cloud.interface(&eni).unwrap().status(), "available");
    cloud.delete_network_interface(Millis(4000), &eni).unwrap();
}

#[test]
fn attaching_is_refused_for_ec2s_reasons() {
    let (mut cloud, _) = cloud_with("t3.small");
    run(&mut cloud, "i-0dddddddddddddddd", "m5.large").unwrap();
    cloud.terminate_instance(Millis(0), &InstanceId::from("i-0dddddddddddddddd")).unwrap();
    let [one, two, third] = [(); 3].map(|()| new_eni(&mut cloud, 0).id);
    let make =
        |cloud: &mut Cloud, ask: &CreateInterface| cloud.create_network_interface(Millis(0), ask).unwrap().id;
    let far = make(&mut cloud, &CreateInterface::new(&SubnetId::from(FAR_SUBNET)));
    let full =
        make(&mut cloud, &CreateInterface { wanted: Wanted { count: 4, ..Wanted::default() }, ..ask() });
    let trunk = make(&mut cloud, &CreateInterface { kind: InterfaceType::Trunk, ..ask() });
    let branch = make(&mut cloud, &CreateInterface { kind: InterfaceType::Branch, ..ask() });
    cloud.attach_network_interface(Millis(0), &request(&one, 1)).unwrap();
    let nobody = InstanceId::from("i-0123456789abcdef0");
    let gone = InstanceId::from("i-0dddddddddddddddd");
    for (request, code) in [
        (request(&EniId::from("eni-0123456789abcdef0"), 2), "InvalidNetworkInterfaceID.NotFound"),
        (AttachInterface { instance: nobody, ..request(&two, 2) }, "InvalidInstanceID.NotFound"),
        (AttachInterface { instance: gone, ..request(&two, 2) }, "IncorrectInstanceState"),
        (request(&one, 2), "InvalidNetworkInterface.InUse"),
        (request(&two, 0), "InvalidParameterValue"),
        (request(&two, 1), "InvalidParameterValue"),
        (AttachInterface { card: Some(1), ..request(&two, 1) }, "InvalidParameterValue"),
        (request(&far, 2), "InvalidParameterCombination"),
        (request(&full, 2), "PrivateIpAddressLimitExceeded"),
        (request(&trunk, 2), "UnsupportedOperation"),
        (request(&branch, 2), "OperationNotPermitted"),
    ] {
        let refused = cloud.attach_network_interface(Millis(10), &request).unwrap_err();
        assert_eq!(refused.code, code, "{request:?}");
    }
    cloud.attach_network_interface(Millis(10), &request(&two, 2)).unwrap();
    let refused = cloud.attach_network_interface(Millis(10), &request(&third, 3)).unwrap_err();
    assert_eq!(refused.code, "AttachmentLimitExceeded");
    assert_eq!(refused.message, "Interface count 4 exceeds the limit for t3.small");
}

#[test]
fn detaching_is_refused_for_ec2s_reasons() {
    let (mut cloud, log) = cloud_with("m5.large");
    let primary = cloud.interfaces_of(&InstanceId::from(NODE))[0].attachment.clone().unwrap();
    let eni = new_eni(&mut cloud, 0).id;
    let to = cloud.attach_network_interface(Millis(0), &request(&eni, 1)).unwrap();
    let detach = |cloud: &mut Cloud, now, id, force| {
        cloud.detach_network_interface(Millis(now), id, force).map_err(|refused| refused.code.to_string())
    };
    let code = |code: &str| Err(code.to_owned());
    assert_eq!(detach(&mut cloud, 1, &primary.id, true), code("OperationNotPermitted"));
    let unknown = AttachmentId::from("eni-attach-0123456789abcdef0");
    assert_eq!(detach(&mut cloud, 1, &unknown, false), code("InvalidAttachmentID.NotFound"));
    assert_eq!(detach(&mut cloud, 1, &to.id, false), code("IncorrectState"), "still attaching");
    assert_eq!(detach(&mut cloud, 1001, &to.id, false), Ok(()));
    assert_eq!(detach(&mut cloud, 1002, &to.id, false), code("IncorrectState"), "detaching already");
    cloud.tick(Millis(2001));
    assert_eq!(detach(&mut cloud, 2002, &to.id, false), code("InvalidAttachmentID.NotFound"));
    told(&log);
    let again = cloud.attach_network_interface(Millis(3000), &request(&eni, 1)).unwrap();
    assert_eq!(detach(&mut cloud, 3001, &again.id, true), Ok(()));
    cloud.tick(Millis(9000));
    assert_eq!((status(&cloud, &eni), told(&log)), (None, vec![]), "forced while attaching: never a device");
}

#[test]
fn places_are_per_card() {
    let (mut cloud, _) = cloud_with("p5.48xlarge");
    let on_card = |eni: &Eni, card| AttachInterface { card: Some(card), ..request(&eni.id, 1) };
    for card in [0, 1, 31] {
        let eni = new_eni(&mut cloud, 0);
        assert_eq!(cloud.attach_network_interface(Millis(0), &on_card(&eni, card)).unwrap().card, card);
    }
    let extra = new_eni(&mut cloud, 0);
    let third_on_card = AttachInterface { device: 2, ..on_card(&extra, 0) };
    let refused = cloud.attach_network_interface(Millis(0), &third_on_card).unwrap_err();
    assert_eq!(refused.code, "AttachmentLimitExceeded", "card 0 takes two");
    assert_eq!(
        cloud.attach_network_interface(Millis(0), &on_card(&extra, 32)).unwrap_err().code,
        "InvalidParameterValue"
    );
}
