use super::*;
use crate::cloud::testbed::{cloud, spec};
use crate::cloud::{ReservationKind, ReservationSpec, SubnetId};
use crate::wires::NoWires;

fn refused(change: impl FnOnce(&mut CloudSpec)) -> SpecError {
    let mut spec = spec();
    change(&mut spec);
    Cloud::new(&spec, Box::new(NoWires)).unwrap_err()
}

#[test]
fn contradictions_are_refused() {
    let net = |text: &str| text.parse::<Ipv4Network>().unwrap();
    assert_eq!(refused(|spec| spec.account = "12".to_owned()), SpecError::Account("12".to_owned()));
    assert_eq!(refused(|spec| spec.vpc_cidrs.clear()), SpecError::NoCidr);
    for cidr in ["10.0.1.0/29", "10.0.0.0/15", "10.0.1.7/24"] {
        assert_eq!(refused(|spec| spec.subnets[0].cidr = net(cidr)), SpecError::SubnetSize(net(cidr)));
    }
    let outside = net("10.1.1.0/24");
    assert_eq!(refused(|spec| spec.subnets[0].cidr = outside), SpecError::SubnetOutside(outside.into()));
    let (one, two) = (net("10.0.0.0/22"), net("10.0.2.0/24"));
    assert_eq!(refused(|spec| spec.subnets[0].cidr = one), SpecError::SubnetsOverlap(one, two));
    let six = "2600:1f14::/80".parse().unwrap();
    assert_eq!(refused(|spec| spec.subnets[0].ipv6_cidr = Some(six)), SpecError::SubnetSize6(six));
    let reservation = ReservationSpec { cidr: "10.0.9.0/26".parse().unwrap(), kind: ReservationKind::Prefix };
    assert_eq!(
        refused(|spec| spec.subnets[0].reservations.push(reservation)),
        SpecError::ReservationOutside(reservation.cidr)
    );
    assert!(matches!(refused(|spec| spec.vpc_id = Some("vpc-x".to_owned())), SpecError::Id(..)));
    let same = spec().subnets[0].id.clone();
    assert!(matches!(refused(|spec| spec.subnets[1].id.clone_from(&same)), SpecError::Twice(_)));
    let rule = IngressSpec { protocol: None, ports: None, from: IngressPeer::Group("nobody".to_owned()) };
    let group = GroupSpec { name: "pods".to_owned(), ingress: vec![rule], ..GroupSpec::default() };
    assert!(matches!(refused(|spec| spec.groups.push(group)), SpecError::NoGroup { .. }));
}

#[test]
fn there_is_always_a_default_group_that_trusts_itself() {
    let (cloud, _) = cloud();
    let groups: Vec<&Group> = cloud.groups().collect();
    assert_eq!((groups.len(), groups[0].name.as_str()), (1, "default"));
    assert_eq!(groups[0].ingress[0].from, IngressPeer::Group(groups[0].id.to_string()));
}

#[test]
fn the_same_seed_makes_the_same_cloud() {
    let ids = |seed| {
        let spec = CloudSpec { seed, ..spec() };
        let mut cloud = Cloud::new(&spec, Box::new(NoWires)).unwrap();
        let eni = crate::cloud::testbed::new_eni(&mut cloud, 0);
        (cloud.vpc().id.clone(), eni.id, eni.mac, eni.primary)
    };
    assert_eq!(ids(4), ids(4));
    assert_ne!(ids(4), ids(5));
}

#[test]
fn zone_ids_and_host_names_look_like_amazons() {
    assert_eq!(az_id("us-west-2", 1), "usw2-az1");
    assert_eq!(az_id("ap-northeast-1", 3), "apne1-az3");
    assert_eq!(private_dns([10, 0, 1, 5].into(), "us-west-2"), "ip-10-0-1-5.us-west-2.compute.internal");
    assert_eq!(private_dns([10, 0, 1, 5].into(), "us-east-1"), "ip-10-0-1-5.ec2.internal");
    let (cloud, _) = cloud();
    assert_eq!(cloud.zone_of(&SubnetId::from("subnet-0bbbbbbbbbbbbbbbb")), Some(("us-west-2b", "usw2-az2")));
}

#[test]
fn specs_are_read_from_json() {
    let text = r#"{"region": "eu-west-1", "vpc_cidrs": ["10.0.0.0/16"], "timings": {"attach": {"fixed": {"ms": 5}}},
        "subnets": [{"cidr": "10.0.0.0/24", "az": "eu-west-1a",
                     "reservations": [{"cidr": "10.0.0.128/25", "kind": "prefix"}]}],
        "groups": [{"name": "web", "ingress": [{"protocol": 6, "ports": [80, 80], "from": {"cidr": "0.0.0.0/0"}},
                                               {"from": {"group": "web"}}]}]}"#;
    let spec: CloudSpec = serde_json::from_str(text).unwrap();
    let cloud = Cloud::new(&spec, Box::new(NoWires)).unwrap();
    assert_eq!(cloud.groups().count(), 2);
    assert_eq!(serde_json::from_str::<CloudSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    assert!(serde_json::from_str::<CloudSpec>(r#"{"regoin": "x"}"#).is_err(), "misspelt fields are refused");
}
