use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::testbed::{SUBNET, ask, cloud, cloud_of, new_eni, spec};
use super::super::{AttachInterface, CloudSpec, InstanceSpec, Quotas, Timings};
use super::*;

fn free(cloud: &Cloud) -> usize {
    cloud.space(&SubnetId::from(SUBNET)).unwrap().free()
}

#[test]
fn a_new_interface_is_pending_then_available() {
    let (mut cloud, _) = cloud();
    let eni = new_eni(&mut cloud, 100);
    assert_eq!((eni.status(), cloud.next_event()), ("pending", Some(Millis(1100))));
    cloud.tick(Millis(1100));
    assert_eq!(cloud.interface(&eni.id).unwrap().status(), "available");
}

#[test]
fn all_that_is_asked_for_or_nothing() {
    let (mut cloud, _) = cloud();
    let before = free(&cloud);
    let v6 = Wanted6 { addresses: vec!["2600:1f15::9".parse().unwrap()], ..Wanted6::default() };
    let named = |addresses: &[[u8; 4]]| Wanted {
        addresses: addresses.iter().map(|octets| (*octets).into()).collect(),
        ..Wanted::default()
    };
    let many = Wanted { count: 30, ..Wanted::default() };
    for (request, code) in [
        (CreateInterface { wanted: many.clone(), wanted6: v6, ..ask() }, "InvalidParameterValue"),
        (
            CreateInterface { primary: Some([10, 0, 1, 2].into()), wanted: many.clone(), ..ask() },
            "InvalidParameterValue",
        ),
        (
            CreateInterface { groups: vec![GroupId::from("sg-0123456789abcdef0")], ..ask() },
            "InvalidSecurityGroupID.NotFound",
        ),
        (
            CreateInterface { wanted: Wanted { count: 64, ..Wanted::default() }, ..ask() },
            "PrivateIpAddressLimitExceeded",
        ),
        (
            CreateInterface { wanted: Wanted { prefix_count: 15, ..Wanted::default() }, ..ask() },
            "InsufficientCidrBlocks",
        ),
        (
            CreateInterface {
                primary: Some([10, 0, 1, 20].into()),
                wanted: Wanted { addresses: vec![[10, 0, 1, 20].into()], ..Wanted::default() },
                ..ask()
            },
            "InvalidIPAddress.InUse",
        ),
        (
            CreateInterface { wanted: named(&[[10, 0, 1, 50], [10, 0, 1, 255]]), ..ask() },
            "InvalidParameterValue",
        ),
        (CreateInterface::new(&SubnetId::from("subnet-0123456789abcdef0")), "InvalidSubnetID.NotFound"),
    ] {
        let refused = cloud.create_network_interface(Millis(0), &request).unwrap_err();
        assert_eq!(
            (refused.code.as_ref(), free(&cloud), cloud.interfaces().count()),
            (code, before, 0),
            "{request:?}"
        );
    }
}

#[test]
fn a_refused_address_leaves_the_others_free() {
    let (mut cloud, _) = cloud();
    let free6 = "2600:1f14::9".parse().unwrap();
    let half6 = Wanted6 { addresses: vec![free6, "2600:1f15::9".parse().unwrap()], ..Wanted6::default() };
    cloud.create_network_interface(Millis(0), &CreateInterface { wanted6: half6, ..ask() }).unwrap_err();
    let wanted6 = Wanted6 { addresses: vec![free6], ..Wanted6::default() };
    let eni = cloud.create_network_interface(Millis(0), &CreateInterface { wanted6, ..ask() }).unwrap();
    assert_eq!(cloud.whose(free6.into()).unwrap().eni, eni.id);
}

