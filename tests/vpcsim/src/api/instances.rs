//! `DescribeInstances`.

use super::filters::{Filters, Known};
use super::interface_xml::{groups, tags, within_instance};
use super::pages::{ORDINARY, Paging};
use super::params::{Param, Params, flag, number, text, well_formed};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::{ApiError, Cloud, Eni, Instance, InstanceId, private_dns, refuse};

/// Parameters of `DescribeInstances`.
pub(super) const DESCRIBE: &[Param] = &[
    text("InstanceId.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("IncludeManagedResources"),
    flag("DryRun"),
];

const PAGING: Paging = Paging { not_with: Some("InstanceId"), ..ORDINARY };

/// An instance with its interfaces, both as this call sees them.
pub(super) struct Seen<'a> {
    instance: &'a Instance,
    enis: Vec<&'a Eni>,
}

/// Source of the names: Amazon EC2 API Reference, `DescribeInstances`.
const FILTERS: Known<Instance> = Known {
    facts: &[
        ("availability-zone", |_, it| vec![it.az.clone()]),
        ("instance-id", |_, it| vec![it.id.to_string()]),
        ("instance-state-code", |_, it| vec![it.state.code_and_name().0.to_string()]),
        ("instance-state-name", |_, it| vec![it.state.code_and_name().1.to_owned()]),
        ("instance-type", |_, it| vec![it.limits.name.to_owned()]),
        ("launch-time", |_, it| vec![it.launched.to_string()]),
        ("network-interface.attachment.instance-id", |_, it| vec![it.id.to_string()]),
        ("network-interface.network-interface-id", |cloud, it| {
            cloud.interfaces_of(&it.id).into_iter().map(|eni| eni.id.to_string()).collect()
        }),
        ("network-interface.addresses.private-ip-address", |cloud, it| {
            let enis = cloud.interfaces_of(&it.id).into_iter();
            enis.flat_map(|eni| std::iter::once(&eni.primary).chain(&eni.secondaries))
                .map(ToString::to_string)
                .collect()
        }),
        ("network-interface.subnet-id", |cloud, it| {
            cloud.interfaces_of(&it.id).into_iter().map(|eni| eni.subnet.to_string()).collect()
        }),
        ("owner-id", |cloud, _| vec![cloud.spec().account.clone()]),
        ("private-dns-name", |cloud, it| {
            primary(cloud, it).map(|eni| private_dns(eni.primary, &cloud.spec().region)).into_iter().collect()
        }),
        ("private-ip-address", |cloud, it| {
            primary(cloud, it).map(|eni| eni.primary.to_string()).into_iter().collect()
        }),
        ("subnet-id", |_, it| vec![it.subnet.to_string()]),
        ("vpc-id", |cloud, _| vec![cloud.vpc().id.to_string()]),
    ],
    tags: Some(|it| &it.tags),
};

fn primary<'a>(cloud: &'a Cloud, instance: &Instance) -> Option<&'a Eni> {
    cloud.interface(&instance.primary_eni)
}

pub(super) fn describe(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &FILTERS)?;
    let ids =
        params.list("InstanceId.N").into_iter().map(well_formed).collect::<Result<Vec<InstanceId>, _>>()?;
    let lag = cloud.describe_lag(call.now);
    let cloud = &*cloud;
    let seen: Vec<&Instance> = cloud.instances_seen(lag).collect();
    if let Some(unknown) = ids.iter().find(|id| !seen.iter().any(|instance| instance.id == **id)) {
        return Err(refuse::no_instance(unknown));
    }
    let enis: Vec<&Eni> = cloud.enis_seen(lag).collect();
    let wanted = seen.into_iter().filter(|it| ids.is_empty() || ids.contains(&it.id));
    let found = wanted.filter(|it| filters.pass(cloud, it)).map(|instance| {
        let mut own: Vec<&Eni> =
            enis.iter().copied().filter(|eni| eni.attached_to(&instance.id).is_some()).collect();
        own.sort_by_key(|eni| eni.attachment.as_ref().map(|to| (to.card, to.device)));
        (instance.id.to_string(), Seen { instance, enis: own })
    });
    let page = PAGING.page(params, &params.identity("DescribeInstances"), found.collect())?;
    Ok(page.write("reservationSet", |xml, seen| {
        // Each instance was run on its own, so each has a reservation of its own.
        xml.leaf("reservationId", seen.instance.id.as_str().replacen("i-", "r-", 1))
            .leaf("ownerId", &cloud.spec().account)
            .list("groupSet", [(); 0], |_, ()| {})
            .list("instancesSet", [&seen], |xml, seen| write(xml, cloud, seen));
    }))
}

fn write(xml: &mut Xml, cloud: &Cloud, seen: &Seen<'_>) {
    let Seen { instance, enis } = seen;
    let (code, name) = instance.state.code_and_name();
    let first = enis.iter().find(|eni| eni.is_primary());
    xml.leaf("instanceId", &instance.id)
        .leaf("imageId", "ami-00000000000000000")
        .node("instanceState", |xml| {
            xml.leaf("code", code).leaf("name", name);
        })
        .leaf("instanceType", instance.limits.name)
        .leaf("launchTime", instance.launched)
        .leaf("amiLaunchIndex", 0)
        .node("placement", |xml| {
            xml.leaf("availabilityZone", &instance.az).leaf("tenancy", "default");
        })
        .node("monitoring", |xml| {
            xml.leaf("state", "disabled");
        })
        .some("hypervisor", instance.limits.hypervisor)
        .leaf("enaSupport", true)
        .leaf("virtualizationType", "hvm");
    if let Some(eni) = first {
        xml.leaf("subnetId", &eni.subnet)
            .leaf("vpcId", &cloud.vpc().id)
            .leaf("privateIpAddress", eni.primary)
            .leaf("privateDnsName", private_dns(eni.primary, &cloud.spec().region))
            .leaf("sourceDestCheck", eni.source_dest_check);
        groups(xml, cloud, &eni.groups);
    }
    xml.list("networkInterfaceSet", enis, |xml, eni| within_instance(xml, cloud, eni));
    tags(xml, &instance.tags);
}
