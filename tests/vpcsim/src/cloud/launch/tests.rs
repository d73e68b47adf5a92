use super::super::testbed::{NODE, SUBNET, cloud, cloud_with, new_eni, told};
use super::super::{AttachInterface, AttachmentChange, Attribute};
use super::*;

fn spec() -> InstanceSpec {
    InstanceSpec { subnet: SUBNET.to_owned(), ..InstanceSpec::default() }
}

#[test]
fn an_instance_starts_plugged_with_what_its_template_asks_for() {
    let (mut cloud, log) = cloud();
    let address = Ipv4Addr::new(10, 0, 1, 77);
    let spec = InstanceSpec {
        address: Some(address),
        secondary_addresses: 0,
        prefixes: 2,
        ipv6_prefixes: 1,
        ..spec()
    };
    let launched = cloud.run_instance(Millis(5), &spec).unwrap();
    let eni = cloud.interface(&launched.eni).unwrap().clone();
    assert_eq!(
        (launched.address, eni.prefixes.len(), eni.ipv6_prefixes.len(), eni.status()),
        (address, 2, 1, "in-use")
    );
    let mut expected = vec![format!("plug {} 0/0 10.0.1.77", launched.instance)];
    expected.extend(eni.routes().iter().map(|net| format!("route {net}")));
    assert_eq!(told(&log), expected);
    assert_eq!(cloud.instance_by_source(address.into()), Some(launched.instance));
}

#[test]
fn launches_beyond_the_rules_are_refused() {
    let (mut cloud, _) = cloud_with("m5.large");
    for (spec, code) in [
        (InstanceSpec { instance_type: "m5.gigantic".to_owned(), ..spec() }, "InvalidParameterValue"),
        (InstanceSpec { id: Some("node-1".to_owned()), ..spec() }, "InvalidInstanceID.Malformed"),
        (InstanceSpec { id: Some(NODE.to_owned()), ..spec() }, "InvalidParameterValue"),
        (InstanceSpec { subnet: "subnet-x".to_owned(), ..spec() }, "InvalidSubnetID.NotFound"),
        (InstanceSpec { groups: vec!["nobody".to_owned()], ..spec() }, "InvalidSecurityGroupID.NotFound"),
        (InstanceSpec { secondary_addresses: 10, ..spec() }, "InvalidInterface.IpAddressLimitExceeded"),
        (
            InstanceSpec { instance_type: "t2.micro".to_owned(), prefixes: 1, ..spec() },
            "UnsupportedOperation",
        ),
    ] {
        let refused = cloud.run_instance(Millis(0), &spec).unwrap_err();
        assert_eq!((refused.code.as_ref(), cloud.interfaces().count()), (code, 1), "{spec:?}");
    }
}

#[test]
fn interfaces_go_with_the_instance_if_they_are_to() {
    let (mut cloud, log) = cloud_with("m5.large");
    let node = InstanceId::from(NODE);
    let (goes, stays) = (new_eni(&mut cloud, 0).id, new_eni(&mut cloud, 0).id);
    for (device, eni) in [(1, &goes), (2, &stays)] {
        let attach = AttachInterface { eni: eni.clone(), instance: node.clone(), device, card: None };
        let to = cloud.attach_network_interface(Millis(0), &attach).unwrap();
        let change = AttachmentChange { id: to.id, delete_on_termination: *eni == goes };
        cloud.modify_network_interface_attribute(Millis(0), eni, &Attribute::Attachment(change)).unwrap();
    }
    cloud.tick(Millis(1000));
    told(&log);
    cloud.terminate_instance(Millis(2000), &node).unwrap();
    assert_eq!(cloud.instance(&node).unwrap().state, InstanceState::ShuttingDown);
    cloud.tick(Millis(3000));
    assert_eq!(cloud.instance(&node).unwrap().state, InstanceState::Terminated);
    assert_eq!(told(&log).len(), 3, "three devices vanish");
    let left: Vec<_> = cloud.interfaces().map(|eni| (eni.id.clone(), eni.status())).collect();
    assert_eq!(left, [(stays, "available")]);
    cloud.terminate_instance(Millis(4000), &node).unwrap();
    cloud.tick(Millis(3000).plus(Duration::from_secs(3600)));
    assert!(cloud.instance(&node).is_none(), "shown for an hour");
}

#[test]
fn credentials_tell_instances_apart_and_expire() {
    let (mut cloud, _) = cloud_with("m5.large");
    let node = InstanceId::from(NODE);
    let first = cloud.credentials(Millis(0), &node).unwrap();
    assert_eq!(cloud.credentials(Millis(60_000), &node).unwrap(), first, "the same for a while");
    assert_eq!(cloud.caller(&first.access_key).unwrap().instance, Some(node.clone()));
    assert_eq!(cloud.caller("AKIAOUTSIDE").unwrap().instance, None);
    let near_end = Millis(0).plus(KEY_LIFE - Duration::from_secs(600));
    let second = cloud.credentials(near_end, &node).unwrap();
    assert_ne!(second.access_key, first.access_key, "new ones come before the old ones expire");
    assert!(cloud.caller(&first.access_key).is_ok());
    cloud.tick(Millis(0).plus(KEY_LIFE));
    assert_eq!(cloud.caller(&first.access_key).unwrap_err().code, "RequestExpired");
    assert!(cloud.caller(&second.access_key).is_ok());
}
