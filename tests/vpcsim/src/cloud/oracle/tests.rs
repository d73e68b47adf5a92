use super::super::testbed::{NODE, cloud_with, new_eni};
use super::super::{AttachInterface, Wanted};
use super::*;
use crate::trouble::TroubleSettings;

fn node() -> InstanceId {
    InstanceId::from(NODE)
}

fn set(cloud: &mut Cloud, json: &str) {
    cloud.set_trouble(serde_json::from_str::<TroubleSettings>(json).unwrap());
}

fn counts(cloud: &Cloud, now: u64) -> Vec<usize> {
    let view = cloud.imds_view(Millis(now), &node()).unwrap();
    view.interfaces.iter().map(|interface| interface.local_ipv4s.len()).collect()
}

#[test]
fn the_metadata_service_shows_what_is_attached() {
    let (mut cloud, _) = cloud_with("m5.large");
    let eni = new_eni(&mut cloud, 0).id;
    let attach = AttachInterface { eni: eni.clone(), instance: node(), device: 1, card: None };
    cloud.attach_network_interface(Millis(0), &attach).unwrap();
    assert_eq!(counts(&cloud, 0), [1], "attaching is not shown yet");
    cloud.tick(Millis(1000));
    assert_eq!(counts(&cloud, 1000), [1, 1]);
    let view = cloud.imds_view(Millis(1000), &node()).unwrap();
    assert_eq!(
        (view.interfaces[1].eni.clone(), view.interfaces[1].device, view.mac),
        (eni, 1, view.interfaces[0].mac)
    );
    assert_eq!(view.interfaces[0].local_ipv4s[0], view.local_ipv4);
    assert_eq!(view.interfaces[0].subnet_cidr.to_string(), "10.0.1.0/24");
    assert!(cloud.imds_view(Millis(0), &InstanceId::from("i-0123456789abcdef0")).is_none());
}

#[test]
fn the_metadata_service_lags_in_both_directions() {
    let (mut cloud, _) = cloud_with("m5.large");
    let eni = cloud.interfaces_of(&node())[0].id.clone();
    set(&mut cloud, r#"{"imds": {"lag": {"delay": {"fixed": {"ms": 5000}}}}}"#);
    let two = Wanted { count: 2, ..Wanted::default() };
    let got = cloud.assign_private_ip_addresses(Millis(10_000), &eni, &two, false).unwrap();
    assert_eq!((counts(&cloud, 14_999), counts(&cloud, 15_000)), (vec![1], vec![3]));
    cloud.unassign_private_ip_addresses(Millis(20_000), &eni, &got.addresses, &[]).unwrap();
    assert_eq!((counts(&cloud, 24_999), counts(&cloud, 25_000)), (vec![3], vec![1]));
    assert_eq!(cloud.true_view(&node()).unwrap().interfaces[0].local_ipv4s.len(), 1);
    assert_eq!(
        cloud.enis_seen(Delay::NONE).filter(|seen| seen.secondaries.is_empty()).count(),
        1,
        "Describe has no lag"
    );
}

#[test]
fn the_metadata_service_leaves_out_what_it_is_told_to() {
    let (mut cloud, _) = cloud_with("m5.large");
    let primary = cloud.interfaces_of(&node())[0].id.clone();
    let wanted = Wanted { count: 3, ..Wanted::default() };
    cloud.assign_private_ip_addresses(Millis(0), &primary, &wanted, false).unwrap();
    let eni = new_eni(&mut cloud, 0).id;
    let attach = AttachInterface { eni: eni.clone(), instance: node(), device: 1, card: None };
    cloud.attach_network_interface(Millis(0), &attach).unwrap();
    cloud.tick(Millis(1000));
    set(&mut cloud, r#"{"imds": {"omissions": [{"what": "interface"}]}}"#);
    assert_eq!(counts(&cloud, 1000), [4], "never the primary one");
    set(&mut cloud, r#"{"imds": {"omissions": [{"what": {"addresses": 2}}]}}"#);
    assert_eq!(counts(&cloud, 1000), [2, 1], "never the primary address");
    set(
        &mut cloud,
        &format!(r#"{{"imds": {{"omissions": [{{"eni": "{eni}", "what": {{"key": "subnet-id"}}}}]}}}}"#),
    );
    let view = cloud.imds_view(Millis(1000), &node()).unwrap();
    assert!(view.interfaces[0].omitted.is_empty() && view.interfaces[1].omitted.contains("subnet-id"));
    set(&mut cloud, r#"{"imds": {"omissions": [{"what": "interface", "probability": 0.5}]}}"#);
    let lengths: Vec<usize> = (2000..2100).map(|now| counts(&cloud, now).len()).collect();
    assert!(lengths.contains(&1) && lengths.contains(&2));
    set(&mut cloud, r#"{"imds": {"omissions": [{"what": "interface", "instance": "i-0123456789abcdef0"}]}}"#);
    assert_eq!(counts(&cloud, 3000).len(), 2, "of another instance");
}

#[test]
fn holders_are_found_by_address_and_by_prefix() {
    let (mut cloud, _) = cloud_with("m5.large");
    let eni = cloud.interfaces_of(&node())[0].id.clone();
    let wanted = Wanted { prefixes: vec!["10.0.1.64/28".parse().unwrap()], ..Wanted::default() };
    cloud.assign_private_ip_addresses(Millis(0), &eni, &wanted, false).unwrap();
    let holder = cloud.whose("10.0.1.70".parse().unwrap()).unwrap();
    assert_eq!(
        (holder.eni, holder.instance, holder.primary_eni, holder.plugged),
        (eni, Some(node()), true, true)
    );
    assert_eq!(cloud.whose("10.0.1.80".parse().unwrap()), None);
    assert_eq!(cloud.instance_by_source("2600::1".parse().unwrap()), None);
    let stats = cloud.stats();
    assert_eq!((stats.ipv4_held, stats.ipv4_prefixes, stats.instances), (17, 1, 1));
}