#[test]
fn explicit_addresses_come_before_ec2s_choice() {
    // With 11 addresses and 10 of them named, a choice that went first would almost always hit a named one.
    for seed in 0..20 {
        let mut spec = CloudSpec { seed, ..spec() };
        spec.subnets[0].cidr = "10.0.1.0/28".parse().unwrap();
        let (mut cloud, _) = cloud_of(&spec);
        let addresses = (5..15).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect();
        let request = CreateInterface { wanted: Wanted { addresses, ..Wanted::default() }, ..ask() };
        let eni = cloud.create_network_interface(Millis(0), &request).unwrap();
        assert_eq!(eni.primary, Ipv4Addr::new(10, 0, 1, 4));
    }
}

#[test]
fn a_client_token_stands_for_one_interface() {
    let (mut cloud, _) = cloud();
    let request = CreateInterface { client_token: Some("t".to_owned()), ..ask() };
    let one = cloud.create_network_interface(Millis(0), &request).unwrap();
    let other_caller = CreateInterface { requester: "someone else".to_owned(), ..request.clone() };
    let two = cloud.create_network_interface(Millis(5000), &other_caller).unwrap();
    assert_eq!((one.id, cloud.interfaces().count()), (two.id, 1));
    let changed = CreateInterface { description: "x".to_owned(), ..request };
    assert_eq!(
        cloud.create_network_interface(Millis(1), &changed).unwrap_err().code,
        "IdempotentParameterMismatch"
    );
}

#[test]
fn a_refused_creation_leaves_its_token_free() {
    let (mut cloud, _) = cloud();
    let token = Some("t".to_owned());
    let too_much = Wanted { prefix_count: 15, ..Wanted::default() };
    let bad = CreateInterface { client_token: token.clone(), wanted: too_much, ..ask() };
    cloud.create_network_interface(Millis(0), &bad).unwrap_err();
    cloud.create_network_interface(Millis(1), &CreateInterface { client_token: token, ..ask() }).unwrap();
}

