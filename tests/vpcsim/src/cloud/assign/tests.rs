use super::super::testbed::{NODE, SUBNET, ask, cloud, cloud_with, new_eni, told};
use super::super::{AttachInterface, CloudSpec, CreateInterface, InstanceId, Placement, Quotas};
use super::*;

fn count(count: usize) -> Wanted {
    Wanted { count, ..Wanted::default() }
}

fn named(addresses: &[[u8; 4]]) -> Wanted {
    Wanted { addresses: addresses.iter().map(|octets| (*octets).into()).collect(), ..Wanted::default() }
}

fn free(cloud: &Cloud) -> usize {
    cloud.space(&SubnetId::from(SUBNET)).unwrap().free()
}

#[test]
fn only_what_is_new_is_answered_and_kept_in_order() {
    let (mut cloud, _) = cloud();
    let eni = new_eni(&mut cloud, 0).id;
    let one = cloud.assign_private_ip_addresses(Millis(1), &eni, &count(2), false).unwrap();
    let two = cloud.assign_private_ip_addresses(Millis(2), &eni, &count(3), false).unwrap();
    assert_eq!((one.addresses.len(), two.addresses.len()), (2, 3));
    assert_eq!(cloud.interface(&eni).unwrap().secondaries, [one.addresses, two.addresses].concat());
}

#[test]
fn refusals_change_nothing() {
    let (mut cloud, log) = cloud_with("m5.large");
    let node = cloud.interfaces_of(&InstanceId::from(NODE))[0].clone();
    let before = (free(&cloud), node.clone());
    let both = Wanted { prefix_count: 1, ..count(1) };
    let half_taken = Wanted {
        prefixes: vec!["10.0.1.32/28".parse().unwrap(), "10.0.1.40/28".parse().unwrap()],
        ..Wanted::default()
    };
    for (wanted, code) in [
        (count(0), "MissingParameter"),
        (both, "InvalidParameterCombination"),
        (count(10), "PrivateIpAddressLimitExceeded"),
        (Wanted { prefix_count: 10, ..Wanted::default() }, "PrivateIpAddressLimitExceeded"),
        (named(&[[10, 0, 9, 9]]), "InvalidParameterValue"),
        (named(&[[10, 0, 1, 3]]), "InvalidParameterValue"),
        (named(&[[10, 0, 1, 77], [10, 0, 1, 77]]), "InvalidParameterValue"),
        (Wanted { addresses: vec![node.primary], ..Wanted::default() }, "InvalidParameterValue"),
        (half_taken, "InvalidParameterValue"),
    ] {
        let refused = cloud.assign_private_ip_addresses(Millis(1), &node.id, &wanted, false).unwrap_err();
        assert_eq!(refused.code, code, "{wanted:?}");
        assert_eq!((free(&cloud), cloud.interface(&node.id).unwrap().clone()), before, "{wanted:?}");
    }
    assert_eq!(told(&log), [""; 0], "the wires hear of no refusal");
}

#[test]
fn secondary_addresses_move_only_when_that_is_allowed() {
    let (mut cloud, _) = cloud();
    let (one, two) = (new_eni(&mut cloud, 0), new_eni(&mut cloud, 0));
    let address = [10, 0, 1, 200];
    cloud.assign_private_ip_addresses(Millis(1), &one.id, &named(&[address]), false).unwrap();
    let before = free(&cloud);
    let refused =
        cloud.assign_private_ip_addresses(Millis(2), &two.id, &named(&[address]), false).unwrap_err();
    assert_eq!(refused.code, "InvalidIPAddress.InUse");
    let moved = cloud.assign_private_ip_addresses(Millis(3), &two.id, &named(&[address]), true).unwrap();
    assert_eq!(moved.addresses, [Ipv4Addr::from(address)]);
    assert_eq!(cloud.whose(Ipv4Addr::from(address).into()).unwrap().eni, two.id);
    assert!(cloud.interface(&one.id).unwrap().secondaries.is_empty());
    let again = cloud.assign_private_ip_addresses(Millis(4), &two.id, &named(&[address]), true).unwrap();
    assert_eq!((again.addresses.len(), free(&cloud)), (1, before), "a repetition changes nothing");
    let primary = Wanted { addresses: vec![one.primary], ..Wanted::default() };
    let refused = cloud.assign_private_ip_addresses(Millis(5), &two.id, &primary, true).unwrap_err();
    assert_eq!(refused.code, "InvalidIPAddress.InUse", "a primary address never moves");
}