#[test]
fn the_region_has_a_quota_of_interfaces() {
    let quotas = Quotas { network_interfaces: 2, ..Quotas::default() };
    let (mut cloud, _) = cloud_of(&CloudSpec { quotas, ..spec() });
    let first = new_eni(&mut cloud, 0).id;
    new_eni(&mut cloud, 0);
    let refused = cloud.create_network_interface(Millis(0), &ask()).unwrap_err();
    assert_eq!(refused.code, "NetworkInterfaceLimitExceeded");
    cloud.delete_network_interface(Millis(0), &first).unwrap();
    new_eni(&mut cloud, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Create { count: usize, prefixes: usize },
    Delete(usize),
    Assign { eni: usize, count: usize, prefixes: usize },
    Unassign { eni: usize, addresses: usize, prefixes: usize },
    Attach { eni: usize, node: usize, device: u32 },
    Detach(usize),
    Terminate(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = any::<usize>();
    let step = prop_oneof![
        3 => (0_usize..6, 0_usize..3).prop_map(|(count, prefixes)| Step::Create { count, prefixes }),
        1 => at.prop_map(Step::Delete),
        3 => (at, 0_usize..8, 0_usize..3).prop_map(|(eni, count, prefixes)| Step::Assign { eni, count, prefixes }),
        2 => (at, 0_usize..5, 0_usize..2)
            .prop_map(|(eni, addresses, prefixes)| Step::Unassign { eni, addresses, prefixes }),
        2 => (at, 0_usize..2, 0_u32..4).prop_map(|(eni, node, device)| Step::Attach { eni, node, device }),
        1 => at.prop_map(Step::Detach),
        1 => (0_usize..2).prop_map(Step::Terminate),
        2 => (0_u64..3000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..80)
}

fn apply(cloud: &mut Cloud, now: Millis, nodes: &[super::super::InstanceId], step: &Step) {
    let ids: Vec<EniId> = cloud.interfaces().map(|eni| eni.id.clone()).collect();
    let pick = |at: usize| ids.get(at % ids.len().max(1)).cloned().unwrap_or_else(|| EniId::from("eni-none"));
    // Whether a step is refused does not matter here: the books must be right after it.
    let outcome = match step {
        Step::Create { count, prefixes } => {
            let wanted = if *prefixes > 0 {
                Wanted { prefix_count: *prefixes, ..Wanted::default() }
            } else {
                Wanted { count: *count, ..Wanted::default() }
            };
            cloud.create_network_interface(now, &CreateInterface { wanted, ..ask() }).map(|_| ())
        }
        Step::Delete(at) => cloud.delete_network_interface(now, &pick(*at)),
        Step::Assign { eni, count, prefixes } => {
            let wanted = if *prefixes > 0 {
                Wanted { prefix_count: *prefixes, ..Wanted::default() }
            } else {
                Wanted { count: *count, ..Wanted::default() }
            };
            cloud.assign_private_ip_addresses(now, &pick(*eni), &wanted, false).map(|_| ())
        }
        Step::Unassign { eni, addresses, prefixes } => {
            let id = pick(*eni);
            let (addresses, prefixes) = cloud.interface(&id).map_or((vec![], vec![]), |eni| {
                let addresses = eni.secondaries.iter().take(*addresses).copied().collect();
                (addresses, eni.prefixes.iter().take(*prefixes).copied().collect())
            });
            cloud.unassign_private_ip_addresses(now, &id, &addresses, &prefixes)
        }
        Step::Attach { eni, node, device } => {
            let request = AttachInterface {
                eni: pick(*eni),
                instance: nodes[*node].clone(),
                device: *device,
                card: None,
            };
            cloud.attach_network_interface(now, &request).map(|_| ())
        }
        Step::Detach(at) => {
            let attachment = cloud.interface(&pick(*at)).and_then(|eni| eni.attachment.clone());
            attachment.map_or(Ok(()), |to| cloud.detach_network_interface(now, &to.id, false))
        }
        Step::Terminate(node) => cloud.terminate_instance(now, &nodes[*node]),
        Step::Wait(_) => Ok(()),
    };
    if let Err(refused) = outcome {
        assert_ne!(refused.code, "InternalError", "{step:?}: {refused}");
    }
}

proptest! {
    /// After any sequence of calls: interfaces and subnet agree on every address, and no limit is broken.
    #[test]
    fn interfaces_and_subnets_agree_after_any_calls(steps in steps(), seed: u64) {
        let (mut cloud, _) = cloud_of(&CloudSpec { seed, timings: Timings { ..spec().timings }, ..spec() });
        let mut run = |instance_type: &str| {
            let spec = InstanceSpec {
                instance_type: instance_type.to_owned(),
                subnet: SUBNET.to_owned(),
                ..InstanceSpec::default()
            };
            cloud.run_instance(Millis(0), &spec).unwrap().instance
        };
        let nodes = [run("m5.large"), run("t3.small")];
        let mut now = Millis(0);
        for step in &steps {
            if let Step::Wait(ms) = step {
                now = Millis(now.0 + ms);
                cloud.tick(now);
            }
            apply(&mut cloud, now, &nodes, step);
            let mut seen = BTreeSet::new();
            let mut held = 0;
            for eni in cloud.interfaces() {
                let all = std::iter::once(eni.primary)
                    .chain(eni.secondaries.iter().copied())
                    .chain(eni.prefixes.iter().flat_map(|prefix| prefix.iter()));
                for address in all {
                    prop_assert!(seen.insert(address), "{} has two holders", address);
                    prop_assert_eq!(&cloud.whose(address.into()).unwrap().eni, &eni.id);
                    held += 1;
                }
            }
            prop_assert_eq!(free(&cloud), 251 - held);
            for node in &nodes {
                let Some(instance) = cloud.instance(node) else { continue };
                let attached = cloud.interfaces_of(node);
                prop_assert!(attached.len() <= instance.limits.enis);
                prop_assert!(attached.iter().all(|eni| eni.ipv4_slots() <= instance.limits.ipv4_per_eni));
                let places: BTreeSet<_> =
                    attached.iter().filter_map(|eni| eni.attachment.as_ref().map(|to| (to.card, to.device))).collect();
                prop_assert_eq!(places.len(), attached.len(), "two interfaces at one place");
            }
        }
    }
}