#[test]
fn what_is_not_assigned_cannot_be_unassigned() {
    let (mut cloud, _) = cloud();
    let eni = new_eni(&mut cloud, 0);
    let got = cloud.assign_private_ip_addresses(Millis(1), &eni.id, &count(2), false).unwrap().addresses;
    let before = free(&cloud);
    for addresses in
        [vec![eni.primary], vec![got[0], Ipv4Addr::new(10, 0, 1, 254)], vec![Ipv4Addr::new(9, 9, 9, 9)]]
    {
        let refused = cloud.unassign_private_ip_addresses(Millis(2), &eni.id, &addresses, &[]).unwrap_err();
        assert_eq!(refused.code, "InvalidParameterValue", "{addresses:?}");
        assert_eq!(free(&cloud), before);
    }
    cloud.unassign_private_ip_addresses(Millis(3), &eni.id, &got, &[]).unwrap();
    assert_eq!(free(&cloud), before + 2);
    assert_eq!(cloud.whose(got[0].into()), None);
}

#[test]
fn the_wires_hear_of_addresses_on_plugged_interfaces() {
    let (mut cloud, log) = cloud_with("m5.large");
    let node = cloud.interfaces_of(&InstanceId::from(NODE))[0].id.clone();
    cloud.assign_private_ip_addresses(Millis(1), &node, &named(&[[10, 0, 1, 50]]), false).unwrap();
    let prefix = Wanted { prefixes: vec!["10.0.1.64/28".parse().unwrap()], ..Wanted::default() };
    cloud.assign_private_ip_addresses(Millis(1), &node, &prefix, false).unwrap();
    cloud.unassign_private_ip_addresses(Millis(2), &node, &[[10, 0, 1, 50].into()], &[]).unwrap();
    cloud.unassign_private_ip_addresses(Millis(2), &node, &[], &["10.0.1.64/28".parse().unwrap()]).unwrap();
    assert_eq!(
        told(&log),
        ["route 10.0.1.50/32", "route 10.0.1.64/28", "unroute 10.0.1.50/32", "unroute 10.0.1.64/28"]
    );
    let loose = new_eni(&mut cloud, 3).id;
    cloud.assign_private_ip_addresses(Millis(3), &loose, &count(1), false).unwrap();
    assert_eq!(told(&log), [""; 0], "no device, no route");
}

#[test]
fn routes_may_follow_late_or_never() {
    let (mut slow, log) = super::super::testbed::cloud_of(&CloudSpec {
        timings: super::super::Timings {
            route: super::super::Delay::Fixed { ms: 500 },
            ..super::super::Timings::instant()
        },
        ..super::super::testbed::spec()
    });
    super::super::testbed::run(&mut slow, NODE, "m5.large").unwrap();
    let node = slow.interfaces_of(&InstanceId::from(NODE))[0].id.clone();
    told(&log);
    slow.assign_private_ip_addresses(Millis(1000), &node, &named(&[[10, 0, 1, 50], [10, 0, 1, 51]]), false)
        .unwrap();
    slow.unassign_private_ip_addresses(Millis(1200), &node, &[[10, 0, 1, 51].into()], &[]).unwrap();
    slow.tick(Millis(1499));
    assert_eq!(told(&log), ["unroute 10.0.1.51/32"]);
    slow.tick(Millis(1500));
    assert_eq!(told(&log), ["route 10.0.1.50/32"], "what was unassigned meanwhile is not delivered");
}

#[test]
fn address_usage_has_a_quota() {
    let quotas = Quotas { network_address_usage: 5, ..Quotas::default() };
    let (mut cloud, _) = super::super::testbed::cloud_of(&CloudSpec {
        quotas,
        placement: Placement::Lowest,
        ..super::super::testbed::spec()
    });
    super::super::testbed::run(&mut cloud, NODE, "m5.large").unwrap();
    let node = InstanceId::from(NODE);
    let eni = cloud.interfaces_of(&node)[0].id.clone();
    let refused = cloud.assign_private_ip_addresses(Millis(1), &eni, &count(5), false).unwrap_err();
    assert_eq!(refused.code, "NetworkAddressUsageLimitExceeded");
    let prefix = Wanted { prefix_count: 3, ..Wanted::default() };
    cloud.assign_private_ip_addresses(Millis(1), &eni, &prefix, false).unwrap();
    assert_eq!(cloud.network_address_usage(), 4, "a prefix counts one");
    let second = cloud.create_network_interface(Millis(2), &CreateInterface { ..ask() }).unwrap().id;
    let attach = AttachInterface { eni: second, instance: node, device: 1, card: None };
    let refused = cloud.attach_network_interface(Millis(3), &attach).unwrap_err();
    assert_eq!(refused.code, "NetworkAddressUsageLimitExceeded");
}
